"""The table that a person reads."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from lossbench.analysis import Summary
from lossbench.report.tables.grid import Grid
from lossbench.report.tables.numbers import NOTHING, format_estimates, format_number, format_reach
from lossbench.report.tables.summary_footnotes import explain_summaries, format_target

MANY = 40
"""A table of more rows shows only the best of each rate."""
FEWEST = 10
"""How many of each rate it shows at least."""
SHORT = {"weight_decay": "weight\ndecay", "batch_size": "batch\nsize"}
"""Settings' names as headings."""


def table(summaries: Iterable[Summary]) -> RenderableType:
    """Return one table per task, data, metric, corruption and kind of validation: a row per rate and loss."""
    ordered = sorted(summaries, key=lambda s: (_subject(s), s.rate, s.name, str(s.settings)))
    sections = [list(group) for _, group in groupby(ordered, _subject)]
    return Group(*(part for section in sections for part in _section(section)))


def _section(rows: Sequence[Summary]) -> Iterable[RenderableType]:
    shown = _best(rows) if len(rows) > MANY else rows
    yield Text(_title(rows), style="bold")
    yield Text(_subtitle(rows))
    yield _grid(shown, rows)
    yield Text("")
    if len(shown) < len(rows):
        yield Text(_hidden(len(shown), len(rows)))
    yield from (Text(line) for line in explain_summaries(rows, _numeric(rows)))
    yield Text("")


def _best(rows: Sequence[Summary]) -> list[Summary]:
    """At each rate the best by last epoch, best first; the same number of each."""
    rates = [list(group) for _, group in groupby(rows, lambda s: s.rate)]
    n = max(FEWEST, MANY // len(rates))
    return [row for group in rates for row in sorted(group, key=_badness)[:n]]


def _badness(row: Summary) -> float:
    value = row.last.value if row.last else np.nan
    return (-value if row.higher_is_better else value) if np.isfinite(value) else np.inf


def _hidden(shown: int, total: int) -> str:
    return (
        f"{shown} of {total} rows: the best of each rate by last epoch. The best of many on the same test rows look "
        "better than they are. All rows: the same command with --json."
    )


def _numeric(rows: Sequence[Summary]) -> list[str]:
    """Settings that are numbers and differ between rows: they have columns."""
    names = dict.fromkeys(name for row in rows for name in row.settings)
    values = {name: {row.settings.get(name) for row in rows} for name in names}
    return [n for n, found in values.items() if len(found) > 1 and all(isinstance(v, int | float) for v in found)]


def _subject(summary: Summary) -> tuple[str, ...]:
    settings = summary.settings
    names = [str(settings.get(name)) for name in ("task", "data", "metric", "validation")]
    return (*names, summary.corruption)


def _title(rows: Sequence[Summary]) -> str:
    parts = [sorted({str(row.settings[name]) for row in rows if row.settings.get(name)}) for name in _TITLE]
    corruption = [] if rows[0].corruption == "none" else [f"corruption {rows[0].corruption}"]
    return " · ".join([", ".join(part) for part in parts if part] + corruption)


_TITLE = ("task", "data", "model")


def _subtitle(rows: Sequence[Summary]) -> str:
    arrow = "↑, higher is better" if rows[0].higher_is_better else "↓, lower is better"
    seeds = len({seed for row in rows for seed in row.seeds})
    trials = sum(row.n_trials for row in rows)
    return f"test {rows[0].metric} {arrow}; {_count(seeds, 'seed')}, {_count(trials, 'trial')}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _grid(rows: Sequence[Summary], section: Sequence[Summary]) -> Grid:
    """The table of `rows`, some of the section's. Columns that would be empty in every row are left out."""
    columns = {n: cells for n, cells in _columns(rows, section).items() if any(cell != NOTHING for cell in cells)}
    several = len(rows) > len({row.rate for row in rows})
    return Grid(columns, {i - 1 for i in range(1, len(rows)) if several and rows[i].rate != rows[i - 1].rate})


def _columns(rows: Sequence[Summary], section: Sequence[Summary]) -> dict[str, list[str]]:
    arrow = "↑" if rows[0].higher_is_better else "↓"
    diverged = any(row.n_diverged for row in rows)
    differing = _differing(section)
    return {
        "loss": [_label(row, differing) for row in rows],
        **{SHORT.get(n, n): [f"{row.settings[n]:g}" for row in rows] for n in _numeric(section)},
        "rate": [_rate(row) for row in rows],
        f"last epoch {arrow}": format_estimates([row.last for row in rows]),
        f"best epoch {arrow}": format_estimates([row.best for row in rows]),
        _steps_name(rows): [format_reach(row.steps) for row in rows],
        "area": [format_number(row.area) for row in rows],
        "vs\nrate 0": [_degradation(row) for row in rows],
        "diverged": [f"{row.n_diverged}/{row.n_trials}" if diverged else NOTHING for row in rows],
    }


def _differing(rows: Sequence[Summary]) -> dict[str, list[str]]:
    """By loss, the settings in words that tell its rows from one another."""
    numeric = _numeric(rows)
    values: dict[str, dict[str, set[Any]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        for name, value in row.settings.items():
            values[row.name][name].add(value)
    return {
        loss: [name for name, found in settings.items() if len(found) > 1 and name not in numeric]
        for loss, settings in values.items()
    }


def _label(row: Summary, differing: Mapping[str, Sequence[str]]) -> str:
    """The loss, and what tells it from rows of the same loss (another model, say)."""
    shown = row.name.replace("(", " (")  # a place to break the line at
    return " ".join([shown, *(f"{name}={row.settings[name]}" for name in differing[row.name])])


def _rate(row: Summary) -> str:
    return f"{row.rate:.3g}"


def _steps_name(rows: Sequence[Summary]) -> str:
    target = format_target(rows)
    return f"steps\nto {target}" if target and " " not in target else "steps\nto target"


def _degradation(row: Summary) -> str:
    if row.degradation is None:
        return NOTHING
    unit = " pt" if row.degradation.unit == "points" else "%"
    return f"{row.degradation.value:+.{0 if abs(row.degradation.value) >= 99.95 else 1}f}{unit}"
