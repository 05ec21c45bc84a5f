"""The command line: commands, Hydra, output. A thin user of `lossbench.study`."""

from lossbench.cli.main import main

__all__ = ["main"]
