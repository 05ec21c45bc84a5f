"""Reading a string of tokens from an input whose steps are not labelled one by one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from lossbench.errors import Incompatible
from lossbench.interfaces import Scaling, Task
from lossbench.numerics.decoding import drop_blanks, find_best_path
from lossbench.numerics.softmax import log_softmax
from lossbench.tasks.refusals import refusal
from lossbench.types import BLANK, PADDING, Array, Encoding, Examples, Head, Picture, Problem, Space


@dataclass(frozen=True)
class CTC(Task):
    """A string of tokens: targets `[N, S]` of whole numbers from 1, filled up with -1 behind the end.

    Raw output: `[..., T, C]`, a logit per step and token, token 0 being the blank. Class names are those of the tokens
    from 1 on. Read by greedy decoding: the best token of each step, repeats merged, blanks dropped.
    """

    sequence: ClassVar[bool] = True
    picture: ClassVar[Picture] = Picture.TEXT
    spaces: ClassVar[tuple[Space, ...]] = (Space.SEQUENCE_LOGIT, Space.LOG_PROBABILITY)
    encodings: ClassVar[tuple[Encoding, ...]] = (Encoding.TOKENS,)
    metrics: ClassVar[tuple[str, ...]] = ("character_error_rate", "sequence_accuracy")
    defaults: ClassVar[Mapping[str, str]] = {
        "loss": "ctc",
        "data": "digit_lines",
        "model": "recogniser",
        "corruption": "token_substitutions",
    }
    # on digit_lines 20 epochs at a rate of 0.003 end where nothing but blanks is read
    settings: ClassVar[Mapping[str, float]] = {"epochs": 20, "batch_size": 64, "lr": 0.01}
    variety: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "corruption": ("token_substitutions", "token_deletions", "token_insertions"),
    }
    shortlist: ClassVar[tuple[str, ...]] = ("ctc", "focal_ctc", "smoothed_ctc")
    target_share: ClassVar[float] = 0.8

    def count_outputs(self, examples: Examples) -> int:
        """C: the number of tokens and the blank; tokens are those that have names, or all up to the largest target.

        Raises `Incompatible` unless the targets are `[N, S]` of whole numbers from 1 below C, and -1 behind the end.
        """
        n_outputs = 1 + (len(examples.class_names) or int(examples.targets.max(initial=BLANK)))
        _check_tokens(examples.targets, n_outputs)
        if n_outputs == 1:
            raise Incompatible("The ctc task needs at least one token. Got only empty targets.")
        return n_outputs

    def get_head_width(self, head: Head, problem: Problem) -> int:
        """C."""
        if head not in self.heads:
            raise refusal("ctc", head, self.heads)
        return problem.n_outputs

    def fit_scaling(self, targets: Array) -> tuple[Array, Array]:
        """Zero and one: tokens have no scale."""
        return np.zeros(1), np.ones(1)

    def convert(self, raw: Tensor, space: Space, scaling: Scaling) -> Tensor:
        """The logits as they come, or the logarithm of their softmax at each step."""
        match space:
            case Space.SEQUENCE_LOGIT:
                return raw
            case Space.LOG_PROBABILITY:
                return log_softmax(raw)
        raise refusal("ctc", space, self.spaces)

    def encode(self, target: Tensor, encoding: Encoding, problem: Problem, scaling: Scaling) -> Tensor:
        """Tokens `[..., S]`."""
        if encoding not in self.encodings:
            raise refusal("ctc", encoding, self.encodings)
        return target.long()

    def check(self, targets: Array, encoding: Encoding) -> None:
        """Raise `Incompatible` for an encoding that does not exist here."""
        if encoding not in self.encodings:
            raise refusal("ctc", encoding, self.encodings)

    def predict(self, raw: Tensor, space: Space, problem: Problem, scaling: Scaling) -> Tensor:
        """The logits, `[..., T, C]`."""
        return raw

    def decode_for_picture(self, point: Tensor) -> Tensor:
        """The tokens that are read, `[..., T]`, -1 behind the end."""
        return drop_blanks(find_best_path(point))

    def predict_baseline(self, targets: Array, n: int, problem: Problem) -> Array:
        """Scores `[n, T, C]` of one string: the most common token of each place, up to the median length."""
        length = int(np.median((targets != PADDING).sum(1)))
        path = np.full(2 * length + 1, BLANK)
        path[1::2] = [np.bincount(column[column != PADDING]).argmax() for column in targets.T[:length]]
        return np.tile(np.eye(problem.n_outputs)[path], (n, 1, 1))

    def count_per_class(self, targets: Array, problem: Problem) -> Array | None:
        """None: an example has many tokens."""
        return None


def _check_tokens(targets: Array, n_outputs: int) -> None:
    if targets.ndim != 2 or not np.issubdtype(targets.dtype, np.integer):
        raise Incompatible(
            f"The ctc task takes whole-number targets of shape [N, S]. Got {targets.dtype} of shape "
            f"{list(targets.shape)}."
        )
    _refuse_row(targets, targets == BLANK, "token 0 stands for the blank, which no target holds")
    outside = (targets < PADDING) | (targets >= n_outputs)
    _refuse_row(targets, outside, f"the ctc task takes tokens from 1 to {n_outputs - 1}, and {PADDING} behind the end")
    behind = (targets[:, 1:] != PADDING) & (targets[:, :-1] == PADDING)
    _refuse_row(targets, behind, f"no token may stand behind {PADDING}, which fills up what is behind the end")


def _refuse_row(targets: Array, wrong: Array, why: str) -> None:
    for row in np.flatnonzero(wrong.any(1))[:1]:
        raise Incompatible(f"Row {row} of the targets is {targets[row].tolist()}: {why}.")
