"""What a table's numbers mean and what is missing from it, in plain words."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from lossbench.analysis import Summary

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
    if any(row.rate for row in rows):
        return f"{best}; validation is corrupted like training, which can mislead that choice."
    return f"{best}."


def _steps(rows: Sequence[Summary]) -> str:
    aims = format_target(rows)
    if not aims:
        return ""
    sign = "≥" if rows[0].higher_is_better else "≤"
    trivial = next((f" (trivial predictor: {row.trivial:.3g})" for row in rows if np.isfinite(row.trivial)), "")
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
    wanting = any(row.rate for row in rows) and all(row.rate for row in rows)
    return "No comparison with rate 0: there are no results at rate 0 with the same settings." if wanting else ""


def _rates(rows: Sequence[Summary]) -> str:
    """Rates are asked for in shares and realised in whole rows."""
    off = {row.rate: row.realised_rate for row in rows if abs(row.realised_rate - row.rate) > ROUNDING}
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
        rates[row.name][f"{row.rate:g}"] = None
    if len(rates) <= NAMED:
        return "; ".join(f"{name} at rate {', '.join(found)}" for name, found in rates.items())
    return f"{len(rates)} losses ({', '.join([*rates][:NAMED])}, ...)"


def _first_line(text: str) -> str:
    line = next(iter(text.strip().splitlines()), "")
    return line if len(line) <= 200 else line[:199] + "…"


def _missing(rows: Sequence[Summary]) -> Iterator[str]:
    """Cells that the table should have and has not."""
    rates, names = sorted({row.rate for row in rows}), sorted({row.name for row in rows})
    there = {(row.name, row.rate) for row in rows}
    gaps = {name: [f"{rate:g}" for rate in rates if (name, rate) not in there] for name in names}
    incomplete = [name for name, found in gaps.items() if found]
    for name in incomplete[:NAMED]:
        yield f"No results: {name} at rate {', '.join(gaps[name])}."
    if len(incomplete) > NAMED:
        yield f"No results at some rates: {len(incomplete) - NAMED} more of {len(names)} losses."


def _notes(rows: Sequence[Summary]) -> Iterator[str]:
    """Yield what is to be said of single rows."""
    for note in dict.fromkeys(note for row in rows for note in row.notes):
        where = [f"{row.name} at rate {row.rate:g}" for row in rows if note in row.notes]
        yield f"{'; '.join(where) if len(where) <= NAMED else f'{len(where)} of {len(rows)} rows'}: {note}."


def _unequal(rows: Sequence[Summary], columns: Sequence[str]) -> Iterator[str]:
    names = dict.fromkeys(name for row in rows for name in row.settings)
    for name in names:
        values = _distinct(row.settings.get(name) for row in rows)
        if len(values) > 1 and name not in columns:
            yield f"Not the same in all rows: {name} ({', '.join(values)})."


def _distinct(values: Iterable[object]) -> list[str]:
    return sorted({f"{value:g}" if isinstance(value, float) else str(value) for value in values})
