"""Where results and messages go."""

import os
import sys

from rich.console import Console

WIDTH = 100
"""Columns where there is no terminal to ask."""


def results() -> Console:
    """Standard output: tables, and where the records are."""
    return Console(width=_width(sys.stdout.isatty()), highlight=False)


def messages() -> Console:
    """Standard error: progress, and what is said about the work."""
    return Console(stderr=True, width=_width(sys.stderr.isatty()), highlight=False)


def _width(terminal: bool) -> int | None:
    return None if terminal or "COLUMNS" in os.environ else WIDTH
