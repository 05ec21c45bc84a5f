"""Comparing tensors, with failures that say where, what was found and what was wanted."""

import torch
from torch import Tensor

from lossbench.check.contract import CheckFailed


def agree(found: Tensor, wanted: Tensor, what: str, rtol: float = 1e-12, atol: float = 1e-14) -> None:
    """Raise `CheckFailed` unless two tensors have the same shape and values; NaN equals NaN."""
    has_shape(found, wanted.shape, what)
    off = ~torch.isclose(found, wanted.to(found.dtype), rtol=rtol, atol=atol, equal_nan=True)
    if off.any():
        place = tuple(off.nonzero()[0].tolist())
        where = f" at {list(place)}" if place else ""
        raise CheckFailed(
            f"{what}: found {found[place].item():.9g}{where}, wanted {wanted[place].item():.9g} "
            f"({int(off.sum())} of {off.numel()} differ)"
        )


def has_shape(found: object, wanted: torch.Size | tuple[int, ...], what: str) -> None:
    """Raise `CheckFailed` unless it is a tensor of the shape that is wanted."""
    if not isinstance(found, Tensor):
        raise CheckFailed(f"{what}: found {type(found).__name__}, wanted a tensor of shape {list(wanted)}")
    if found.shape != wanted:
        raise CheckFailed(f"{what}: found shape {list(found.shape)}, wanted {list(wanted)}")


def is_finite(found: Tensor, prediction: Tensor, target: Tensor, what: str) -> None:
    """Raise `CheckFailed`, with the first example that is to blame, unless every entry is finite.

    found: `[N, ...]`, or `[]` for one value in all.
    """
    if found.isfinite().all():
        return
    if not found.ndim:
        raise CheckFailed(f"{what}: found {found.item()}, wanted a finite one")
    n = int((~found.isfinite()).nonzero()[0, 0])
    bad = found[n][~found[n].isfinite()].flatten()[0].item()
    given = f"prediction {_shown(prediction[n])} and target {_shown(target[n])}"
    raise CheckFailed(f"{what}: found {bad} for {given}, wanted a finite one")


def _shown(values: Tensor, most: int = 8) -> str:
    numbers = values.detach().flatten().tolist()
    text = ", ".join(f"{v:.4g}" for v in numbers[:most])
    return f"[{text}{', …' if len(numbers) > most else ''}]"
