"""The table that a person reads."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from lossbench.analysis import Estimate, Reach, Summary
from lossbench.report.footer import footer, target_text
from lossbench.report.grid import Grid

NOTHING = "–"
MANY = 40
"""A table of more rows shows only the best of each rate."""
FEWEST = 10
"""How many of each rate it shows at least."""
SHORT = {"weight_decay": "weight\ndecay", "batch_size": "batch\nsize"}
"""Settings' names as headings."""


def table(summaries: Iterable[Summary]) -> RenderableType:
    """One table per task, data, metric, corruption and kind of validation: a row per rate and loss."""
    ordered = sorted(summaries, key=lambda s: (_subject(s), s.rate, s.name, str(s.settings)))
    sections = [list(group) for _, group in groupby(ordered, _subject)]
    return Group(*(part for section in sections for part in _section(section)))


def estimate_texts(estimates: Sequence[Estimate | None]) -> list[str]:
    """`1.05 [1.01–1.10]`, with as many digits as the intervals warrant, and alike where that can be."""
    halves = [_half(estimate) for estimate in estimates]
    known = [half for half in halves if half > 0]
    common = float(np.median(known)) if known else np.nan
    return [_estimate_text(estimate, half, common) for estimate, half in zip(estimates, halves, strict=True)]


def number_text(value: float, digits: int = 3) -> str:
    """`digits` significant ones, trailing zeros kept; a dash for what is not finite."""
    if not np.isfinite(value):
        return NOTHING
    return f"{value:#.{digits}g}".rstrip(".") if 1e-4 <= abs(value) < 1e5 else f"{value:.{digits}g}"


def reach_text(reach: Reach | None) -> str:
    """`250`; `250 4/5` if a seed never arrived; `– 2/5` if most did not; a dash if none did."""
    if reach is None or not reach.n_reached:
        return NOTHING
    median = f"{reach.median:.0f}" if np.isfinite(reach.median) else NOTHING
    return median if reach.n_reached == reach.n_trials else f"{median} {reach.n_reached}/{reach.n_trials}"


def _half(estimate: Estimate | None) -> float:
    return (estimate.high - estimate.low) / 2 if estimate else np.nan


def _estimate_text(estimate: Estimate | None, half: float, common: float) -> str:
    if estimate is None or not np.isfinite(estimate.value):
        return NOTHING
    if not np.isfinite(half):
        return number_text(estimate.value)
    numbers = (estimate.value, estimate.low, estimate.high)
    if half > 0 and 1e-4 <= abs(estimate.value) < 1e5:
        value, low, high = (f"{number:.{_decimals(half, common)}f}" for number in numbers)
    else:
        value, low, high = map(number_text, numbers)
    between = " to " if low.startswith("-") else "–"  # a dash beside a minus sign cannot be read
    return f"{value} [{low}{between}{high}]"


def _decimals(half: float, common: float) -> int:
    """Such that `common` shows one significant digit, or two where the first is 1 or 2; and `half` at least one."""
    own, exponent = (int(np.floor(np.log10(x) + 1e-9)) for x in (half, common))
    decimals = max((1 if common < 3 * 10.0**exponent else 0) - exponent, -own)
    return min(max(decimals, 0), 6)


def _section(rows: Sequence[Summary]) -> Iterable[RenderableType]:
    shown = _best(rows) if len(rows) > MANY else rows
    yield Text(_title(rows), style="bold")
    yield Text(_subtitle(rows))
    yield _grid(shown, rows)
    yield Text("")
    if len(shown) < len(rows):
        yield Text(_hidden(len(shown), len(rows)))
    yield from (Text(line) for line in footer(rows, _numeric(rows)))
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
        f"last epoch {arrow}": estimate_texts([row.last for row in rows]),
        f"best epoch {arrow}": estimate_texts([row.best for row in rows]),
        _steps_name(rows): [reach_text(row.steps) for row in rows],
        "area": [number_text(row.area) for row in rows],
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
    target = target_text(rows)
    return f"steps\nto {target}" if target and " " not in target else "steps\nto target"


def _degradation(row: Summary) -> str:
    if row.degradation is None:
        return NOTHING
    unit = " pt" if row.degradation.unit == "points" else "%"
    return f"{row.degradation.value:+.{0 if abs(row.degradation.value) >= 99.95 else 1}f}{unit}"
