"""`python -m lossbench`."""

import sys

from lossbench.cli import main

if __name__ == "__main__":  # worker processes import this module, and are not to run it
    sys.exit(main())
