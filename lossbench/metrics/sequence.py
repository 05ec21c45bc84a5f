"""Metrics of transcripts, read by greedy decoding: the best token of each step, repeats merged, blanks dropped."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lossbench.interfaces.metric import ExampleMetric, LinearisedMetric, mask_invalid, widen
from lossbench.numerics.decoding import find_best_path
from lossbench.types import BLANK, PADDING


def _finite(prediction: Tensor) -> Tensor:
    """Where all logits of an example are finite, `[R, N, T, C]` to `[R, N]`; rows/finite reduces the last axis only."""
    flat = prediction.flatten(-2)
    return flat.amax(-1).isfinite() & flat.amin(-1).isfinite()  # abs() would write all logits once more


def edit_distances(prediction: Tensor, target: Tensor) -> Tensor:
    """Levenshtein distance of each decoded prediction to its target, `[R, N]`: substitutions, deletions, insertions.

    Dynamic programming over the target's tokens, all examples at once. The path keeps its blanks, which cost nothing:
    with c(j) tokens in the first j steps and d(i, j) the distance of those to the first i target tokens, the table is
    e(i, j) = d(i, j) - c(j), and the update along j is a running minimum.
    """
    path = find_best_path(prediction)
    blank = (path == BLANK).short()
    excess = blank.new_zeros(*path.shape[:-1], path.shape[-1] + 1)  # e(0, j) = 0
    for token in target.int().unsqueeze(-1).unbind(-2):  # [R or 1, N, 1]
        # at a blank the step is 1, which is never less than leaving the token out
        step = blank - (path == token).short()
        best = excess + 1
        best[..., 1:] = torch.minimum(best[..., 1:], excess[..., :-1] + step)
        excess = torch.where(token == PADDING, excess, best.cummin(-1).values)
    return excess[..., -1] + (1 - blank).sum(-1)


@dataclass(frozen=True)
class CharacterErrorRate(LinearisedMetric):
    """Edit distance per target token: the sum of Levenshtein distances over the sum of target lengths.

    It is above 1 where more is wrong than there is to read, and NaN or infinite where all targets are empty.
    Reference: Levenshtein, Binary Codes Capable of Correcting Deletions, Insertions, and Reversals, 1966.
    """

    tasks: ClassVar[tuple[str, ...]] = ("ctc",)
    higher_is_better: ClassVar[bool] = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Logits `[R, N, T, C]` and tokens `[R, N, S]` to `[R]`."""
        wrong, length = _wrong(prediction, target)
        return mask_invalid(wrong.sum(-1) / length.sum(-1), _finite(prediction).all(-1))

    def compute_influence(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The same to `[R, N]`: long transcripts weigh more."""
        wrong, length = _wrong(prediction, target)
        rate = wrong.sum(-1, keepdim=True) / length.sum(-1, keepdim=True)
        influence = (wrong - rate * length) / length.mean(-1, keepdim=True)
        return mask_invalid(influence, _finite(prediction).all(-1, keepdim=True))


def _wrong(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Edit distances `[R, N]`, and the lengths of the targets."""
    kind = widen(prediction).dtype
    return edit_distances(prediction, target).to(kind), (target != PADDING).sum(-1).to(kind)


@dataclass(frozen=True)
class SequenceAccuracy(ExampleMetric):
    """Share of examples whose transcript is right from the first token to the last."""

    tasks: ClassVar[tuple[str, ...]] = ("ctc",)
    higher_is_better: ClassVar[bool] = True
    limit: ClassVar[float] = 1.0

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """0 or 1 per example; logits `[R, N, T, C]` and tokens `[R, N, S]` to `[R, N]`."""
        right = edit_distances(prediction, target) == 0
        return mask_invalid(right.to(widen(prediction).dtype), _finite(prediction))
