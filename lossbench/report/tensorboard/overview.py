"""What spans the runs of a board: its charts, words and pictures, and pictures of what was predicted."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary as Value
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalars
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.plugins.hparams.summary_v2 import HParam, Metric, hparams_config_pb
from tensorboard.util import tensor_util

from lossbench.analysis import Summary
from lossbench.analysis.comparison import Comparison, Level, Row
from lossbench.analysis.robustness import measure_robustness
from lossbench.records import PREDICTIONS, TRIALS, Samples, load
from lossbench.report.figures.gallery import draw_gallery, render_png
from lossbench.report.figures.recorded_shapes import draw_recorded_shapes
from lossbench.report.figures.robustness import plot_robustness
from lossbench.report.tables.comparison import sort_rows, title
from lossbench.report.tables.comparison_footnotes import explain_comparison
from lossbench.report.tables.grid import NOTHING, format_difference, format_estimates, format_number
from lossbench.report.tables.markup import format_markdown
from lossbench.report.tables.sentences import settled_by, write_sentences
from lossbench.report.tensorboard import events
from lossbench.report.tensorboard.boards import Board, shown
from lossbench.report.tensorboard.events import LR, ends, group, level, spread, tag
from lossbench.seeds import hash_values
from lossbench.types import Array, Picture

if TYPE_CHECKING:  # takes 0.3 s
    from matplotlib.figure import Figure


PREDICTED = "test predictions"  # is shown between test and train
MOST_PICTURED = 30
"""Cells whose predictions are drawn: a picture takes a tenth of a second, and few are looked at."""


def select_cells(cells: Sequence[tuple[Path, Summary]], homes: Mapping[str, Path]) -> list[tuple[Path, Summary]]:
    """Return those of `cells`, each with its run's folder, whose predictions are on record and can be drawn."""
    return [(run, cell) for run, cell in cells if (homes[shown(cell)[0]] / PREDICTIONS).exists()]


def build_predictions(cell: Summary, folder: Path) -> Iterator[Event]:
    """Draw what the first seed of a cell, whose records are in `folder`, predicts on some test examples."""
    results, ended = load(folder), (folder / TRIALS).stat().st_mtime
    trial = shown(cell)[0]
    if results.samples is None or results.predictions is None:
        return
    row = results.trials[results.trials["trial"] == trial].iloc[0]
    steps = {"last": int(row["steps"]), "best": int(row["best_step"])}
    for epoch, values in _by_epoch(results.predictions, trial).items():
        name = f"{PREDICTED}, {level(cell)}/{epoch} epoch"
        yield Event(
            wall_time=ended, step=steps[epoch], summary=_predictions_of(name, results.samples, values, int(row["seed"]))
        )


def _by_epoch(predictions: pd.DataFrame, trial: str) -> dict[str, Array]:
    """Predictions at the best and the last epoch, in that order; at the last only where they are the same."""
    own = predictions[predictions["trial"] == trial]
    found = {epoch: np.stack(list(own["values"][own["epoch"] == epoch])) for epoch in sorted(own["epoch"].unique())}
    if len(found) == 2 and np.array_equal(found["best"], found["last"], equal_nan=True):
        del found["best"]
    return found


def _predictions_of(name: str, samples: Samples, predictions: Array, seed: int) -> Value:
    kind = Picture(samples.kind)
    figure = draw_gallery(kind, samples.inputs, samples.targets, predictions, samples.class_names, columns=4)
    width, height = (int(side) for side in figure.bbox.size)
    told = f"The first {len(predictions)} test examples; seed {seed}. At most {MOST_PICTURED} are drawn at once."
    return events.picture(name, render_png(figure), (width, height), told)


NAME = "(overview)"
"""Sorts before the losses."""
TRAIN = ("loss", "gradient_norm")
DPI = 100
"""Of pictures: at actual size they fit beside TensorBoard's list of runs."""
FIRST = ("loss", "weighting", "lr", "head")
Curve = tuple[str, str]
"""Split and metric."""


def digest_board(board: Board, curves: Sequence[Curve], said: Mapping[str, str]) -> str:
    """Return what stands for the content of `build_events`."""
    return hash_values([(run.name, run.settings) for run in board.runs], curves, _levels(board), said)[:12]


def build_events(board: Board, curves: Sequence[Curve], said: Mapping[str, str], ended: float) -> Iterator[Event]:
    """Yield the columns, the charts and what is said.

    curves: what there are curves of. said: Markdown by its name. ended: seconds since 1970.
    """
    yield Event(wall_time=ended, summary=_columns(board))
    yield Event(wall_time=ended, summary=_layout(board, curves))
    for name, content in said.items():
        yield Event(wall_time=ended, summary=events.text(name, content))


def digest_pictures(comparisons: Sequence[Comparison], losses: Iterable[str]) -> str:
    """Return what stands for the content of `build_pictures`."""
    values = [
        (level.corruption_rate, row.name, row.summary.values)
        for c in comparisons
        for level in c.levels
        for row in level.rows
    ]
    return hash_values(sorted(losses), values)[:12]


def build_pictures(comparisons: Sequence[Comparison], losses: Mapping[str, Path], ended: float) -> Iterator[Event]:
    """Draw what corruption does to the losses, and the losses; losses: where each, by its label, has a record."""
    for one in comparisons:
        if measure_robustness(one):
            made = plot_robustness(one)
            yield _picture(f"robustness/{one.corruption}", made, "What corruption does to each loss.", ended)
    for name, made in draw_recorded_shapes(losses):
        yield _picture(f"shapes of losses/{name}", made, "Value and gradient of the losses compared.", ended)


