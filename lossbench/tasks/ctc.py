"""CTC: a string of tokens for an input whose steps have no labels of their own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from lossbench.errors import Incompatible
from lossbench.interfaces import Scaling, Task
from lossbench.numerics.decoding import drop_blanks, find_best_path
from lossbench.numerics.softmax import log_softmax
from lossbench.tasks.refusals import make_refusal
from lossbench.types import BLANK, PADDING, Array, Encoding, Examples, Head, Picture, Problem, Space


@dataclass(frozen=True)
class CTC(Task):
    """A string of tokens: targets `[N, S]` of whole numbers from 1, padded with -1 after the end.

    Raw output: `[..., T, C]`, a logit per step and token, token 0 being the blank. Class names are the names of
    the tokens from 1 on. Greedy decoding reads a prediction: the best token of each step, repeats merged, blanks
    dropped.
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
    # at a learning rate of 0.003, 20 epochs on digit_lines end with nothing but blanks
    settings: ClassVar[Mapping[str, float]] = {"epochs": 20, "batch_size": 64, "lr": 0.01}
    variety: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "corruption": ("token_substitutions", "token_deletions", "token_insertions"),
    }
    shortlist: ClassVar[tuple[str, ...]] = ("ctc", "focal_ctc", "smoothed_ctc")
    target_share: ClassVar[float] = 0.8

    def count_outputs(self, examples: Examples) -> int:
        """Return C, the number of tokens and the blank; tokens are the class names, or all up to the largest target.

        Raises `Incompatible` unless the targets are `[N, S]` of whole numbers from 1 below C, and -1 after the end.
        """
        n_outputs = 1 + (len(examples.class_names) or int(examples.targets.max(initial=BLANK)))
        _check_tokens(examples.targets, n_outputs)
        if n_outputs == 1:
            raise Incompatible("The ctc task needs at least one token. Got only empty targets.")
        return n_outputs

    def get_head_width(self, head: Head, problem: Problem) -> int:
        """Return C."""
        if head not in self.heads:
            raise make_refusal("ctc", head, self.heads)
        return problem.n_outputs

    def fit_scaling(self, targets: Array) -> tuple[Array, Array]:
        """Return zero and one: tokens have no scale."""
        return np.zeros(1), np.ones(1)

    def convert(self, raw: Tensor, space: Space, scaling: Scaling) -> Tensor:
        """Return the logits unchanged, or the logarithm of their softmax at each step."""
        match space:
            case Space.SEQUENCE_LOGIT:
                return raw
            case Space.LOG_PROBABILITY:
                return log_softmax(raw)
        raise make_refusal("ctc", space, self.spaces)

    def encode(self, target: Tensor, encoding: Encoding, problem: Problem, scaling: Scaling) -> Tensor:
        """Return the tokens, `[..., S]`."""
        if encoding not in self.encodings:
            raise make_refusal("ctc", encoding, self.encodings)
        return target.long()

    def check(self, targets: Array, encoding: Encoding) -> None:
        """Raise `Incompatible` for an encoding that the task does not offer."""
        if encoding not in self.encodings:
            raise make_refusal("ctc", encoding, self.encodings)

    def predict(self, raw: Tensor, space: Space, problem: Problem, scaling: Scaling) -> Tensor:
        """Return the logits, `[..., T, C]`."""
        return raw

    def decode_for_picture(self, point: Tensor) -> Tensor:
        """Decode greedily into tokens, `[..., T]`, with -1 after the end."""
        return drop_blanks(find_best_path(point))

    def predict_baseline(self, targets: Array, n: int, problem: Problem) -> Array:
        """Return scores `[n, T, C]` of a constant string: the commonest token per place, up to the median length."""
        length = int(np.median((targets != PADDING).sum(1)))
        path = np.full(2 * length + 1, BLANK)  # blanks between the tokens keep repeats apart
        path[1::2] = [np.bincount(column[column != PADDING]).argmax() for column in targets.T[:length]]
        return np.tile(np.eye(problem.n_outputs)[path], (n, 1, 1))  # one-hot

    def count_per_class(self, targets: Array, problem: Problem) -> Array | None:
        """Return None: an example has many tokens."""
        return None


def _check_tokens(targets: Array, n_outputs: int) -> None:
    if targets.ndim != 2 or not np.issubdtype(targets.dtype, np.integer):
        raise Incompatible(
            f"The ctc task takes whole-number targets of shape [N, S]. Got {targets.dtype} of shape "
            f"{list(targets.shape)}."
        )
    blank = targets == BLANK
    outside = (targets < PADDING) | (targets >= n_outputs)
    after_padding = (targets[:, 1:] != PADDING) & (targets[:, :-1] == PADDING)
    for wrong, rule in (
        (blank, "token 0 stands for the blank, which no target holds"),
        (outside, f"the ctc task takes tokens from 1 to {n_outputs - 1}, and {PADDING} after the end"),
        (after_padding, f"no token may follow {PADDING}, which pads a target after its end"),
    ):
        for i in np.flatnonzero(wrong.any(1))[:1]:
            raise Incompatible(f"The target of example {i} is {targets[i].tolist()}: {rule}.")
