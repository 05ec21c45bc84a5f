"""The output of commands: tables and JSON to standard output, messages to standard error."""

import json
import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from lossbench.errors import Incompatible, InvalidValue, group_skipped
from lossbench.report.json_values import replace_nonfinite

if TYPE_CHECKING:  # they import torch, which comparing records needs not; and rich, which help needs not
    from rich.console import Console

    from lossbench.study import Comparison, Results


class OutputMode(StrEnum):
    """The content of standard output; messages and errors go to standard error."""

    TABLE = "table"
    QUIET = "--quiet"  # nothing, and no progress or messages either; only errors are printed
    JSON = "--json"  # exactly one JSON document


def take_mode(arguments: Sequence[str]) -> tuple[OutputMode, list[str]]:
    """Return the mode, and the other arguments."""
    modes = [mode for mode in (OutputMode.QUIET, OutputMode.JSON) if mode in arguments]
    if len(modes) > 1:
        raise InvalidValue("--quiet and --json do not go together: one prints nothing, the other one document.")
    return (modes or [OutputMode.TABLE])[0], [argument for argument in arguments if argument not in modes]


NAMED_FOLDERS = 3
"""The most folders that are named; of more, only the one that holds them all is."""


def results_console() -> "Console":
    """Return the console for tables: standard output."""
    from rich.console import Console

    return Console(width=_width(sys.stdout.isatty()), highlight=False)


def messages_console() -> "Console":
    """Return the console for progress and messages: standard error."""
    from rich.console import Console

    return Console(stderr=True, width=_width(sys.stderr.isatty()), highlight=False)


def _width(terminal: bool) -> int | None:
    from lossbench.report.tables.text import WIDTH

    return None if terminal or "COLUMNS" in os.environ else WIDTH


def print_message(text: str) -> None:
    """Print one line for people."""
    messages_console().print(text, soft_wrap=True, markup=False)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines to standard error, as they are."""
    for line in lines:
        print(line, file=sys.stderr)


def print_document(document: Any) -> None:
    """Print a JSON document."""
    print(json.dumps(replace_nonfinite(document), indent=1, ensure_ascii=False, allow_nan=False))


def print_results(results: "Results", comparison: "Comparison | None" = None) -> None:
    """Print the comparison, or else the table; where the records are, and how to see their curves.

    Nothing if none was trained.
    """
    if not results.is_trained:
        return
    from lossbench.report.tables import comparison as comparison_tables
    from lossbench.report.tables import summaries

    out = results_console()
    out.print(
        comparison_tables.render_comparisons(comparison.parts)
        if comparison
        else summaries.render_summaries(results.summaries)
    )
    # where the records are, and how to see their curves
    from lossbench.report.tensorboard import writer

    folders = results.folders
    if len(folders) > NAMED_FOLDERS:
        lines = [f"Records: {writer.find_common_parent(folders)} ({len(folders)} folders)"]
    else:
        lines = [f"Records: {folder}" for folder in folders]
    if board := writer.find_board(folders):
        lines.append(f"Curves:  tensorboard --logdir {shlex.quote(str(board))}")
    for line in lines:
        out.print(line, soft_wrap=True, markup=False)


def print_results_json(
    results: "Results | None",
    skipped: Sequence[Incompatible],
    failed: Mapping[str, str],
    comparison: "Comparison | None" = None,
) -> None:
    """Print one JSON document: a summary per row of the table, folders, and what was skipped or failed as a job."""
    from lossbench.report.tables.rows import convert_summary

    document = {
        "summaries": [convert_summary(summary) for summary in results.summaries] if results else [],
        **({"comparisons": comparison.to_dict()} if comparison else {}),
        "records": [str(folder) for folder in results.folders] if results else [],
        "skipped": [{"reason": why, "what": what} for why, what in group_skipped(skipped).items()],
        "failed": [{"job": job, "reason": reason} for job, reason in failed.items()],
    }
    print_document(document)
