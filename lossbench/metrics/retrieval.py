"""Metrics of embeddings by retrieval: each example is a query, and the other examples are ranked by distance to it.

Embeddings are scaled to length 1 and compared by Euclidean distance, which ranks as the cosine does, whatever distance
a loss trains. Examples at equal distances are ranked at random, and the metrics return the expected value: embeddings
that have collapsed to a point score as chance does, in whatever order the examples come.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.interfaces.metric import ExampleMetric, is_finite, mask_invalid, widen

MAX_DISTANCES = 1_000_000
"""At most so many distances are in memory at once."""


class Retrieval(ExampleMetric):
    """A mean over queries. A query whose class has no other example is left out: no answer would be correct.

    It gets a score of 0, and the other scores are scaled up so that the mean over all queries is the mean over those
    that count.
    """

    tasks: ClassVar[tuple[str, ...]] = ("embedding",)
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    @abstractmethod
    def score_queries(self, distance: Tensor, relevant: Tensor) -> Tensor:
        """Return a score per query, `[R, Q, N]` to `[R, Q]`.

        distance: to each example; a query is infinitely far from itself.
        relevant: True for examples of the query's class, except the query itself.
        """

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return a score per example: embeddings `[R, N, E]` and classes `[R, N]` to `[R, N]`."""
        embedding = functional.normalize(widen(prediction), dim=-1)
        classes = target.expand(prediction.shape[:-1])
        n_replicas, n = classes.shape
        examples = torch.arange(n, device=target.device)
        parts, answerable_parts = [], []
        for queries in examples.split(max(1, MAX_DISTANCES // (n_replicas * n))):  # [Q]
            # without matrix products: equal embeddings must be equally far from any other, to the last bit
            distance = torch.cdist(embedding[:, queries], embedding, compute_mode="donot_use_mm_for_euclid_dist")
            distance[:, torch.arange(len(queries)), queries] = torch.inf
            relevant = (classes[:, queries, None] == classes[:, None]) & (queries[:, None] != examples)  # [R, Q, N]
            parts.append(self.score_queries(distance, relevant))
            answerable_parts.append(relevant.any(-1))
        answerable = torch.cat(answerable_parts, -1)
        scores = torch.where(answerable, torch.cat(parts, -1), 0) / answerable.double().mean(-1, keepdim=True)
        return mask_invalid(scores, is_finite(prediction).all(-1, keepdim=True)).to(embedding.dtype)


@dataclass(frozen=True)
class RecallAt1(Retrieval):
    """Share of examples whose nearest neighbour is of their class (recall@1, precision@1).

    If several examples are equally near, the share of them that is of the class counts.
    Reference: Musgrave, Belongie and Lim, A Metric Learning Reality Check, 2020, https://arxiv.org/abs/2003.08505
    """

    name: ClassVar[str] = "recall_at_1"

    def score_queries(self, distance: Tensor, relevant: Tensor) -> Tensor:
        """Return 0 or 1, or the relevant share of a tie."""
        nearest = distance == distance.amin(-1, keepdim=True)
        return (nearest & relevant).sum(-1).double() / nearest.sum(-1)


@dataclass(frozen=True)
class MAPAtR(Retrieval):
    r"""Mean average precision over the R nearest, where R is the number of others of the query's class (MAP@R).

    .. math:: \frac1R \sum_{i=1}^{R} P(i)\,[\text{the i-th nearest is of the class}]

    P(i) is the share of the i nearest that are of the class. MAP@R is 1 only if all others of the class are nearer than
    any other example, so it still discriminates where recall@1 is near 1.
    Reference: Musgrave, Belongie and Lim, A Metric Learning Reality Check, 2020, https://arxiv.org/abs/2003.08505
    """

    name: ClassVar[str] = "map_at_r"

    def score_queries(self, distance: Tensor, relevant: Tensor) -> Tensor:
        """Return a number from 0 to 1."""
        n_relevant = relevant.sum(-1, keepdim=True)
        place = torch.arange(1, max(1, int(n_relevant.max())) + 1, device=distance.device)
        precision = _compute_expected_hits(distance, relevant, len(place)) / place
        return torch.where(place <= n_relevant, precision, 0).sum(-1) / n_relevant.squeeze(-1)


def _compute_expected_hits(distance: Tensor, relevant: Tensor, n_places: int) -> Tensor:
    """Return the expected number of relevant examples up to each place, times the probability that it has one itself.

    `[R, Q, N]` to `[R, Q, n_places]`. Examples at equal distances (a tie) are ranked at random. Let a tie have n
    examples, m of them relevant, and start at place s with h relevant examples before it. Place k of it has a relevant
    example with p = m / n, and then each of the k - s places before it in the tie has one with (m - 1) / (n - 1).
    """
    # 1. the nearest places, and where the tie of each starts
    ordered, order = distance.topk(n_places, largest=False)
    place = torch.arange(n_places, device=distance.device)
    starts = functional.pad(ordered[..., 1:] != ordered[..., :-1], (1, 0), value=True)
    start = torch.where(starts, place, 0).cummax(-1).values  # s
    count = functional.pad(relevant.gather(-1, order).cumsum(-1), (1, 0))  # relevant before place 0, 1, ...
    hits = count.gather(-1, start)  # h
    # 2. size of each tie and its relevant examples, within the nearest places
    end = torch.searchsorted(start, start, right=True)
    inside = end - start, count.gather(-1, end) - hits
    # 3. the same for the last tie, which may go on beyond the last place
    is_last = ordered == ordered[..., -1:]
    equal = distance == ordered[..., -1:]
    last = equal.sum(-1, keepdim=True), (equal & relevant).sum(-1, keepdim=True)
    n, m = (torch.where(is_last, x, y).double() for x, y in zip(last, inside, strict=True))
    # 4. the expectation
    p = m / n
    return p * (hits + 1) + (place - start) * p * (m - 1) / (n - 1).clamp_min(1)
