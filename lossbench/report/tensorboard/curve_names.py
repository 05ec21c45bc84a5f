"""What TensorBoard calls curves and values at the end. It shows and sorts by what is before the slash first."""

from typing import NamedTuple

import numpy as np

from lossbench.analysis import Summary

SPREAD = "variation over seeds"
END = "values at the end"
PRIMARY = "primary: "
"""Sorts before "test", "train" and "validation"; the other two sort behind them."""


class Point(NamedTuple):
    """What the seeds say of one metric at one step."""

    split: str
    metric: str
    step: int
    seconds: float
    mean: float
    low: float
    high: float


def group(split: str, metric: str, primary: str) -> str:
    """Return the name that the curves of all rates share."""
    return f"{PRIMARY if (split, metric) == ('test', primary) else ''}{split} {metric}"


def level(cell: Summary) -> str:
    """Return corruption and rate: `symmetric_flips 0.4`."""
    return "no corruption" if cell.corruption in ("", "none") else f"{cell.corruption} {cell.rate:g}"


def tag(split: str, metric: str, cell: Summary) -> str:
    """Return the name of a curve."""
    return f"{group(split, metric, cell.metric)}/{level(cell)}"


def spread(tag: str) -> tuple[str, str]:
    """Return the names of the curves below and above it."""
    return f"{SPREAD}/{tag}, lowest", f"{SPREAD}/{tag}, highest"


LR = "learning rate"
NUMBERS = {
    "last": "{metric} at {rate}",
    "best": "best epoch at {rate}",
    "steps": "steps to target at {rate}",
    "diverged": "diverged at {rate}",
    "lr": LR + " at {rate}",
}
"""Numbers at the end, and what their columns are called."""


def ends(cell: Summary, rate: str = "") -> dict[str, str]:
    """Return what each number at the end is called in a table, by its tag."""
    return {f"{END}/{name}, {level(cell)}": t.format(metric=cell.metric, rate=rate) for name, t in NUMBERS.items()}


def end_values(cell: Summary) -> dict[str, float]:
    """Return the numbers at the end by tag; those that are not known, or not finite, are left out."""
    numbers = (
        cell.last.value if cell.last else np.nan,
        cell.best.value if cell.best else np.nan,
        cell.steps.median if cell.steps else np.nan,
        cell.n_diverged,
        cell.settings.get("lr") or np.nan,
    )
    found = zip(ends(cell), map(float, numbers), strict=True)
    return {name: number for name, number in found if np.isfinite(number)}