def format_verdict(comparison: Comparison) -> str:
    """Return what is said of a comparison, in Markdown: a sentence and a table per rate, and what the terms mean."""
    said = [
        f"- **Corruption rate {one.corruption_rate:g}:** {text}"
        for one, text in zip(comparison.levels, write_sentences(comparison), strict=True)
    ]
    parts = [f"## {title(comparison)}", "\n".join(said)]
    for one in comparison.levels:
        parts += [f"### Corruption rate {one.corruption_rate:g}", format_markdown(_rows(one))]
    return "\n\n".join([*parts, *explain_comparison(comparison)])


def _rows(one: Level) -> list[dict[str, str]]:
    """The losses at one rate, the best first."""
    rows = sort_rows(one, "metric")
    first, values = rows[0].summary, format_estimates([row.summary.last for row in rows])
    return [
        {
            "recommended": "✓" if row.recommended else "",
            "loss": row.name,
            f"test {first.metric} {'↑' if first.higher_is_better else '↓'}": value,
            "at best epoch": format_number(row.summary.best.value) if row.summary.best else NOTHING,
            f"vs {one.baseline}": format_difference(row.against, one.scale) if row.against else NOTHING,
            "verdict": _found(row, one),
            "still needed": settled_by(row, one),
        }
        for row, value in zip(rows, values, strict=True)
    ]


def _found(row: Row, one: Level) -> str:
    summary = row.summary
    lost = f"{summary.n_diverged} of {summary.n_trials} diverged" if summary.n_diverged else ""
    verdict = "baseline" if row.name == one.baseline else str(row.against.verdict) if row.against else ""
    return ", ".join(part for part in (verdict, lost) if part) or NOTHING


def _levels(board: Board) -> list[Summary]:
    """A cell of each corruption and rate, in that order."""
    cells = {(cell.corruption, cell.corruption_rate): cell for cell in board.cells}
    return [cells[key] for key in sorted(cells)]


def _columns(board: Board) -> Value:
    """The HPARAMS tab's columns: what varied, then the metric at each rate.

    No domains: TensorBoard takes one board's for all, and others would be out of them.
    """
    value: Value = hparams_config_pb([HParam(name) for name in _varied(board)], _metrics(board))
    content = value.value[0].metadata.plugin_data
    tab = HParamsPluginData.FromString(content.content)
    for column in tab.experiment.hparam_infos:
        column.differs = True  # those are shown, others only once they are ticked
    content.content = tab.SerializeToString()
    return value


def _varied(board: Board) -> list[str]:
    """The loss, and the settings that are not the same in all runs."""
    known = [run.settings for run in board.runs]
    names = list(dict.fromkeys(name for own in known for name in own))
    varied = [name for name in names if len({str(own.get(name)) for own in known}) > 1]
    return sorted({"loss", *varied}, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))


def _metrics(board: Board) -> list[Metric]:
    """By kind, and within a kind by rate: the first five are shown until more are ticked."""
    levels = _levels(board)
    n_kinds = len({cell.corruption for cell in levels})
    named = [ends(cell, _told(cell, n_kinds)).items() for cell in levels]
    several = any(len({cell.settings.get("lr") for cell in run.cells}) > 1 for run in board.runs)
    by_kind = [pair for kind in zip(*named, strict=True) for pair in kind]
    return [Metric(name, display_name=text) for name, text in by_kind if several or not text.startswith(LR)]


def _told(cell: Summary, n_kinds: int) -> str:
    return f"{cell.corruption_rate:g}" if n_kinds == 1 else f"{cell.corruption_rate:g} {cell.corruption}"


def _layout(board: Board, curves: Sequence[Curve]) -> Value:
    """The CUSTOM SCALARS tab: all losses in one chart per metric and rate, and again with the spread over seeds."""
    primary = str(board.settings["metric"])
    names = sorted(curves, key=lambda curve: (group(curve[0], curve[1], primary), curve))
    categories = [c for split, metric in names for c in _categories(board, split, metric)]
    for category in categories[1:]:
        category.closed = True  # each open chart asks for the curves of all runs
    content = layout_pb2.Layout(category=categories).SerializeToString()
    value = Value.Value(
        tag=custom_scalars.CONFIG_SUMMARY_TAG,
        metadata=custom_scalars.create_summary_metadata(),
        tensor=tensor_util.make_tensor_proto(content),
    )
    return Value(value=[value])


def _categories(board: Board, split: str, metric: str) -> Iterator[layout_pb2.Category]:
    name, levels = group(split, metric, str(board.settings["metric"])), _levels(board)
    charts = [(level(cell), tag(split, metric, cell)) for cell in levels]
    yield layout_pb2.Category(title=name, chart=[_lines(*chart) for chart in charts])
    if split == "test" and any(len(shown(cell)) > 1 for cell in board.cells):
        bands = [_band(*chart) for chart in reversed(charts)]  # TensorBoard shows the last one first
        yield layout_pb2.Category(title=f"{name}, mean and spread over seeds", chart=bands)


def _lines(title: str, tag: str) -> layout_pb2.Chart:
    content = layout_pb2.MultilineChartContent(tag=[f"^{re.escape(tag)}$"])
    return layout_pb2.Chart(title=title, multiline=content)


def _band(title: str, tag: str) -> layout_pb2.Chart:
    lower, upper = spread(tag)
    series = layout_pb2.MarginChartContent.Series(value=tag, lower=lower, upper=upper)
    return layout_pb2.Chart(title=title, margin=layout_pb2.MarginChartContent(series=[series]))


def _picture(name: str, figure: "Figure", told: str, ended: float) -> Event:
    figure.set_dpi(DPI)
    width, height = (round(side) for side in figure.bbox.size)
    return Event(wall_time=ended, summary=events.picture(name, render_png(figure), (width, height), told))
