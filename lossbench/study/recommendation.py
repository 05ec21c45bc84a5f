"""The losses to use, and how: what a comparison recommends, the simplest first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lossbench import registry
from lossbench.analysis.comparison import Comparison, Row
from lossbench.interfaces.spaces import SPACES
from lossbench.types import Head, Requirement, Space

ORDINARY = (Requirement.PROGRESS, Requirement.EPOCH, Requirement.N_EXAMPLES, Requirement.CLASS_NAMES)
"""Needs that ask nothing of who uses the loss."""
STANDARDISED = "targets standardised by median and 1.4826 MAD of the training split"
SCALED_BACK = "targets as they are; the network's output is scaled back by median and 1.4826 MAD of the training split"


@dataclass(frozen=True)
class Recommendation:
    """A loss that no other is shown to beat by more than the region of practical equivalence, at one corruption rate.

    value: the test metric at the last epoch. scaling: what was done to the targets. snippet: Python that makes the
    same loss for a training script.
    """

    loss: str
    weighting: str
    corruption: str
    corruption_rate: float
    metric: str
    value: float
    learning_rate: float
    head: str
    scaling: str
    snippet: str


def recommend(
    comparisons: Sequence[Comparison], configurations: Mapping[str, Mapping[str, Any]]
) -> list[Recommendation]:
    """Return the recommended losses of each comparison and rate, the simplest first.

    configurations: by trial, what its folder of records says of its settings.
    """
    found = []
    for comparison in comparisons:
        for level in comparison.levels:
            rows = [(row, _choice(row, configurations)) for row in level.rows if row.recommended]
            for row, choice in sorted(rows, key=lambda pair: _simplicity(*pair)):
                found.append(_recommendation(row, choice, comparison.corruption, level.corruption_rate))
    return found


def _choice(row: Row, configurations: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The loss as its configuration has it; the name alone where that is not known."""
    known = [configurations[trial] for trial in row.summary.trials if trial in configurations]
    return dict(known[0].get("loss", {})) if known else {"name": row.summary.loss}


def _simplicity(row: Row, choice: Mapping[str, Any]) -> tuple[Any, ...]:
    """Sorts what asks less of its user first: no weighting, the usual head, no needs, few fields."""
    kind = _kind(choice)
    requires = [] if kind is None else [n for n in _fact(kind, "requires", ()) if n not in ORDINARY]
    head = row.summary.settings.get("head") != Head.LINEAR
    weighted = row.summary.weighting not in ("", "none")
    return kind is None, weighted, head, len(requires), len(choice), row.name


def _kind(choice: Mapping[str, Any]) -> type | None:
    """The class of a built-in or installed loss; None for an object, which the records only name."""
    entry = registry.losses.entries().get(str(choice.get("name")))
    return entry.kind if entry else None


def _fact(kind: type, name: str, otherwise: Any) -> Any:
    """A class fact; what an adapter only knows as an instance is `otherwise`."""
    value = getattr(kind, name, otherwise)
    return otherwise if isinstance(value, property) else value


def _recommendation(row: Row, choice: Mapping[str, Any], corruption: str, rate: float) -> Recommendation:
    summary, kind = row.summary, _kind(choice)
    space = _fact(kind, "space", None) if kind else None
    return Recommendation(
        loss=summary.loss,
        weighting=summary.weighting,
        corruption=corruption,
        corruption_rate=rate,
        metric=summary.metric,
        value=summary.last.value if summary.last else float("nan"),
        learning_rate=float(summary.settings.get("lr") or float("nan")),
        head=str(summary.settings.get("head")),
        scaling=_scaling(space),
        snippet=_snippet(choice, kind),
    )


def _scaling(space: Space | None) -> str:
    """What was done to targets that are numbers."""
    if space is None or not SPACES[space].of_numbers:
        return "none"
    return STANDARDISED if SPACES[space].standardised else SCALED_BACK


def _snippet(choice: Mapping[str, Any], kind: type | None) -> str:
    """Two lines of Python; of an object that was given, a word."""
    name = str(choice.get("name"))
    if kind is None or "@" in name:
        return f"criterion = ...  # the object that was recorded as {name}"
    usual = registry.get_defaults(kind)
    own = {n: v for n, v in choice.items() if n != "name" and usual.get(n, ...) != v}
    fields = "".join(f", {n}={v!r}" for n, v in own.items())
    return f'import lossbench\ncriterion = lossbench.losses.get("{name}"{fields}).module(reduction="mean")'
