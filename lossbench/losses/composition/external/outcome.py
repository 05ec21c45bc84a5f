"""What a call of a stranger's loss gives, and what it does on the way."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.errors import InvalidValue

LIKELY = ("loss", "total_loss", "total")
"""Keys under which a mapping has the loss itself."""


def watched(path: str, owner: Any, call: Callable[..., Any], given: Sequence[Tensor], named: Mapping[str, Any]) -> Any:
    """The result of a call. Raises `InvalidValue` if it changes a buffer of `owner`, which rows of a stack share."""
    if not isinstance(owner, nn.Module):
        return call(*given, **named)
    before = _buffers(owner)
    result = call(*given, **named)
    if changed := [n for n, state in _buffers(owner).items() if before.get(n) != state]:
        raise InvalidValue(
            f"{path} changes its buffer {', '.join(changed)} with each call: External keeps no state from step to "
            "step. Write a Loss class that needs Requirement.STATE for it."
        )
    return result


def _buffers(owner: nn.Module) -> dict[str, tuple[int, int]]:
    return {n: (id(b), b._version) for n, b in owner.named_buffers()}


def entry_of(path: str, result: Any, entry: str, device: torch.device) -> Tensor:
    """The tensor that `result` is, or holds under `entry`; on the device of what was given."""
    if entry or isinstance(result, Mapping | tuple | list):
        result = _entry(path, result, entry)
    if not isinstance(result, Tensor):
        raise InvalidValue(f"{path} must return a tensor. Got {type(result).__name__} instead.")
    if result.device != device:
        raise InvalidValue(f"{path} was given tensors on {device} and returned one on {result.device}.")
    return result


def _entry(path: str, result: Any, entry: str) -> Any:
    entries = entries_of(result)
    name = entry or likely(entries)
    if name in entries:
        return entries[name]
    got = ", ".join(entries) or type(result).__name__
    asked = f", which has no entry {entry!r}" if entry else ""
    raise InvalidValue(
        f"{path} must return a tensor. Got a {type(result).__name__} instead{asked}: say which entry of it is the "
        f"loss with loss.entry=<one of {got}>."
    )


def entries_of(result: Any) -> dict[str, Any]:
    """What a mapping or a sequence holds, by key or place; nothing of anything else."""
    if isinstance(result, Mapping):
        return {str(k): v for k, v in result.items()}
    return {str(i): v for i, v in enumerate(result)} if isinstance(result, tuple | list) else {}


def likely(entries: Mapping[str, Any]) -> str:
    """The entry that is called a loss, or the only one that there is."""
    named = [n for n in LIKELY if n in entries]
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
