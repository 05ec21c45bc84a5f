"""The table that a person reads, and the same as plain values."""

from collections.abc import Iterable, Sequence
from itertools import groupby

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lossbench.analysis import Estimate, Reach, Summary
from lossbench.report.footer import footer, target_text

NOTHING = "–"


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
    yield Text(_title(rows), style="bold")
    yield Text(_subtitle(rows))
    yield _grid(rows)
    yield Text("")
    yield from (Text(line) for line in footer(rows))
    yield Text("")


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


def _grid(rows: Sequence[Summary]) -> Table:
    """Columns that would be empty in every row are left out."""
    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    columns = [(name, cells) for name, cells in _columns(rows).items() if any(cell != NOTHING for cell in cells)]
    for name, cells in columns:
        _add_column(grid, name, cells)
    several = len({_label(row, rows) for row in rows}) > 1
    for index, row in enumerate(rows):
        ends = several and index + 1 < len(rows) and rows[index + 1].rate != row.rate
        grid.add_row(*(Text(cells[index]) for _, cells in columns), end_section=ends)
    return grid


def _add_column(grid: Table, name: str, cells: Sequence[str]) -> None:
    """Only losses' names may be broken within a word; an interval goes below its value where space is short."""
    if name == "loss":
        grid.add_column(name, overflow="fold", min_width=12)
    else:
        longest = max(len(word) for text in (name, *cells) for word in text.split())
        grid.add_column(name, justify="right", min_width=longest)


def _columns(rows: Sequence[Summary]) -> dict[str, list[str]]:
    arrow = "↑" if rows[0].higher_is_better else "↓"
    diverged = any(row.n_diverged for row in rows)
    return {
        "loss": [_label(row, rows) for row in rows],
        "rate": [_rate(row) for row in rows],
        f"last epoch {arrow}": estimate_texts([row.last for row in rows]),
        f"best epoch {arrow}": estimate_texts([row.best for row in rows]),
        _steps_name(rows): [reach_text(row.steps) for row in rows],
        "area": [number_text(row.area) for row in rows],
        "vs\nrate 0": [_degradation(row) for row in rows],
        "diverged": [f"{row.n_diverged}/{row.n_trials}" if diverged else NOTHING for row in rows],
    }


def _label(row: Summary, rows: Sequence[Summary]) -> str:
    """The loss, and what tells it from rows of the same loss (another learning rate, say)."""
    namesakes = [other.settings for other in rows if other.name == row.name]
    differing = [name for name in row.settings if any(row.settings[name] != other.get(name) for other in namesakes)]
    shown = row.name.replace("(", " (")  # a place to break the line at
    return " ".join([shown, *(f"{name}={row.settings[name]}" for name in differing)])


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
