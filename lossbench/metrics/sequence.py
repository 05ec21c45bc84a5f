"""Metrics of transcripts by greedy decoding: the best token of each step, repeats merged, blanks dropped."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lossbench.interfaces.metric import ExampleMetric, LinearisedMetric, mask_invalid, widen
from lossbench.numerics.decoding import find_best_path
from lossbench.types import BLANK, PADDING


def _is_sequence_finite(prediction: Tensor) -> Tensor:
    """Return True if all logits of an example are finite: `[R, N, T, C]` to `[R, N]`."""
    flat = prediction.flatten(-2)
    return flat.amax(-1).isfinite() & flat.amin(-1).isfinite()  # abs() would write all logits once more


def compute_edit_distances(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the Levenshtein distance of each decoded prediction to its target, `[R, N]`.

    It counts substitutions, deletions and insertions by dynamic programming over the target's tokens, for all examples
    at once. The path keeps its blanks, which cost nothing: let c(j) be the number of tokens in the first j steps, and
    d(i, j) their distance to the first i target tokens. The table is e(i, j) = d(i, j) - c(j), so that the update along
    j is a running minimum.
    """
    path = find_best_path(prediction)
    blank = (path == BLANK).short()
    excess = blank.new_zeros(*path.shape[:-1], path.shape[-1] + 1)  # e(0, j) = 0
    for token in target.int().unsqueeze(-1).unbind(-2):  # [R or 1, N, 1]
        # replace or match the token, the path's token at no cost; at a blank 1 is never less than an insertion
        step = blank - (path == token).short()
        best = excess + 1
        best[..., 1:] = torch.minimum(best[..., 1:], excess[..., :-1] + step)
        excess = torch.where(token == PADDING, excess, best.cummin(-1).values)
    return excess[..., -1] + (1 - blank).sum(-1)


@dataclass(frozen=True)
class CharacterErrorRate(LinearisedMetric):
    """Edit distance per target token: the sum of Levenshtein distances over the sum of target lengths.

    It exceeds 1 where there are more errors than tokens, and is NaN or infinite where all targets are empty.
    Reference: Levenshtein, Binary Codes Capable of Correcting Deletions, Insertions, and Reversals, 1966.
    """

    tasks: ClassVar[tuple[str, ...]] = ("ctc",)
    higher_is_better: ClassVar[bool] = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the metric: logits `[R, N, T, C]` and tokens `[R, N, S]` to `[R]`."""
        errors, length = _count_errors(prediction, target)
        return mask_invalid(errors.sum(-1) / length.sum(-1), _is_sequence_finite(prediction).all(-1))

    def compute_influence(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return each example's influence, `[R, N]`; long transcripts weigh more."""
        errors, length = _count_errors(prediction, target)
        rate = errors.sum(-1, keepdim=True) / length.sum(-1, keepdim=True)
        # a ratio of sums: the linear part of its change with the weight of an example
        influence = (errors - rate * length) / length.mean(-1, keepdim=True)
        return mask_invalid(influence, _is_sequence_finite(prediction).all(-1, keepdim=True))


def _count_errors(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the edit distances and the lengths of the targets, `[R, N]`."""
    kind = widen(prediction).dtype
    return compute_edit_distances(prediction, target).to(kind), (target != PADDING).sum(-1).to(kind)


@dataclass(frozen=True)
class SequenceAccuracy(ExampleMetric):
    """Share of examples whose transcript is correct from the first token to the last."""

    tasks: ClassVar[tuple[str, ...]] = ("ctc",)
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return 0 or 1 per example: logits `[R, N, T, C]` and tokens `[R, N, S]` to `[R, N]`."""
        correct = compute_edit_distances(prediction, target) == 0
        return mask_invalid(correct.to(widen(prediction).dtype), _is_sequence_finite(prediction))
