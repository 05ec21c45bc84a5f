"""The tables of `scripts/calibrate.py --summarise`, as Markdown."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Line = dict[str, Any]
COVERED, EXCLUDED, ALIKE = 0.95, 0.85, 0.05
"""Wanted: of the right losses, of the wrong ones, of equal losses that are called different."""
Z = 1.96


def read(files: Iterable[str]) -> dict[tuple[str, str], list[Line]]:
    """By kind and scenario; a line that a kill has cut short, and a repeat that is there twice, count for nothing."""
    found: dict[tuple[str, str, int], Line] = {}
    for text in (text for file in files for text in Path(file).read_text().splitlines()):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        found.setdefault((line["kind"], line["scenario"], line["repeat"]), line)
    sorted_: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for (kind, scenario, _), line in sorted(found.items()):
        sorted_[kind, scenario].append(line)
    return sorted_


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share.

    >>> [round(x, 3) for x in wilson(195, 200)]
    [0.943, 0.989]
    """
    middle, half = hits + Z**2 / 2, Z * math.sqrt(hits * (n - hits) / n + Z**2 / 4)
    return max(0.0, (middle - half) / (n + Z**2)), min(1.0, (middle + half) / (n + Z**2))


def share(hits: Sequence[bool]) -> str:
    """As in: 97.5% [94.3, 98.9]."""
    if not hits:
        return "–"
    low, high = wilson(sum(hits), len(hits))
    return f"{100 * sum(hits) / len(hits):.1f}% [{100 * low:.1f}, {100 * high:.1f}]"


