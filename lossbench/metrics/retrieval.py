"""Metrics of embeddings: is what lies nearest of the same class? Every example of a split is sought among the others.

Embeddings are compared by direction (scaled to length 1, by Euclidean distance, which ranks as the cosine does),
whatever distance a loss trains. Equal distances are ranked at random, and what is given is the value to be expected: so
that embeddings which have all fallen on one point are at chance, in whatever order the examples come.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.interfaces.metric import ExampleMetric, is_finite, mask_invalid, widen

MOST = 1_000_000
"""Distances that are held at once."""


class Retrieval(ExampleMetric):
    """A mean over queries. Those whose class has no other example are left out: no answer would be right.

    Left out is a score of 0, the others being scaled up so that the mean over all is the mean over them.
    """

    tasks: ClassVar[tuple[str, ...]] = ("embedding",)
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    @abstractmethod
    def of_queries(self, distance: Tensor, alike: Tensor) -> Tensor:
        """A score per query `[R, Q]`, from `[R, Q, N]`; each is infinitely far from itself, and not alike."""

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Embeddings `[R, N, E]` and classes `[R, N]` to `[R, N]`."""
        embedding = functional.normalize(widen(prediction), dim=-1)
        classes = target.expand(prediction.shape[:-1])
        rows, n = classes.shape
        queries = torch.arange(n, device=target.device).split(max(1, MOST // (rows * n)))
        parts = [self.of_queries(*_neighbours(embedding, classes, some)) for some in queries]
        answered = torch.cat([_alike(classes, some).any(-1) for some in queries], -1)
        scores = torch.where(answered, torch.cat(parts, -1), 0) / answered.double().mean(-1, keepdim=True)
        return mask_invalid(scores, is_finite(prediction).all(-1, keepdim=True)).to(embedding.dtype)


def _alike(classes: Tensor, queries: Tensor) -> Tensor:
    """Which others are of a query's class, `[R, Q, N]`."""
    everyone = torch.arange(classes.shape[-1], device=queries.device)
    return (classes[:, queries, None] == classes[:, None]) & (queries[:, None] != everyone)


def _neighbours(embedding: Tensor, classes: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    # without matrix products: equal embeddings must be equally far from any other, to the last bit
    distance = torch.cdist(embedding[:, queries], embedding, compute_mode="donot_use_mm_for_euclid_dist")
    distance[:, torch.arange(len(queries)), queries] = torch.inf
    return distance, _alike(classes, queries)


@dataclass(frozen=True)
class RecallAt1(Retrieval):
    """Share of examples whose nearest neighbour is of their class (recall@1, precision@1).

    Of several that are nearest, the share that is of the class.
    Reference: Musgrave, Belongie and Lim, A Metric Learning Reality Check, 2020, https://arxiv.org/abs/2003.08505
    """

    name: ClassVar[str] = "recall_at_1"

    def of_queries(self, distance: Tensor, alike: Tensor) -> Tensor:
        """0 or 1, or a share of ties."""
        nearest = distance == distance.amin(-1, keepdim=True)
        return (nearest & alike).sum(-1).double() / nearest.sum(-1)


@dataclass(frozen=True)
class MAPAtR(Retrieval):
    r"""Mean average precision over the R nearest, R being how many others are of the query's class (MAP@R).

    .. math:: \frac1R \sum_{i=1}^{R} P(i)\,[\text{the i-th nearest is of the class}]

    with P(i) the share of the i nearest that are of the class. 1 only where a whole class lies nearer than anything
    else, it still tells embeddings apart where recall@1 is near 1.
    Reference: Musgrave, Belongie and Lim, A Metric Learning Reality Check, 2020, https://arxiv.org/abs/2003.08505
    """

    name: ClassVar[str] = "map_at_r"

    def of_queries(self, distance: Tensor, alike: Tensor) -> Tensor:
        """A number from 0 to 1."""
        total = alike.sum(-1, keepdim=True)
        place = torch.arange(1, max(1, int(total.max())) + 1, device=distance.device)
        precision = _expected_hits(distance, alike, len(place)) / place
        return torch.where(place <= total, precision, 0).sum(-1) / total.squeeze(-1)


def _expected_hits(distance: Tensor, alike: Tensor, most: int) -> Tensor:
    """How many are alike up to each of the nearest places, where that place is, else 0; to be expected over ties."""
    ordered, order = distance.topk(most, largest=False)
    place = torch.arange(most, device=distance.device)
    fresh = functional.pad(ordered[..., 1:] != ordered[..., :-1], (1, 0), value=True)
    first = torch.where(fresh, place, 0).cummax(-1).values  # where the tie begins that a place is in
    count = functional.pad(alike.gather(-1, order).cumsum(-1), (1, 0))
    hits = count.gather(-1, first)
    tied, rights = _ties(ordered, distance, alike, first, count)
    # a place is right with p = rights / tied, and then each place before it in the tie with what is left of both
    p = rights / tied
    return p * (hits + 1) + (place - first) * p * (rights - 1) / (tied - 1).clamp_min(1)


def _ties(ordered: Tensor, distance: Tensor, alike: Tensor, first: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """How many share each place's distance, and how many of these are alike; the last tie may go on behind the end."""
    after = torch.searchsorted(first, first, right=True)
    inside = after - first, count.gather(-1, after) - count.gather(-1, first)
    final = ordered == ordered[..., -1:]
    equal = distance == ordered[..., -1:]
    whole = equal.sum(-1, keepdim=True), (equal & alike).sum(-1, keepdim=True)
    tied, rights = (torch.where(final, w, i).double() for w, i in zip(whole, inside, strict=True))
    return tied, rights
