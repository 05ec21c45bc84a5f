"""Roles of the arguments of a third-party loss: their values, and guesses from their names."""

import inspect
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from lossbench.errors import InvalidValue
from lossbench.notation import format_setting
from lossbench.types import PADDING

USUAL = ("prediction", "target")
"""The arguments of nearly all losses."""
ROLES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "prediction": lambda prediction, target: prediction,
    "target": lambda prediction, target: target,
    "embedding": lambda prediction, target: prediction,
    "residual": lambda prediction, target: prediction - target,
    "input_lengths": lambda prediction, target: torch.full_like(target[:, 0], prediction.shape[1]),
    "target_lengths": lambda prediction, target: (target != PADDING).sum(1),
}
"""Roles of arguments, from a batch `[N, ...]` of predictions and targets."""
NAMES: Mapping[str, tuple[str, ...]] = {
    "prediction": (
        *("input", "inputs", "inp", "x", "pred", "preds", "prediction", "predictions", "predicted", "y_pred", "yhat"),
        *("y_hat", "output", "outputs", "logit", "logits", "score", "scores", "prob", "probs", "probabilities"),
        *("log_prob", "log_probs", "estimate", "student", "boxes1", "y_preds", "img1"),
        *("embedding", "embeddings", "features"),
    ),
    "target": (
        *("target", "targets", "label", "labels", "y", "y_true", "true", "truth", "gt", "ground_truth", "y_gt"),
        *("gts", "expected", "reference", "teacher", "boxes2", "y_trues", "img2"),
    ),
    "residual": ("residual", "residuals", "error", "errors", "r", "diff", "difference"),
    "input_lengths": ("input_lengths", "logit_lengths"),
    "target_lengths": ("target_lengths", "label_lengths"),
}
"""Names that arguments of a role have, in lower case."""
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def split(argument: str) -> tuple[str, str]:
    """Split `labels=target` into the keyword and its role; `target` has a role alone."""
    keyword, _, role = argument.rpartition("=")
    return keyword, role


def guess_arguments(path: str, parameters: Sequence[inspect.Parameter]) -> list[str]:
    """Guess the roles of a call's arguments from their names; names that tell nothing are in the usual order.

    Raises `InvalidValue` if more than two arguments are required, or none can be given, and their names do not tell
    their roles.
    """
    # 1. without a signature, or with *args only, take the usual order
    if not parameters:
        return list(USUAL)
    possible = [p for p in parameters if p.kind in (*POSITIONAL, p.KEYWORD_ONLY)]
    if len(possible) < len(parameters) and not any(p.kind in POSITIONAL for p in possible):
        return list(USUAL)
    required = [p for p in possible if p.default is p.empty] or possible[:2]
    guesses = [_guess_role(p.name) for p in required]

    # 2. one required argument: a residual, or a prediction that may have a target beside it
    if len(required) == 1:
        if guesses[0] == "residual":
            return [_format_argument(required[0], "residual")]
        first = _format_argument(required[0], guesses[0] or "prediction")
        second = next((p for p in possible if p is not required[0] and _guess_role(p.name) == "target"), None)
        return [first, _format_argument(second, "target")] if second else [first]

    # 3. two required arguments: if only one of them has a telling name, the other has the other role
    if len(required) == 2 and not _are_distinct(guesses):
        if guesses[0] in USUAL and not guesses[1]:
            guesses = [guesses[0], _get_other(guesses[0])]
        elif guesses[1] in USUAL and not guesses[0]:
            guesses = [_get_other(guesses[1]), guesses[1]]
        else:
            guesses = list(USUAL)

    # 4. more than two: all names must tell
    if not _are_distinct(guesses):
        names = ", ".join(p.name for p in required) or "nothing"
        example = format_setting("loss.arguments", ["target", "prediction"])
        raise InvalidValue(
            f"{path} takes {names}: say what each of them is, as in {example}. There are: {', '.join(ROLES)}."
        )
    return [_format_argument(p, role) for p, role in zip(required, guesses, strict=True)]


def _guess_role(name: str) -> str:
    return next((role for role, names in NAMES.items() if name.lower() in names), "")


def _are_distinct(roles: Sequence[str]) -> bool:
    return bool(roles) and all(roles) and len(set(roles)) == len(roles)


def _get_other(role: str) -> str:
    return "prediction" if role == "target" else "target"


def _format_argument(parameter: inspect.Parameter, role: str) -> str:
    return f"{parameter.name}={role}" if parameter.kind is parameter.KEYWORD_ONLY else role
