"""Recommend losses from comparisons, the simplest first, with the settings to use them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lossbench import registry
from lossbench.analysis.comparison import Comparison, Row
from lossbench.interfaces.spaces import SPACES
from lossbench.types import Head, Requirement, Space

ORDINARY = (Requirement.PROGRESS, Requirement.EPOCH, Requirement.N_EXAMPLES, Requirement.CLASS_NAMES)
"""Requirements that training scripts meet anyway."""
STANDARDISED = "targets standardised by median and 1.4826 MAD of the training split"
SCALED_BACK = "targets as they are; the network's output is scaled back by median and 1.4826 MAD of the training split"


@dataclass(frozen=True)
class Recommendation:
    """A loss that no other is shown to beat by more than the region of practical equivalence, at one corruption rate.

    value: the test metric at the last epoch. scaling: of the targets. snippet: Python that makes the same loss
    for a training script.
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
    """Return the recommended losses of each comparison and corruption rate, the simplest first.

    configurations: by trial, the configuration in its folder of records.
    """
    recommendations = []
    for comparison in comparisons:
        for level in comparison.levels:
            choices = []
            for row in level.rows:
                if row.recommended:
                    # the loss with its fields; the name alone where no configuration is known
                    known = [configurations[trial] for trial in row.summary.trials if trial in configurations]
                    choices.append((row, dict(known[0].get("loss", {})) if known else {"name": row.summary.loss}))
            for row, choice in sorted(choices, key=lambda pair: _rank_simplicity(*pair)):
                recommendations.append(_make_recommendation(row, choice, comparison.corruption, level.corruption_rate))
    return recommendations


def _rank_simplicity(row: Row, choice: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return a sort key that puts losses first that ask less of their user.

    In this order: a class that can be made by name, no weighting, the usual head, no requirements, few fields.
    """
    kind = _find_class(choice)
    requires = [] if kind is None else [n for n in _get_fact(kind, "requires", ()) if n not in ORDINARY]
    other_head = row.summary.settings.get("head") != Head.LINEAR
    weighted = row.summary.weighting not in ("", "none")
    return kind is None, weighted, other_head, len(requires), len(choice), row.name


def _find_class(choice: Mapping[str, Any]) -> type | None:
    """Return the class of a built-in or installed loss; None for an object, of which records hold only the name."""
    entry = registry.losses.entries().get(str(choice.get("name")))
    return entry.kind if entry else None


def _get_fact(kind: type, name: str, default: Any) -> Any:
    """Return a fact of a class; `default` where only instances of an adapter know it."""
    value = getattr(kind, name, default)
    return default if isinstance(value, property) else value


def _make_recommendation(row: Row, choice: Mapping[str, Any], corruption: str, rate: float) -> Recommendation:
    summary, kind = row.summary, _find_class(choice)
    # 1. the scaling of targets that are numbers
    space: Space | None = _get_fact(kind, "space", None) if kind else None
    scaling = "none"
    if space is not None and SPACES[space].of_numbers:
        scaling = STANDARDISED if SPACES[space].standardised else SCALED_BACK
    # 2. two lines of Python, with the fields that differ from the defaults; an object cannot be made from its name
    name = str(choice.get("name"))
    if kind is None or "@" in name:
        snippet = f"criterion = ...  # the object that was recorded as {name}"
    else:
        defaults = registry.get_defaults(kind)
        changed = {field: v for field, v in choice.items() if field != "name" and defaults.get(field, ...) != v}
        fields = "".join(f", {field}={value!r}" for field, value in changed.items())
        snippet = f'import lossbench\ncriterion = lossbench.losses.get("{name}"{fields}).module(reduction="mean")'
    return Recommendation(
        loss=summary.loss,
        weighting=summary.weighting,
        corruption=corruption,
        corruption_rate=rate,
        metric=summary.metric,
        value=summary.last.value if summary.last else float("nan"),
        learning_rate=float(summary.settings.get("lr") or float("nan")),
        head=str(summary.settings.get("head")),
        scaling=scaling,
        snippet=snippet,
    )
