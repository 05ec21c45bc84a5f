"""The table of one or more runs, a row per loss and corruption rate, and its footnotes."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from lossbench.analysis import Estimate, Summary
from lossbench.report.tables.grid import (
    NOTHING,
    Column,
    Grid,
    Pointer,
    drop_empty,
    format_estimates,
    format_number,
    format_steps_to_target,
)
from lossbench.report.tables.scope import name_samples

ROUNDING = 1e-4
"""Corruption rates that are off by less are shown without a word."""
NAMED = 3
"""The number of losses or rows that one footnote names."""
MANY = 40
"""A table of more rows shows only the best of each corruption rate."""
FEWEST = 10
"""The least number of rows that it shows of each corruption rate."""
HEADINGS = {"lr": "learning\nrate", "weight_decay": "weight\ndecay", "batch_size": "batch\nsize"}
"""Settings' names as headings."""


def render_summaries(summaries: Iterable[Summary]) -> RenderableType:
    """Return one table per task, data, metric, corruption and kind of validation: a row per rate and loss."""
    ordered = sorted(summaries, key=lambda s: (_get_subject(s), s.corruption_rate, s.name, str(s.settings)))
    sections = [list(group) for _, group in groupby(ordered, _get_subject)]
    return Group(*(part for section in sections for part in _render_section(section)))


def _get_subject(summary: Summary) -> tuple[str, ...]:
    names = [str(summary.settings.get(name)) for name in ("task", "data", "metric", "validation")]
    return (*names, summary.corruption)


