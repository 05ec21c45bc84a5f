"""`lossbench compare results`, `compare one two --baseline huber --where corruption_rate=0.4 --format csv`."""

import csv
import os
import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from lossbench.analysis import study
from lossbench.analysis.comparison import Comparison, ComparisonOptions, compare
from lossbench.cli.output import OutputMode, print_document, print_message, results_console
from lossbench.errors import InvalidValue, make_unknown
from lossbench.report.tables import comparison, markup, rankings, rows

USAGE = (
    "lossbench compare STUDY ... [--baseline LOSS] [--metric METRIC] [--where KEY=VALUE ...] [--sort "
    f"{'|'.join(comparison.SORTS)}] [--rope SIZE] [--confidence SHARE] [--format table|csv|json|latex|markdown] "
    "[--tensorboard]"
)
OPTIONS = ("--baseline", "--metric", "--where", "--sort", "--rope", "--confidence", "--format", "--tensorboard")


def run_compare(arguments: Sequence[str], mode: OutputMode) -> int:
    """Compare the losses of one or more studies, from their records alone."""
    asked = _asked(arguments)
    found = study.read([Path(folder) for folder in asked.folders], _where(asked.where), asked.metric)
    comparisons = compare(found, ComparisonOptions(asked.baseline, asked.rope, asked.confidence))
    shape = "json" if mode is OutputMode.JSON else asked.format
    if mode is not OutputMode.QUIET:
        FORMATS[shape](comparisons, asked.sort)
    if asked.tensorboard:
        _show(found, comparisons, Path(asked.folders[0]), mode)
    return 0


def _show(found: study.Study, comparisons: Sequence[Comparison], root: Path, mode: OutputMode) -> None:
    """Write TensorBoard's files, with pictures, and say where they are."""
    from lossbench.report.tensorboard import writer  # takes half a second, and pictures of losses want torch

    written = writer.write(writer.choose_tree(found, root), found, comparisons, predictions=True, pictures=True)
    if mode is not OutputMode.QUIET and written.boards:
        told = f"Curves:  tensorboard --logdir {shlex.quote(os.path.commonpath(written.boards))}"
        print_message(told)


def _print_table(comparisons: Sequence[Comparison], sort: str) -> None:
    results_console().print(comparison.render_comparisons(comparisons, sort))


def _print_json(comparisons: Sequence[Comparison], sort: str) -> None:
    document = {
        "comparisons": rows.convert_comparisons(comparisons, sort),
        "across": rankings.convert_rankings(comparisons),
    }
    print_document(document)


def _print_csv(comparisons: Sequence[Comparison], sort: str) -> None:
    flat = rows.flatten(comparisons, sort)
    table = csv.DictWriter(sys.stdout, list(dict.fromkeys(name for row in flat for name in row)), lineterminator="\n")
    table.writeheader()
    table.writerows(flat)


def _print_latex(comparisons: Sequence[Comparison], sort: str) -> None:
    print(markup.format_latex(rows.shorten(comparisons, sort)))


def _print_markdown(comparisons: Sequence[Comparison], sort: str) -> None:
    print(markup.format_markdown(rows.shorten(comparisons, sort)))


FORMATS: dict[str, Callable[[Sequence[Comparison], str], None]] = {
    "table": _print_table,
    "json": _print_json,
    "csv": _print_csv,
    "latex": _print_latex,
    "markdown": _print_markdown,
}


def _asked(arguments: Sequence[str]) -> Namespace:
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.error = _refuse  # type: ignore[method-assign]  # argparse would print its usage and exit
    parser.add_argument("folders", nargs="*")
    for option in ("--baseline", "--metric"):
        parser.add_argument(option, default="")
    parser.add_argument("--where", action="append", default=[])
    parser.add_argument("--sort", default="metric")
    parser.add_argument("--rope", type=float)
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--format", default="table")
    parser.add_argument("--tensorboard", action="store_true")
    asked, strange = parser.parse_known_intermixed_args(list(arguments))
    if strange:
        raise make_unknown("option", strange[0].partition("=")[0], OPTIONS, "Options")
    _check(asked)
    return asked


def _check(asked: Namespace) -> None:
    if not asked.folders:
        raise InvalidValue(f"Write {USAGE}.")
    if asked.sort not in comparison.SORTS:
        raise make_unknown("order", asked.sort, comparison.SORTS, "--sort takes")
    if asked.format not in FORMATS:
        raise make_unknown("format", asked.format, FORMATS, "--format takes")
    if not 0.5 <= asked.confidence < 1:
        raise InvalidValue(f"The --confidence must be a share from 0.5 to below 1. Got {asked.confidence:g} instead.")
    if asked.rope is not None and not 0 < asked.rope < 100:
        raise InvalidValue(
            "The --rope must be in (0, 100): percent of an error, or points of accuracy and the like. "
            f"Got {asked.rope:g} instead."
        )


def _where(given: Sequence[str]) -> dict[str, list[str]]:
    """`corruption_rate=0,0.4` as a setting and the values that are asked for."""
    pairs = [text.partition("=") for text in given]
    for text, (key, sign, value) in zip(given, pairs, strict=True):
        if not (key and sign and value):
            raise InvalidValue(
                f"--where takes a setting and its value, as corruption_rate=0.4 or loss=mse,mae. Got {text!r}."
            )
    return {key: value.split(",") for key, _, value in pairs}


def _refuse(message: str) -> NoReturn:
    raise InvalidValue(f"{message[:1].upper()}{message[1:]}. Write {USAGE}.")
