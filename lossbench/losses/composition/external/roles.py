"""What a call of a stranger's loss is given, and which of its arguments is which."""

import inspect
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from lossbench.errors import InvalidValue
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
"""What arguments of a role are called."""
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def split(argument: str) -> tuple[str, str]:
    """`target` to its role alone, and `labels=target` to the keyword and its role."""
    keyword, _, role = argument.rpartition("=")
    return keyword, role


def guessed(path: str, parameters: Sequence[inspect.Parameter]) -> list[str]:
    """The roles of a call's arguments, by their names; those that tell nothing are taken to be in the usual order.

    Raises `InvalidValue` if more than two must be given, or none can be, and their names do not say what they are.
    """
    if not parameters:
        return list(USUAL)
    takes = [p for p in parameters if p.kind in (*POSITIONAL, p.KEYWORD_ONLY)]
    if len(takes) < len(parameters) and not any(p.kind in POSITIONAL for p in takes):
        return list(USUAL)  # *args
    asked = [p for p in takes if p.default is p.empty] or takes[:2]
    roles = [_role(p.name) for p in asked]
    if len(asked) == 1:
        return _one(takes, asked[0], roles[0])
    if len(asked) == 2 and not _distinct(roles):
        roles = _other_way(roles) or list(USUAL)
    if not _distinct(roles):
        names = ", ".join(p.name for p in asked) or "nothing"
        raise InvalidValue(
            f"{path} takes {names}: say what each of them is, as in 'loss.arguments=[target,prediction]'. "
            f"There are: {', '.join(ROLES)}."
        )
    return [_argument(p, role) for p, role in zip(asked, roles, strict=True)]


def _role(name: str) -> str:
    return next((role for role, names in NAMES.items() if name.lower() in names), "")


def _distinct(roles: Sequence[str]) -> bool:
    return bool(roles) and all(roles) and len(set(roles)) == len(roles)


def _other_way(roles: Sequence[str]) -> list[str] | None:
    """One role of two gives the other."""
    if roles[0] in ("target", "prediction") and not roles[1]:
        return [roles[0], "prediction" if roles[0] == "target" else "target"]
    if roles[1] in ("target", "prediction") and not roles[0]:
        return ["prediction" if roles[1] == "target" else "target", roles[1]]
    return None


def _one(takes: Sequence[inspect.Parameter], asked: inspect.Parameter, role: str) -> list[str]:
    """Of one argument that must be given and others that may be."""
    if role == "residual":
        return [_argument(asked, role)]
    second = next((p for p in takes if p is not asked and _role(p.name) == "target"), None)
    first = _argument(asked, role or "prediction")
    return [first, _argument(second, "target")] if second else [first]


def _argument(parameter: inspect.Parameter, role: str) -> str:
    return f"{parameter.name}={role}" if parameter.kind is parameter.KEYWORD_ONLY else role
