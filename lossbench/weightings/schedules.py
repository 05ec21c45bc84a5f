"""Weights that come into force as training goes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossbench import registry
from lossbench.errors import InvalidValue
from lossbench.interfaces import Weighting
from lossbench.types import Requirement
from lossbench.validation import check_share


@dataclass(frozen=True)
class Deferred(Weighting):
    r"""Another weighting, from some point of training on; all weights are 1 before.

    .. math:: w = 1 \;\text{if}\; t < \text{after}, \quad w_{\text{scheme}} \;\text{otherwise}

    scheme: its name, or a mapping with its name and fields: `{name: effective_number, beta: 0.99}`; after: the share t
    of training done that it starts at (the paper: 160 of 200 epochs). Normalised as the scheme is, and made for the
    same tasks; what it declares, this does. Returns the shape of the losses. Raises `UnknownName` for a scheme that
    does not exist, `InvalidValue` for one that is no such thing or weighs terms, or if after is not in [0, 1].
    Reference: Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, 2019,
    https://arxiv.org/abs/1906.07413
    """

    tasks = ("*",)  # of an instance: the scheme's
    requires = (Requirement.PROGRESS,)
    aliases = ("deferred re-weighting", "DRW")
    use_when = (
        "classes differ much in size: features are learned from all examples first (with ldam, as its authors do)"
    )
    pitfall = "the best epoch may lie before it starts: compare last epochs, too"
    scheme: Any = "balanced"  # a name or a mapping
    after: float = 0.8

    def __post_init__(self) -> None:
        check_share(self, after=self.after)
        # 1. the scheme itself, from its name alone or from a mapping with its fields
        if isinstance(self.scheme, str):
            fields: dict[str, Any] = {"name": self.scheme}
        elif isinstance(self.scheme, Mapping) and isinstance(self.scheme.get("name"), str):
            fields = dict(self.scheme)
        else:
            raise InvalidValue(
                f"The 'scheme' parameter of Deferred must be a weighting's name, or a mapping with its name and "
                f"fields. Got {self.scheme!r} instead."
            )
        inner = registry.weightings.get(**fields)
        if not isinstance(inner, Weighting):
            raise InvalidValue(
                "The 'scheme' parameter of Deferred must weigh examples or labels, not the terms of a combined loss. "
                f"Got {self.scheme!r} instead."
            )
        # 2. its facts become those of this instance; a stacked copy keeps __dict__, and so the facts
        requires = tuple(dict.fromkeys((*inner.requires, Requirement.PROGRESS)))
        facts = {n: getattr(inner, n) for n in ("tasks", "space", "encodings", "per_example", "differentiable")}
        self.__dict__.update(facts, requires=requires, inner=inner)

    def __call__(self, losses: Tensor, prediction: Tensor, target: Tensor, **requires: Any) -> Tensor:
        """Return ones before `after`, then the scheme's weights."""
        inner: Weighting = self.__dict__["inner"]
        weights = inner(losses, prediction, target, **{n: requires[n] for n in inner.requires})
        # both branches are computed: a stack shares one step, and replicas may start at different points
        started = torch.full_like(losses, requires[Requirement.PROGRESS]) >= self.after
        return torch.where(started, weights, 1)