def mean(values: Sequence[float]) -> str:
    """With its standard error."""
    error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{np.mean(values):.2f} ± {error:.2f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def tables(files: Sequence[str], scenarios: Mapping[str, Any]) -> str:
    """All that the files tell."""
    found = read(files)
    done = {name: found["repeat", name] for name in scenarios if found["repeat", name]}
    parts = []
    ordered = [(name, scenarios[name], done[name], found["truth", name]) for name in done if not scenarios[name].null]
    if ordered:
        parts.append(table(ORDERED, [ordered_row(*given) for given in ordered]))
        parts.append(table(WRONG, [row for given in ordered for row in wrong_rows(*given)]))
    if null := [name for name in done if scenarios[name].null]:
        parts.append(table(NULL, [null_row(name, done[name]) for name in null]))
    for name, scenario in scenarios.items():
        truths = found["truth", name]
        if not scenario.clones and (truths or done.get(name)):
            parts.append(f"{name}, {scenario.metric}: {len(truths)} draws for the truth")
            parts.append(table(LOSSES, loss_rows(scenario, truths, done.get(name, []))))
    lines = [line for lines in found.values() for line in lines]
    parts.append(f"{sum(line['seconds'] for line in lines) / 3600:.2f} hours of one core in all")
    return "\n\n".join(parts)


ORDERED = ("scenario", "repeats", "a right loss is recommended", "the best is", "losses recommended", "targets")
WRONG = ("scenario", "wrong loss", "behind the best", "is not recommended")
NULL = (
    *("scenario", "repeats", "any pair is called different", "any loss is not recommended"),
    *("the same by a t test over seeds", "targets"),
)
LOSSES = ("loss", "is", "truth", "behind the best", "in the repeats", "recommended", "learning rates")


def ordered_row(name: str, scenario: Any, lines: Sequence[Line], truths: Sequence[Line]) -> list[str]:
    covered = [any(one in line["recommended"] for one in scenario.right) for line in lines]
    best = [ranked(scenario, truths)[0] in line["recommended"] for line in lines] if truths else []
    sizes = [len(line["recommended"]) for line in lines]
    wrong = {one: [one not in line["recommended"] for line in lines] for one in scenario.wrong}
    missed = [f"right {COVERED:.0%}"] if np.mean(covered) < COVERED else []
    missed += [f"{one} {EXCLUDED:.0%}" for one, out in wrong.items() if np.mean(out) < EXCLUDED and name != "gaussian"]
    missed += [f"size {scenario.most:g}"] if np.mean(sizes) > scenario.most else []
    met = f"missed: {', '.join(missed)}" if missed else "met"
    return [name, str(len(lines)), share(covered), share(best), mean(sizes), met]


def wrong_rows(name: str, scenario: Any, lines: Sequence[Line], truths: Sequence[Line]) -> list[list[str]]:
    """How far the wrong losses are behind the best by the truth, and how often they are seen to be."""
    order = ranked(scenario, truths) if truths else []
    best = {one: best_rate(one, truths, scenario) for one in order}
    return [
        [
            name,
            one,
            truth_cells(one, best, order[0] if order else "", scenario)[1],
            share([one not in line["recommended"] for line in lines]),
        ]
        for one in scenario.wrong
    ]


def null_row(name: str, lines: Sequence[Line]) -> list[str]:
    different, left_out = (
        [bool(line["different"]) for line in lines],
        [len(line["recommended"]) < 8 for line in lines],
    )
    by_seeds = share([line["by_seeds_alone"] > 0 for line in lines])
    met = "met" if np.mean(different) <= ALIKE else f"missed: {ALIKE:.0%}"
    return [name, str(len(lines)), share(different), share(left_out), by_seeds, met]


def ranked(scenario: Any, truths: Sequence[Line]) -> list[str]:
    """The losses, the best by the truth first."""
    at_best = {name: mean_harm(best_rate(name, truths, scenario), scenario) for name in truths[0]["values"]}
    return sorted(at_best, key=lambda name: at_best[name])


def loss_rows(scenario: Any, truths: Sequence[Line], lines: Sequence[Line]) -> list[list[str]]:
    order = ranked(scenario, truths) if truths else list(lines[0]["values"])
    best = {name: best_rate(name, truths, scenario) for name in order} if truths else {}
    return [
        [name, role(name, scenario), *truth_cells(name, best, order[0], scenario), *repeat_cells(name, lines)]
        for name in order
    ]


def role(name: str, scenario: Any) -> str:
    return "right" if name in scenario.right else "wrong" if name in scenario.wrong else ""


def is_accuracy(scenario: Any) -> bool:
    return scenario.metric.endswith("accuracy")


def mean_harm(values: Sequence[float | None], scenario: Any) -> float:
    return float(np.mean([math.inf if v is None else harm(v, scenario) for v in values]))


def harm(value: float, scenario: Any) -> float:
    """On the scale of the comparison: points of accuracy, logarithms of errors."""
    return -100 * value if is_accuracy(scenario) else 100 * math.log(value)


def best_rate(name: str, truths: Sequence[Line], scenario: Any) -> list[float | None]:
    """A loss's values over draws, at the learning rate at which their mean is best."""
    by_rate = [[line["values"][name][lr] for line in truths] for lr in truths[0]["values"][name]]
    return min(by_rate, key=lambda values: mean_harm(values, scenario))


def truth_cells(name: str, best: Mapping[str, list[float | None]], first: str, scenario: Any) -> list[str]:
    """The mean over draws, and by how much it is behind the best loss, draw by draw."""
    if not best or None in best[name]:
        return ["–", "–"]
    values, others = ([harm(v, scenario) for v in best[one] if v is not None] for one in (name, first))
    behind = np.subtract(values, others)
    error = behind.std(ddof=1) / math.sqrt(len(behind)) if len(behind) > 1 else math.nan
    level = np.mean(values)
    told = f"{-level:.1f}%" if is_accuracy(scenario) else f"{math.exp(level / 100):.4g}"
    if name == first:
        return [told, "best"]
    by = f"{behind.mean():.1f} points" if is_accuracy(scenario) else f"{100 * math.expm1(behind.mean() / 100):.0f}%"
    return [told, f"{by} ± {error:.1f}"]


def repeat_cells(name: str, lines: Sequence[Line]) -> list[str]:
    if not lines:
        return ["–", "–", "–"]
    values = [line["values"][name] for line in lines if line["values"].get(name) is not None]
    chosen = [line["lrs"][name] for line in lines if name in line["lrs"]]
    often = sorted(set(chosen), key=lambda lr: -chosen.count(lr))[:3]
    rates = ", ".join(f"{lr:g}: {chosen.count(lr) / len(chosen):.0%}" for lr in often)
    return [f"{np.mean(values):.4g}", f"{np.mean([name in line['recommended'] for line in lines]):.1%}", rates]
