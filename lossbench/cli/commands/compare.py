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
    f"{'|'.join(comparison.SORTS)}] [--rope PERCENT|POINTS] [--confidence SHARE] "
    "[--format table|csv|json|latex|markdown] [--tensorboard]"
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")
OPTIONS = ("--baseline", "--metric", "--where", "--sort", "--rope", "--confidence", "--format", "--tensorboard")


def run_compare(arguments: Sequence[str], mode: OutputMode) -> int:
    """Compare the losses of one or more studies, from their records alone."""
    # 1. read and compare
    options = _parse_options(arguments)
    records = study.read_study(
        [Path(folder) for folder in options.folders], _parse_filters(options.where), options.metric
    )
    comparisons = compare(records, ComparisonOptions(options.baseline, options.rope, options.confidence))
    # 2. print
    if mode is not OutputMode.QUIET:
        FORMATS["json" if mode is OutputMode.JSON else options.format](comparisons, options.sort)
    # 3. write TensorBoard's files, with pictures, and say where they are
    if options.tensorboard:
        from lossbench.report.tensorboard import writer  # takes half a second, and pictures of losses want torch

        tree = writer.choose_tree(records, Path(options.folders[0]))
        written = writer.write(tree, records, comparisons, predictions=True, pictures=True)
        if mode is not OutputMode.QUIET and written.boards:
            folder = os.path.commonpath(written.boards)
            print_message(f"Curves:  tensorboard --logdir {shlex.quote(folder)}")
    # 4. folders that are damaged
    for line in records.problems:
        print_message(line)
    return int(bool(records.problems))


def _print_csv(comparisons: Sequence[Comparison], sort: str) -> None:
    lines = rows.flatten(comparisons, sort)
    columns = list(dict.fromkeys(name for line in lines for name in line))
    table = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    table.writeheader()
    for line in lines:
        # spreadsheets run a text that begins like a formula
        table.writerow({n: f"'{v}" if isinstance(v, str) and v.startswith(FORMULA) else v for n, v in line.items()})


FORMATS: dict[str, Callable[[Sequence[Comparison], str], None]] = {
    "table": lambda results, sort: results_console().print(comparison.render_comparisons(results, sort)),
    "json": lambda results, sort: print_document(
        {"comparisons": rows.convert_comparisons(results, sort), "across": rankings.convert_rankings(results)}
    ),
    "csv": _print_csv,
    "latex": lambda results, sort: print(markup.format_latex(rows.select_main_columns(results, sort))),
    "markdown": lambda results, sort: print(markup.format_markdown(rows.select_main_columns(results, sort))),
}


def _parse_options(arguments: Sequence[str]) -> Namespace:
    """Return the folders and options, each within its range. Raises LossbenchError."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.error = _raise_usage  # type: ignore[method-assign]  # argparse would print its usage and exit
    parser.add_argument("folders", nargs="*")
    for option in ("--baseline", "--metric"):
        parser.add_argument(option, default="")
    parser.add_argument("--where", action="append", default=[])
    parser.add_argument("--sort", default="metric")
    parser.add_argument("--rope", type=float)
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--format", default="table")
    parser.add_argument("--tensorboard", action="store_true")
    options, unknown = parser.parse_known_intermixed_args(list(arguments))
    if unknown:
        raise make_unknown("option", unknown[0].partition("=")[0], OPTIONS, "Options")
    if not options.folders:
        raise InvalidValue(f"Write {USAGE}.")
    if options.sort not in comparison.SORTS:
        raise make_unknown("order", options.sort, comparison.SORTS, "--sort takes")
    if options.format not in FORMATS:
        raise make_unknown("format", options.format, FORMATS, "--format takes")
    if not 0.5 <= options.confidence < 1:
        raise InvalidValue(f"The --confidence must be a share from 0.5 to below 1. Got {options.confidence:g} instead.")
    if options.rope is not None and not 0 < options.rope < 100:
        raise InvalidValue(
            "The --rope must be in (0, 100): percent of an error, or points of accuracy and the like. "
            f"Got {options.rope:g} instead."
        )
    return options


def _parse_filters(texts: Sequence[str]) -> dict[str, list[str]]:
    """Return `corruption_rate=0,0.4` as a setting and the values that a trial may have."""
    filters = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not (key and sign and value):
            raise InvalidValue(
                f"--where takes a setting and its value, as corruption_rate=0.4 or loss=mse,mae. Got {text!r}."
            )
        filters[key] = value.split(",")
    return filters


def _raise_usage(message: str) -> NoReturn:
    raise InvalidValue(f"{message[:1].upper()}{message[1:]}. Write {USAGE}.")
