"""The overview of a board, which spans its runs: charts, words and pictures; and pictures of predictions."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary as Value
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalars
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.plugins.hparams.summary_v2 import HParam, Metric, hparams_config_pb
from tensorboard.util import tensor_util

from lossbench.analysis import Summary
from lossbench.analysis.comparison import Comparison, RateComparison
from lossbench.analysis.robustness import measure_robustness
from lossbench.records import PREDICTIONS, TRIALS, load
from lossbench.report.figures.gallery import draw_gallery, render_png
from lossbench.report.figures.recorded_shapes import draw_recorded_shapes
from lossbench.report.figures.robustness import plot_robustness
from lossbench.report.tables.comparison import compose_heading, sort_rows
from lossbench.report.tables.comparison_footnotes import explain_comparison
from lossbench.report.tables.grid import NOTHING, format_difference, format_estimates, format_number
from lossbench.report.tables.markup import format_markdown
from lossbench.report.tables.sentences import describe_still_needed, write_sentences
from lossbench.report.tensorboard import events
from lossbench.report.tensorboard.boards import Board, select_trials
from lossbench.report.tensorboard.events import (
    LEARNING_RATE,
    format_end_tags,
    format_group,
    format_level,
    format_spread_tags,
    format_tag,
)
from lossbench.seeds import hash_values
from lossbench.types import Choice, Picture

PREDICTED = "test predictions"  # is shown between test and train
MOST_PICTURED = 30
"""Cells whose predictions are drawn: a picture takes a tenth of a second, and few are looked at."""


def select_cells(cells: Sequence[tuple[Path, Summary]], homes: Mapping[str, Path]) -> list[tuple[Path, Summary]]:
    """Return those of `cells`, each with its run's folder, whose predictions are on record and can be drawn."""
    return [(run, cell) for run, cell in cells if (homes[select_trials(cell)[0]] / PREDICTIONS).exists()]


def build_predictions(cell: Summary, folder: Path) -> Iterator[Event]:
    """Draw the predictions of a cell's first seed, whose records are in `folder`, on some test examples.

    One picture for the best and one for the last epoch; of equal ones only the last.
    """
    results, ended = load(folder), (folder / TRIALS).stat().st_mtime
    trial, samples = select_trials(cell)[0], results.samples
    if samples is None or results.predictions is None:
        return
    row = results.trials[results.trials["trial"] == trial].iloc[0]
    steps = {"last": int(row["steps"]), "best": int(row["best_step"])}
    # 1. the predictions by epoch, "best" before "last"
    table = results.predictions[results.predictions["trial"] == trial]
    epochs = sorted(table["epoch"].unique())
    predictions = {epoch: np.stack(list(table["values"][table["epoch"] == epoch])) for epoch in epochs}
    if len(predictions) == 2 and np.array_equal(predictions["best"], predictions["last"], equal_nan=True):
        del predictions["best"]
    # 2. a picture of each
    for epoch, values in predictions.items():
        figure = draw_gallery(
            Picture(samples.kind), samples.inputs, samples.targets, values, samples.class_names, columns=4
        )
        width, height = (int(side) for side in figure.bbox.size)
        description = (
            f"The first {len(values)} test examples; seed {int(row['seed'])}. "
            f"At most {MOST_PICTURED} are drawn at once."
        )
        tag = f"{PREDICTED}, {format_level(cell)}/{epoch} epoch"
        picture = events.make_picture(tag, render_png(figure), (width, height), description)
        yield Event(wall_time=ended, step=steps[epoch], summary=picture)


NAME = "(overview)"  # sorts before the losses
TRAIN = ("loss", "gradient_norm")
DPI = 100  # of pictures: at actual size they fit beside TensorBoard's list of runs
FIRST = ("loss", "weighting", "lr", "head")
Curve = tuple[str, str]
"""Split and metric."""


def digest_board(board: Board, curves: Sequence[Curve], verdicts: Mapping[str, str]) -> str:
    """Return a digest of the content of `build_overview`."""
    return hash_values([(run.name, run.settings) for run in board.runs], curves, _list_levels(board), verdicts)[:12]


def build_overview(board: Board, curves: Sequence[Curve], verdicts: Mapping[str, str], ended: float) -> Iterator[Event]:
    """Yield the columns of the HPARAMS tab, the charts, and the verdicts.

    curves: those that runs have. verdicts: Markdown by its tag. ended: seconds since 1970.
    """
    yield Event(wall_time=ended, summary=_build_columns(board))
    yield Event(wall_time=ended, summary=_build_charts(board, curves))
    for tag, markdown in verdicts.items():
        yield Event(wall_time=ended, summary=events.make_text(tag, markdown))


def digest_pictures(comparisons: Sequence[Comparison], losses: Iterable[str]) -> str:
    """Return a digest of the content of `build_pictures`."""
    values = [
        (level.corruption_rate, row.name, row.summary.values)
        for c in comparisons
        for level in c.levels
        for row in level.rows
    ]
    return hash_values(sorted(losses), values)[:12]


def build_pictures(
    comparisons: Sequence[Comparison], losses: Mapping[str, Path], trusted: Mapping[str, Choice], ended: float
) -> Iterator[Event]:
    """Draw the losses' robustness and their shapes.

    losses: where each, by its label, has a record. trusted: those that may be built though they are not built in.
    """
    robustness = (
        (f"robustness/{comparison.corruption}", plot_robustness(comparison), "Each loss over the corruption rates.")
        for comparison in comparisons
        if measure_robustness(comparison)
    )
    shapes = (
        (f"shapes of losses/{name}", figure, "Value and gradient of the losses compared.")
        for name, figure in draw_recorded_shapes(losses, trusted)
    )
    for tag, figure, description in chain(robustness, shapes):
        figure.set_dpi(DPI)
        width, height = (round(side) for side in figure.bbox.size)
        picture = events.make_picture(tag, render_png(figure), (width, height), description)
        yield Event(wall_time=ended, summary=picture)


