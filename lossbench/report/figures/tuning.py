"""The tuning of each loss: the validation metric over the learning rate, and the learning rate that was selected."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lossbench.analysis.comparison import Comparison, RateComparison
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
    format_range,
    label_left_panels,
    style_losses,
)
from lossbench.report.tables.sentences import join_names
from lossbench.types import Array

if TYPE_CHECKING:  # takes 0.3 s
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RING: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 9, "fillstyle": "none"}
"""The mark of the setting that was selected."""


def plot_tuning(comparison: Comparison) -> "Figure":
    """Draw the mean validation metric at the last epoch over the learning rate, and mark the one selected per loss.

    One panel per corruption rate at which settings were selected.

    Raises InvalidValue where nothing was tuned.
    """
    from matplotlib.lines import Line2D

    # 1. the corruption rates at which settings were selected: each level's own, or 0 for all levels
    level_by_rate: dict[float, RateComparison] = {}
    for level in comparison.levels:
        tuned_at = 0.0 if any(row.tuned.only_at_rate_zero for row in level.rows) else level.corruption_rate
        level_by_rate.setdefault(tuned_at, level)
    levels = {rate: level_by_rate[rate] for rate in sorted(level_by_rate)}
    if not any(len(row.tuned.learning_rates) > 1 for level in levels.values() for row in level.rows):
        raise InvalidValue("Each loss was trained at one learning rate only; use protocol=tuned to try several.")

    # 2. a panel for each of them
    first, styles = comparison.first, style_losses(comparison)
    titles = [f"tuned at corruption rate {rate:g}" if len(comparison.levels) > 1 or rate else "" for rate in levels]
    figure, panels = create_panels(titles, compose_title("Tuning of the learning rate", first))
    some_equal = False
    for axes, level in zip(panels, levels.values(), strict=True):
        some_equal |= _draw_level(axes, level, styles)
        axes.set_xlabel("learning rate", fontsize=9)
    label_left_panels(panels, f"validation {first.metric} ({describe_direction(first.higher_is_better)})")

    # 3. legend and caption
    names = dict.fromkeys(row.name for level in levels.values() for row in level.rows)
    keys = [create_key(name, styles[name]) for name in names if styles[name].is_distinct]
    add_legend(figure, [*keys, Line2D([], [], color=GREY, label="selected", **RING)])
    gaps = ["Of equal lines, one has gaps."] if some_equal else []
    add_caption(figure, [*_write_caption(comparison, levels.values()), *gaps])
    return figure


def _draw_level(axes: "Axes", level: RateComparison, styles: Mapping[str, Style]) -> bool:
    """Draw the losses; return True if some of the lines look equal."""
    axes.set_xscale("log")
    best = {row.name: _select_best(row.tuned.candidates) for row in level.rows}
    some_equal = draw_lines(axes, best, styles)
    for row in level.rows:
        style, (learning_rates, values) = styles[row.name], best[row.name]
        mark: dict[str, Any] = {"color": style.colour, "linestyle": "", "marker": style.marker, "markersize": 3.5}
        axes.plot(learning_rates, values, **mark)
        settings = [(get_learning_rate(candidate), candidate.validation) for candidate in row.tuned.candidates]
        if len(settings) > len(learning_rates):  # the loss's own fields are tuned, too: several per learning rate
            axes.plot(*zip(*settings, strict=True), alpha=0.4, **mark)
        selected = (get_learning_rate(row.summary), row.summary.loss)
        for candidate in row.tuned.candidates:
            if (get_learning_rate(candidate), candidate.loss) == selected:
                axes.plot(selected[0], candidate.validation, color=style.colour, zorder=4, **RING)
                break
    fit_scale(axes, np.concatenate([values for _, values in best.values()]), level.rows[0].summary.higher_is_better)
    return some_equal


def _select_best(candidates: Sequence[Summary]) -> tuple[Array, Array]:
    """Return the learning rates, rising, and the best validation metric at each; NaN where no trial was finished."""
    select = np.nanmax if candidates[0].higher_is_better else np.nanmin
    learning_rates = np.unique([get_learning_rate(candidate) for candidate in candidates])
    values = [[c.validation for c in candidates if get_learning_rate(c) == rate] for rate in learning_rates]
    # the candidates of one learning rate differ in the loss's own fields
    best = [select(several) if np.isfinite(several).any() else np.nan for several in values]
    return learning_rates, np.array(best)


def _write_caption(comparison: Comparison, levels: Iterable[RateComparison]) -> Iterator[str]:
    rows = [row for level in levels for row in level.rows]
    counts = sorted({row.tuned.n_seeds for row in rows})
    if counts[0]:
        yield f"Mean at the last epoch over {format_range(counts)} seeds that are used for tuning only."
    else:
        yield "Mean at the last epoch over the seeds that are reported: no seeds were kept apart for tuning."
    if any(row.tuned.only_at_rate_zero for level in comparison.levels for row in level.rows):
        yield "The settings selected at corruption rate 0 are used at all corruption rates."
    if any(row.tuned.fields for row in rows):
        yield "Fields were tuned, too: the line joins the best at each learning rate, pale marks are all settings."
    unfinished = {row.name: [c for c in row.tuned.candidates if not np.isfinite(c.validation)] for row in rows}
    counted = [f"{name} ({len(settings)})" for name, settings in unfinished.items() if settings]
    if counted:
        yield f"Settings without a finished trial are left out: {join_names(counted)}."
