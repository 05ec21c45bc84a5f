"""The table of summaries that a person reads, and what its columns mean."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from lossbench.analysis import Summary
from lossbench.report.tables.grid import NOTHING, Grid, format_estimates, format_number, format_reach

ROUNDING = 1e-4
"""Rates that are off by less are shown without a word."""
NAMED = 3
"""How many losses or rows one line names."""


def explain_summaries(rows: Sequence[Summary], columns: Sequence[str] = ()) -> list[str]:
    """Return the lines that belong below a table of `rows`, which share task, data, metric and corruption.

    columns: settings that the table shows.
    """
    lines = [_interval(rows), _epochs(rows), _steps(rows), _area(rows), _against_zero(rows), _rates(rows)]
    lists = [*_diverged(rows), *_untrained(rows), *_missing(rows), *_notes(rows), *_unequal(rows, columns)]
    return [line for line in lines if line] + lists


def list_gaps(rows: Sequence[Summary]) -> list[str]:
    """Return what is missing: trials that failed or were skipped, and losses without results at some rate."""
    return [*_untrained(rows), *_missing(rows)]


def format_target(rows: Sequence[Summary]) -> str:
    """Return the target to three digits, or from which to which: splits differ by seed, and targets with them."""
    targets = sorted(row.target for row in rows if np.isfinite(row.target))
    ends = dict.fromkeys(f"{target:.3g}" for target in (targets[0], targets[-1])) if targets else {}
    return " to ".join(ends)


def _interval(rows: Sequence[Summary]) -> str:
    estimates = [row.last for row in rows if row.last is not None]
    speaks = sorted({estimate.speaks_for for estimate in estimates} - {"nothing"})
    if not speaks:
        return "No intervals: a single seed of a metric that is no mean over test rows says nothing about spread."
    shares = [e.seed_share for e in estimates if e.n_examples and e.n_seeds > 1 and np.isfinite(e.seed_share)]
    line = f"[low–high]: 95% interval; speaks for {' or '.join(speaks)}, not for other data sets."
    return line + _narrower(float(np.median(shares)) if shares else np.nan) + _overlap(rows)


def _narrower(seed_share: float) -> str:
    """Say what would narrow the intervals; nothing of a share that is not known (NaN)."""
    if seed_share > 0.5:
        return " More seeds would narrow it most."
    return " Only more test rows would narrow it much." if seed_share < 0.25 else ""


def _overlap(rows: Sequence[Summary]) -> str:
    if len({row.name for row in rows}) == 1:
        return ""
    return " Overlap is no verdict: losses share seeds and test rows, and only their differences can tell."


def _epochs(rows: Sequence[Summary]) -> str:
    best = "best epoch: the one with the best validation metric"
    if rows[0].settings.get("validation") == "clean":
        return f"{best}, on clean validation data (an oracle: real validation data are as corrupted as training's)."
    if any(row.corruption_rate for row in rows):
        return f"{best}; validation is corrupted like training, which can mislead that choice."
    return f"{best}."


def _steps(rows: Sequence[Summary]) -> str:
    aims = format_target(rows)
    if not aims:
        return ""
    sign = "≥" if rows[0].higher_is_better else "≤"
    trivial = next(
        (f" (baseline predictor: {row.baseline_predictor:.3g})" for row in rows if np.isfinite(row.baseline_predictor)),
        "",
    )
    return (
        f"steps to target: first evaluation with test {rows[0].metric} {sign} {aims}{trivial}, median over seeds; "
        "2/5: only 2 of 5 seeds got there; –: not half of them, or none."
    )


def _area(rows: Sequence[Summary]) -> str:
    early = "high" if rows[0].higher_is_better else "low"
    return f"area: mean height of the test curve over all steps; {early} means learned early and kept."


def _against_zero(rows: Sequence[Summary]) -> str:
    if any(row.degradation for row in rows):
        return "vs rate 0: last epoch against the same seeds without corruption; + is worse."
    wanting = any(row.corruption_rate for row in rows) and all(row.corruption_rate for row in rows)
    return "No comparison with rate 0: there are no results at rate 0 with the same settings." if wanting else ""


def _rates(rows: Sequence[Summary]) -> str:
    """Rates are asked for in shares and realised in whole rows."""
    off = {
        row.corruption_rate: row.realised_rate
        for row in rows
        if abs(row.realised_rate - row.corruption_rate) > ROUNDING
    }
    if not off:
        return ""
    pairs = ", ".join(f"{rate:.3g} is {realised:.4f}" for rate, realised in sorted(off.items()))
    return f"rate: share of training rows corrupted, to the nearest whole row: {pairs}."


def _diverged(rows: Sequence[Summary]) -> Iterator[str]:
    n = sum(row.n_diverged for row in rows)
    if n:
        total = sum(row.n_trials for row in rows)
        yield f"{n} of {total} trials diverged and are left out of the means, which flatters their rows."
    else:
        yield "No trial diverged."


def _untrained(rows: Sequence[Summary]) -> Iterator[str]:
    """One line for all that failed, were skipped, or were not finite from the start, for the same reason."""
    yield from _for_same_reason("failed", [(row, row.n_failed) for row in rows if row.n_failed])
    yield from _for_same_reason("skipped", [(row, row.n_skipped) for row in rows if row.n_skipped])
    told = [row for row in rows if row.n_diverged and row.reasons and not (row.n_failed or row.n_skipped)]
    yield from _for_same_reason("diverged", [(row, row.n_diverged) for row in told])


def _for_same_reason(status: str, counted: Sequence[tuple[Summary, int]]) -> Iterator[str]:
    groups: dict[tuple[str, ...], list[tuple[Summary, int]]] = defaultdict(list)
    for row, n in counted:
        groups[tuple(dict.fromkeys(_first_line(reason) for reason in row.reasons))].append((row, n))
    for reasons, alike in groups.items():
        why = next(iter(reasons), "no reason recorded")  # seeds fail alike, with other numbers
        others = f" (and {len(reasons) - 1} more like it in trials.parquet)" if len(reasons) > 1 else ""
        part, total = sum(n for _, n in alike), sum(row.n_trials for row, _ in alike)
        yield f"{part} of {total} {status}, {_where([row for row, _ in alike])}: {why}{others}"


def _where(rows: Sequence[Summary]) -> str:
    """`mse at rate 0.1, 0.2; mae at rate 0.2`; of many losses, how many and some of them."""
    rates: dict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        rates[row.name][f"{row.corruption_rate:g}"] = None
    if len(rates) <= NAMED:
        return "; ".join(f"{name} at rate {', '.join(found)}" for name, found in rates.items())
    return f"{len(rates)} losses ({', '.join([*rates][:NAMED])}, ...)"


def _first_line(text: str) -> str:
    line = next(iter(text.strip().splitlines()), "")
    return line if len(line) <= 200 else line[:199] + "…"


def _missing(rows: Sequence[Summary]) -> Iterator[str]:
    """Cells that the table should have and has not."""
    rates, names = sorted({row.corruption_rate for row in rows}), sorted({row.name for row in rows})
    there = {(row.name, row.corruption_rate) for row in rows}
    gaps = {name: [f"{rate:g}" for rate in rates if (name, rate) not in there] for name in names}
    incomplete = [name for name, found in gaps.items() if found]
    for name in incomplete[:NAMED]:
        yield f"No results: {name} at rate {', '.join(gaps[name])}."
    if len(incomplete) > NAMED:
        yield f"No results at some rates: {len(incomplete) - NAMED} more of {len(names)} losses."


def _notes(rows: Sequence[Summary]) -> Iterator[str]:
    """Yield what is to be said of single rows."""
    for note in dict.fromkeys(note for row in rows for note in row.notes):
        where = [f"{row.name} at rate {row.corruption_rate:g}" for row in rows if note in row.notes]
        yield f"{'; '.join(where) if len(where) <= NAMED else f'{len(where)} of {len(rows)} rows'}: {note}."


def _unequal(rows: Sequence[Summary], columns: Sequence[str]) -> Iterator[str]:
    names = dict.fromkeys(name for row in rows for name in row.settings)
    for name in names:
        values = _distinct(row.settings.get(name) for row in rows)
        if len(values) > 1 and name not in columns:
            yield f"Not the same in all rows: {name} ({', '.join(values)})."


def _distinct(values: Iterable[object]) -> list[str]:
    return sorted({f"{value:g}" if isinstance(value, float) else str(value) for value in values})


MANY = 40
"""A table of more rows shows only the best of each rate."""
FEWEST = 10
"""How many of each rate it shows at least."""
SHORT = {"weight_decay": "weight\ndecay", "batch_size": "batch\nsize"}
"""Settings' names as headings."""


def render_summaries(summaries: Iterable[Summary]) -> RenderableType:
    """Return one table per task, data, metric, corruption and kind of validation: a row per rate and loss."""
    ordered = sorted(summaries, key=lambda s: (_subject(s), s.corruption_rate, s.name, str(s.settings)))
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
    rates = [list(group) for _, group in groupby(rows, lambda s: s.corruption_rate)]
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
    several = len(rows) > len({row.corruption_rate for row in rows})
    return Grid(
        columns,
        {i - 1 for i in range(1, len(rows)) if several and rows[i].corruption_rate != rows[i - 1].corruption_rate},
    )


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
        "area": [format_number(row.aulc) for row in rows],
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
    return f"{row.corruption_rate:.3g}"


def _steps_name(rows: Sequence[Summary]) -> str:
    target = format_target(rows)
    return f"steps\nto {target}" if target and " " not in target else "steps\nto target"


def _degradation(row: Summary) -> str:
    if row.degradation is None:
        return NOTHING
    unit = " pt" if row.degradation.unit == "points" else "%"
    return f"{row.degradation.value:+.{0 if abs(row.degradation.value) >= 99.95 else 1}f}{unit}"