def format_verdict(comparison: Comparison) -> str:
    """Return a comparison's verdict in Markdown: a sentence and a table per corruption rate, and footnotes."""
    sentences = [
        f"- **Corruption rate {level.corruption_rate:g}:** {sentence}"
        for level, sentence in zip(comparison.levels, write_sentences(comparison), strict=True)
    ]
    parts = [f"## {compose_heading(comparison)}", "\n".join(sentences)]
    for level in comparison.levels:
        parts += [f"### Corruption rate {level.corruption_rate:g}", format_markdown(_list_losses(level))]
    return "\n\n".join([*parts, *explain_comparison(comparison)])


def _list_losses(level: RateComparison) -> list[dict[str, str]]:
    """Return a line of a table for each loss, the best first."""
    rows = sort_rows(level, "metric")
    first, values = rows[0].summary, format_estimates([row.summary.last for row in rows])
    lines = []
    for row, value in zip(rows, values, strict=True):
        summary, difference = row.summary, row.vs_baseline
        verdict = "baseline" if row.name == level.baseline else str(difference.verdict) if difference else ""
        diverged = f"{summary.n_diverged} of {summary.n_trials} diverged" if summary.n_diverged else ""
        lines.append(
            {
                "recommended": "✓" if row.recommended else "",
                "loss": row.name,
                f"test {first.metric} {'↑' if first.higher_is_better else '↓'}": value,
                "at best epoch": format_number(summary.best.value) if summary.best else NOTHING,
                f"vs {level.baseline}": format_difference(difference, level.scale) if difference else NOTHING,
                "verdict": ", ".join(filter(None, (verdict, diverged))) or NOTHING,
                "still needed": describe_still_needed(row, level),
            }
        )
    return lines


def _list_levels(board: Board) -> list[Summary]:
    """Return a cell of each corruption and corruption rate, in that order."""
    cells = {(cell.corruption, cell.corruption_rate): cell for cell in board.cells}
    return [cells[key] for key in sorted(cells)]


def _build_columns(board: Board) -> Value:
    """Return the HPARAMS tab's columns: the settings that vary, then the metric at each corruption rate.

    Domains of values are left out: TensorBoard takes one board's for all, and values of others would be outside.
    """
    # 1. the loss, and the settings that are not the same in all runs
    settings = [run.settings for run in board.runs]
    names = dict.fromkeys(name for known in settings for name in known)
    varied = {"loss", *(name for name in names if len({str(known.get(name)) for known in settings}) > 1)}
    ordered = sorted(varied, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))

    # 2. numbers by kind, then by corruption rate: the first five are shown until more are ticked
    levels = _list_levels(board)
    several_corruptions = len({cell.corruption for cell in levels}) > 1
    headings = []
    for cell in levels:
        rate = f"{cell.corruption_rate:g}"
        headings.append(format_end_tags(cell, f"{rate} {cell.corruption}" if several_corruptions else rate).items())
    # learning rates are settings unless a run has several
    several_learning_rates = any(len({cell.settings.get("lr") for cell in run.cells}) > 1 for run in board.runs)
    metrics = [
        Metric(tag, display_name=heading)
        for kind in zip(*headings, strict=True)
        for tag, heading in kind
        if several_learning_rates or not heading.startswith(LEARNING_RATE)
    ]

    # 3. both as TensorBoard writes them, all settings shown, where it would show others only once they are ticked
    value: Value = hparams_config_pb([HParam(name) for name in ordered], metrics)
    content = value.value[0].metadata.plugin_data
    tab = HParamsPluginData.FromString(content.content)
    for column in tab.experiment.hparam_infos:
        column.differs = True
    content.content = tab.SerializeToString()
    return value


def _build_charts(board: Board, curves: Sequence[Curve]) -> Value:
    """Return the CUSTOM SCALARS tab: all losses in one chart per metric and corruption rate.

    Test metrics come again with the spread over seeds, where there are several.
    """
    primary = str(board.settings["metric"])
    levels = _list_levels(board)
    has_spread = any(len(select_trials(cell)) > 1 for cell in board.cells)
    categories = []
    for split, metric in sorted(curves, key=lambda curve: (format_group(curve[0], curve[1], primary), curve)):
        name = format_group(split, metric, primary)
        lines, bands = [], []
        for cell in levels:
            title, tag = format_level(cell), format_tag(split, metric, cell)
            line = layout_pb2.MultilineChartContent(tag=[f"^{re.escape(tag)}$"])
            lines.append(layout_pb2.Chart(title=title, multiline=line))
            lower, upper = format_spread_tags(tag)
            series = layout_pb2.MarginChartContent.Series(value=tag, lower=lower, upper=upper)
            bands.append(layout_pb2.Chart(title=title, margin=layout_pb2.MarginChartContent(series=[series])))
        categories.append(layout_pb2.Category(title=name, chart=lines))
        if split == "test" and has_spread:
            bands.reverse()  # TensorBoard shows the last one first
            categories.append(layout_pb2.Category(title=f"{name}, mean and spread over seeds", chart=bands))
    for category in categories[1:]:
        category.closed = True  # each open chart asks for the curves of all runs
    content = layout_pb2.Layout(category=categories).SerializeToString()
    value = Value.Value(
        tag=custom_scalars.CONFIG_SUMMARY_TAG,
        metadata=custom_scalars.create_summary_metadata(),
        tensor=tensor_util.make_tensor_proto(content),
    )
    return Value(value=[value])
