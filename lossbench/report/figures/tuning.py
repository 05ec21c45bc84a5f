"""How each loss was tuned: the validation metric over the learning rate, and the one that was chosen."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lossbench.analysis.comparison import Comparison, Level, Row
from lossbench.analysis.summary import Summary
from lossbench.analysis.tuning import get_learning_rate
from lossbench.errors import InvalidValue
from lossbench.report.figures.style import (
    GREY,
    Style,
    add_caption,
    add_legend,
    compose_title,
    create_key,
    create_panels,
    describe_direction,
    draw_lines,
    fit_scale,
    label_left,
    style_losses,
)
from lossbench.report.tables.sentences import join_names
from lossbench.types import Array

if TYPE_CHECKING:  # takes 0.3 s
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D


def plot_tuning(comparison: Comparison) -> "Figure":
    """Draw the mean validation metric at the last epoch over the learning rate, for each loss, chosen ones marked.

    One panel per corruption rate at which settings were chosen.

    Raises InvalidValue where nothing was tuned.
    """
    chosen_at = {_tuned_at(level): level for level in reversed(comparison.levels)}
    levels = {rate: chosen_at[rate] for rate in sorted(chosen_at)}
    if not any(len(row.tuned.tried) > 1 for level in levels.values() for row in level.rows):
        raise InvalidValue("Each loss was trained at one learning rate only; use protocol=tuned to try several.")
    first, styles = comparison.first, style_losses(comparison)
    titles = [f"tuned at corruption rate {rate:g}" if len(comparison.levels) > 1 or rate else "" for rate in levels]
    figure, panels = create_panels(titles, compose_title("Tuning of the learning rate", first))
    equal = False
    for axes, level in zip(panels, levels.values(), strict=True):
        equal |= _draw_level(axes, level, styles)
        axes.set_xlabel("learning rate", fontsize=9)
    label_left(panels, f"validation {first.metric} ({describe_direction(first.higher_is_better)})")
    names = dict.fromkeys(row.name for level in levels.values() for row in level.rows)
    add_legend(figure, [*(create_key(name, styles[name]) for name in names if styles[name].is_strong), _chosen_key()])
    gaps = ["Of equal lines one has gaps."] if equal else []
    add_caption(figure, [*_explain(comparison, levels.values()), *gaps])
    return figure


def _tuned_at(level: Level) -> float:
    """The corruption rate of the trials by which settings were chosen: that of the level, or rate 0 for all."""
    return 0.0 if any(row.tuned.clean for row in level.rows) else level.corruption_rate


def best_by_rate(candidates: Sequence[Summary]) -> tuple[Array, Array]:
    """Return the learning rates, rising, and the best validation metric at each; NaN where no trial was finished."""
    pick = np.nanmax if candidates[0].higher_is_better else np.nanmin
    rates = np.unique([get_learning_rate(one) for one in candidates])
    known = {rate: [one.validation for one in candidates if get_learning_rate(one) == rate] for rate in rates}
    return rates, np.array([pick(values) if np.isfinite(values).any() else np.nan for values in known.values()])


def _draw_level(axes: "Axes", level: Level, styles: Mapping[str, Style]) -> bool:
    """Draw the losses; return whether some have equal lines."""
    axes.set_xscale("log")
    best = {row.name: best_by_rate(row.tuned.candidates) for row in level.rows}
    equal = draw_lines(axes, best, styles)
    for row in level.rows:
        style, (rates, values) = styles[row.name], best[row.name]
        mark: dict[str, Any] = {"color": style.colour, "linestyle": "", "marker": style.marker, "markersize": 3.5}
        axes.plot(rates, values, **mark)
        settings = [(get_learning_rate(one), one.validation) for one in row.tuned.candidates]
        if len(settings) > len(rates):  # fields are tuned, too
            axes.plot(*zip(*settings, strict=True), alpha=0.4, **mark)
        if chosen := _chosen(row):
            rate, value = get_learning_rate(chosen), chosen.validation
            axes.plot(rate, value, marker="o", markersize=9, color=style.colour, fillstyle="none", zorder=4)
    fit_scale(axes, np.concatenate([values for _, values in best.values()]), level.rows[0].summary.higher_is_better)
    return equal


def _chosen(row: Row) -> Summary | None:
    """The candidate at whose setting the loss is reported."""
    own = row.tuned.summary
    alike = [c for c in row.tuned.candidates if (get_learning_rate(c), c.loss) == (get_learning_rate(own), own.loss)]
    return next(iter(alike), None)


def _chosen_key() -> "Line2D":
    from matplotlib.lines import Line2D

    return Line2D([], [], color=GREY, linestyle="", marker="o", markersize=9, fillstyle="none", label="chosen")


def _explain(comparison: Comparison, levels: Iterable[Level]) -> Iterator[str]:
    rows = [row for level in levels for row in level.rows]
    counts = sorted({row.tuned.n_seeds for row in rows})
    if counts[0]:
        yield f"Mean at the last epoch over {_span(counts)} seeds that are for tuning alone."
    else:
        yield "Mean at the last epoch over the seeds that are reported: nothing was kept apart for tuning."
    if any(row.tuned.clean for level in comparison.levels for row in level.rows):
        yield "What was chosen at rate 0 holds for all rates."
    if any(row.tuned.fields for row in rows):
        yield "Fields were tuned, too: the line joins the best at each learning rate, pale marks are all settings."
    lost = {row.name: [c for c in row.tuned.candidates if not np.isfinite(c.validation)] for row in rows}
    told = [f"{name} ({len(found)})" for name, found in lost.items() if found]
    if told:
        yield f"Settings without a finished trial are left out: {join_names(told)}."


def _span(counts: Sequence[int]) -> str:
    return " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