def _render_section(rows: Sequence[Summary]) -> Iterator[RenderableType]:
    # 1. of a large table at each corruption rate the best by last epoch, best first; the same number of each
    shown = list(rows)
    if len(rows) > MANY:
        rates = [list(group) for _, group in groupby(rows, lambda s: s.corruption_rate)]
        most = max(FEWEST, MANY // len(rates))
        shown = [row for group in rates for row in sorted(group, key=lambda row: row.sort_value)[:most]]
    # 2. title and subtitle
    values = [sorted({str(row.settings[n]) for row in rows if row.settings.get(n)}) for n in ("task", "data", "model")]
    corruption = [] if rows[0].corruption == "none" else [f"corruption {rows[0].corruption}"]
    yield Text(" · ".join([", ".join(each) for each in values if each] + corruption), style="bold")
    yield Text(_describe_section(rows))
    # 3. the table, with a gap between corruption rates; columns that would be empty in every row are left out
    several = len(shown) > len({row.corruption_rate for row in shown})
    ends = {i - 1 for i in range(1, len(shown)) if shown[i].corruption_rate != shown[i - 1].corruption_rate}
    grid = Grid(drop_empty(_build_columns(shown, rows)), ends if several else ())
    yield grid
    yield Text("")
    # 4. footnotes
    yield from (Text(line) for line in explain_summaries(rows, _list_numeric_settings(rows), len(shown)))
    yield Pointer([grid])
    yield Text("")


def _describe_section(rows: Sequence[Summary]) -> str:
    """Return two lines: the metric, its direction and the counts; the target and the baseline predictor."""
    arrow = "↑, higher is better" if rows[0].higher_is_better else "↓, lower is better"
    n_seeds = len({seed for row in rows for seed in row.seeds})
    n_trials, n_diverged = sum(row.n_trials for row in rows), sum(row.n_diverged for row in rows)
    counts = f"{_count(n_seeds, 'seed')}, {_count(n_trials, 'trial')}, {n_diverged or 'none'} diverged"
    parts = []
    if limit := format_target(rows):
        target = f"target {'≥' if rows[0].higher_is_better else '≤'} {limit}"
        reached = any(row.steps and row.steps.n_reached for row in rows)
        parts.append(target if reached else f"no trial reached the {target}")
    if baselines := [row.baseline_predictor for row in rows if np.isfinite(row.baseline_predictor)]:
        parts.append(f"baseline predictor {baselines[0]:.3g}")
    lines = [f"test {rows[0].metric} {arrow}; {counts}", "; ".join(parts)]
    return "\n".join(line for line in lines if line)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def format_target(rows: Sequence[Summary]) -> str:
    """Return the target to three digits, or from which to which: splits differ by seed, and targets with them."""
    targets = sorted(row.target for row in rows if np.isfinite(row.target))
    ends = dict.fromkeys(f"{target:.3g}" for target in (targets[0], targets[-1])) if targets else {}
    return " to ".join(ends)


def _build_columns(rows: Sequence[Summary], section: Sequence[Summary]) -> list[Column]:
    """Return the columns of `rows`, some of the section's."""
    arrow = "↑" if rows[0].higher_is_better else "↓"
    numeric, wordy = _list_numeric_settings(section), _list_wordy_settings(section)
    diverged = any(row.n_diverged for row in rows)
    return [
        Column("loss", [_label(row, wordy) for row in rows]),
        *(
            Column(
                "learning rate" if n == "lr" else "setting",
                [f"{row.settings[n]:g}" for row in rows],
                HEADINGS.get(n, n),
            )
            for n in numeric
        ),
        Column("corruption rate", [f"{row.corruption_rate:.3g}" for row in rows]),
        Column("last epoch", format_estimates([row.last for row in rows]), f"last epoch {arrow}"),
        Column("best epoch", format_estimates([row.best for row in rows]), f"best epoch {arrow}"),
        Column("steps to target", [format_steps_to_target(row.steps) for row in rows]),
        Column("AULC", [format_number(row.aulc) for row in rows]),
        Column("degradation", [_format_degradation(row) for row in rows]),
        Column("diverged", [f"{row.n_diverged}/{row.n_trials}" if diverged else NOTHING for row in rows]),
    ]


def _list_numeric_settings(rows: Sequence[Summary]) -> list[str]:
    """Return the settings that are numbers and differ between rows: they have columns."""
    names = dict.fromkeys(name for row in rows for name in row.settings)
    values = {name: {row.settings.get(name) for row in rows} for name in names}
    return [n for n, some in values.items() if len(some) > 1 and all(isinstance(v, int | float) for v in some)]


def _list_wordy_settings(rows: Sequence[Summary]) -> dict[str, list[str]]:
    """Return, by loss, the settings in words that tell its rows from one another."""
    numeric = _list_numeric_settings(rows)
    values: dict[str, dict[str, set[Any]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        for name, value in row.settings.items():
            values[row.name][name].add(value)
    return {
        loss: [name for name, some in settings.items() if len(some) > 1 and name not in numeric]
        for loss, settings in values.items()
    }


def _label(row: Summary, wordy: Mapping[str, Sequence[str]]) -> str:
    """Return the loss, and what tells it from rows of the same loss (another model, say)."""
    name = row.name.replace("(", " (")  # a place to break the line at
    return " ".join([name, *(f"{setting}={row.settings[setting]}" for setting in wordy[row.name])])


def _format_degradation(row: Summary) -> str:
    if row.degradation is None:
        return NOTHING
    unit = " pt" if row.degradation.unit == "points" else "%"
    return f"{row.degradation.value:+.{0 if abs(row.degradation.value) >= 99.95 else 1}f}{unit}"


def explain_summaries(rows: Sequence[Summary], columns: Sequence[str], n_shown: int) -> list[str]:
    """Return the footnotes of a table of `rows`, which share task, data, metric and corruption: at most four.

    columns: settings that the table shows. n_shown: how many of the rows it shows.
    """
    lines = [_explain_intervals(rows)]
    if any(row.best for row in rows) and rows[0].settings.get("validation") == "clean":
        lines.append("Best epoch: by clean validation data (an oracle): in practice they are corrupted, too.")
    elif any(row.best and row.corruption_rate for row in rows):
        lines.append("Best epoch: by validation data, which are corrupted like the training data.")
    left_out, notes = list_missing_runs(rows), [*_list_notes(rows, columns)]
    if n_diverged := sum(row.n_diverged for row in rows):
        n_trials = sum(row.n_trials for row in rows)
        left_out.insert(0, f"{n_diverged} of {n_trials} trials diverged and are left out of the means")
    if n_shown < len(rows):
        best = f"the best {n_shown} by last epoch are shown, which look better than they are"
        left_out.insert(0, f"{len(rows) - n_shown} of {len(rows)} rows ({best}; all: --json, in Python table())")
    return lines + [join_notes(label, some) for label, some in (("Left out", left_out), ("Note", notes)) if some]


def join_notes(label: str, notes: Sequence[str]) -> str:
    """Return one footnote: `Left out: first; second`, with a full stop."""
    return f"{label}: {'; '.join(notes)}."


def describe_estimate(estimate: Estimate) -> str:
    """Return what the estimate's interval is over."""
    known = bool(np.isfinite(estimate.low + estimate.high))
    return name_samples(known and estimate.n_seeds > 1, known and estimate.n_examples > 0, estimate.grouped)


def _explain_intervals(rows: Sequence[Summary]) -> str:
    estimates = [row.last for row in rows if row.last is not None]
    over = sorted({describe_estimate(estimate) for estimate in estimates} - {"nothing"})
    if not over:
        return "No intervals: a single seed of a metric that is no mean over test examples does not tell the spread."
    text = f"[low–high]: 95% CI over {' or '.join(over)}"
    # what would narrow it, where the seeds' share of the variance is known
    shares = [e.seed_share for e in estimates if e.n_examples and e.n_seeds > 1 and np.isfinite(e.seed_share)]
    share = float(np.median(shares)) if shares else np.nan
    if share > 0.5:
        text += "; more seeds would narrow it most"
    elif share < 0.25:
        text += "; only more test examples would narrow it much"
    # losses share seeds and test examples: only their differences can tell
    several = len({row.name for row in rows}) > 1
    return f"{text}.{' Overlap is no verdict: lossbench compare tells the differences.' if several else ''}"


def list_missing_runs(rows: Sequence[Summary]) -> list[str]:
    """Return what is missing: trials that failed, were skipped or never finite, and losses without results."""
    # trials that failed, or were skipped, or diverged at once: one note for all with the same reason
    silent = [row for row in rows if row.n_diverged and row.reasons and not (row.n_failed or row.n_skipped)]
    notes = [
        *_list_by_reason("failed", [(row, row.n_failed) for row in rows if row.n_failed]),
        *_list_by_reason("skipped", [(row, row.n_skipped) for row in rows if row.n_skipped]),
        *_list_by_reason("diverged", [(row, row.n_diverged) for row in silent]),
    ]
    # losses that have no row at some corruption rate of the others
    rates, names = sorted({row.corruption_rate for row in rows}), sorted({row.name for row in rows})
    cells = {(row.name, row.corruption_rate) for row in rows}
    missing = {name: [f"{rate:g}" for rate in rates if (name, rate) not in cells] for name in names}
    incomplete = [f"{name} at corruption rate {', '.join(some)}" for name, some in missing.items() if some]
    if incomplete:
        more = f" and {len(incomplete) - NAMED} more losses" if len(incomplete) > NAMED else ""
        notes.append(f"no results of {', '.join(incomplete[:NAMED])}{more}")
    return notes


def _list_by_reason(status: str, counted: Sequence[tuple[Summary, int]]) -> Iterator[str]:
    groups: dict[tuple[str, ...], list[tuple[Summary, int]]] = defaultdict(list)
    for row, n in counted:
        # the first line of each reason: a traceback may follow
        lines = [next(iter(reason.strip().splitlines()), "") for reason in row.reasons]
        groups[tuple(dict.fromkeys(line if len(line) <= 200 else line[:199] + "…" for line in lines))].append((row, n))
    for reasons, alike in groups.items():
        reason = next(iter(reasons), "no reason recorded")  # seeds fail alike, with other numbers
        others = f" (and {len(reasons) - 1} more like it in trials.parquet)" if len(reasons) > 1 else ""
        n, total = sum(n for _, n in alike), sum(row.n_trials for row, _ in alike)
        yield f"{n} of {total} {status}, {_name_rows([row for row, _ in alike])}: {reason.rstrip('.')}{others}"


def _name_rows(rows: Sequence[Summary]) -> str:
    """Return `mse at corruption rate 0.1, 0.2, mae at ...`; of many losses, how many and some of them."""
    rates: dict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        rates[row.name][f"{row.corruption_rate:g}"] = None
    if len(rates) <= NAMED:
        return ", ".join(f"{name} at corruption rate {', '.join(some)}" for name, some in rates.items())
    return f"{len(rates)} losses ({', '.join([*rates][:NAMED])}, ...)"


def _list_notes(rows: Sequence[Summary], columns: Sequence[str]) -> Iterator[str]:
    """Yield what limits how the rows can be read together."""
    # what is to be said of single rows
    for note in dict.fromkeys(note for row in rows for note in row.notes):
        where = [f"{row.name} at corruption rate {row.corruption_rate:g}" for row in rows if note in row.notes]
        yield f"{', '.join(where) if len(where) <= NAMED else f'{len(where)} of {len(rows)} rows'}: {note}"
    # settings that differ between rows, and have no column
    for name in dict.fromkeys(name for row in rows for name in row.settings):
        some = {row.settings.get(name) for row in rows}
        values = sorted({f"{value:g}" if isinstance(value, float) else str(value) for value in some})
        if len(values) > 1 and name not in columns:
            yield f"not the same in all rows: {name} ({', '.join(values)})"
    if all(row.corruption_rate for row in rows) and not any(row.degradation for row in rows):
        yield "no results at corruption rate 0 with the same settings to compare with"
    # a corruption rate is a share, and is realised in whole examples
    off = {r.corruption_rate: r.realised_rate for r in rows if abs(r.realised_rate - r.corruption_rate) > ROUNDING}
    if off:
        pairs = ", ".join(f"{rate:.3g} is {realised:.4f}" for rate, realised in sorted(off.items()))
        yield f"corruption rate, to the nearest whole example: {pairs}"
