"""Results of calls of a third-party loss: the loss among them, and checks of what the call did."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.errors import InvalidValue

LOSS_KEYS = ("loss", "total_loss", "total")
"""Keys under which a mapping has the loss, the likeliest first."""


def call_without_state(
    path: str, owner: Any, call: Callable[..., Any], arguments: Sequence[Tensor], keywords: Mapping[str, Any]
) -> Any:
    """Return the result of a call. Raises `InvalidValue` if it changes a buffer of `owner`, which replicas share."""
    if not isinstance(owner, nn.Module):
        return call(*arguments, **keywords)
    before = _get_buffer_versions(owner)
    result = call(*arguments, **keywords)
    if changed := [n for n, version in _get_buffer_versions(owner).items() if before.get(n) != version]:
        raise InvalidValue(
            f"{path} changes its buffer {', '.join(changed)} with each call: External keeps no state from step to "
            "step. Write a Loss class that needs Requirement.STATE for it."
        )
    return result


def _get_buffer_versions(owner: nn.Module) -> dict[str, tuple[int, int]]:
    # torch counts changes in place; a buffer that is replaced has another id
    return {n: (id(b), b._version) for n, b in owner.named_buffers()}


def pick_entry(path: str, result: Any, entry: str, device: torch.device) -> Tensor:
    """Return the tensor that `result` is, or holds under `entry`. Raises `InvalidValue` if it is on another device."""
    if entry or isinstance(result, Mapping | tuple | list):
        entries = list_entries(result)
        name = entry or guess_entry(entries)
        if name not in entries:
            choices = ", ".join(entries) or type(result).__name__
            reason = f", which has no entry {entry!r}" if entry else ""
            raise InvalidValue(
                f"{path} must return a tensor. Got a {type(result).__name__} instead{reason}: say which entry of it is "
                f"the loss with loss.entry=<one of {choices}>."
            )
        result = entries[name]
    if not isinstance(result, Tensor):
        raise InvalidValue(f"{path} must return a tensor. Got {type(result).__name__} instead.")
    if result.device != device:
        raise InvalidValue(f"{path} was given tensors on {device} and returned one on {result.device}.")
    return result


def list_entries(result: Any) -> dict[str, Any]:
    """List what a mapping or a sequence holds, by key or place; nothing for any other result."""
    if isinstance(result, Mapping):
        return {str(k): v for k, v in result.items()}
    return {str(i): v for i, v in enumerate(result)} if isinstance(result, tuple | list) else {}


def guess_entry(entries: Mapping[str, Any]) -> str:
    """Return the key of the entry that is called a loss, or of the only one; empty if neither exists."""
    named = [n for n in LOSS_KEYS if n in entries]
    return next(iter(named or (entries if len(entries) == 1 else [])), "")


def check_examples(path: str, value: Tensor, prediction: Tensor) -> None:
    """Raise `InvalidValue` unless it is one value, or one per element, of each example."""
    n = len(prediction)
    if value.shape[:1] != (n,):
        raise InvalidValue(
            f"{path} must return one value per example, shape [{n}, ...]. Got {list(value.shape)}: if it "
            "couples the examples of a batch, set batch_level=true."
        )
    if value.numel() > prediction.numel():
        raise InvalidValue(
            f"{path} must return one value per example, shape [{n}, ...]. Got {list(value.shape)}, more values than "
            f"the prediction {list(prediction.shape)} has: did prediction and target broadcast? "
            "See encoding and layout."
        )
