"""Assertions about tensors, which raise `CheckFailed` with the place, the result and the expected value."""

import torch
from torch import Tensor

from lossbench.check.contract import CheckFailed


def assert_close(result: Tensor, expected: Tensor, label: str, rtol: float = 1e-12, atol: float = 1e-14) -> None:
    """Raise `CheckFailed` unless two tensors have the same shape and values; NaN equals NaN."""
    assert_shape(result, expected.shape, label)
    differs = ~torch.isclose(result, expected.to(result.dtype), rtol=rtol, atol=atol, equal_nan=True)
    if differs.any():
        place = tuple(differs.nonzero()[0].tolist())  # of the first difference; () for a tensor without axes
        where = f" at {list(place)}" if place else ""
        raise CheckFailed(
            f"{label}: got {result[place].item():.9g}{where}, expected {expected[place].item():.9g} "
            f"({int(differs.sum())} of {differs.numel()} differ)"
        )


def assert_shape(result: object, shape: torch.Size | tuple[int, ...], label: str) -> None:
    """Raise `CheckFailed` unless the result is a tensor of this shape."""
    if not isinstance(result, Tensor):
        raise CheckFailed(f"{label}: got {type(result).__name__}, expected a tensor of shape {list(shape)}")
    if result.shape != shape:
        raise CheckFailed(f"{label}: got shape {list(result.shape)}, expected {list(shape)}")


def assert_finite(values: Tensor, prediction: Tensor, target: Tensor, label: str) -> None:
    """Raise `CheckFailed`, with the first example that causes it, unless every entry is finite.

    values: `[N, ...]`, or `[]` for one value of the whole batch.
    """
    if values.isfinite().all():
        return
    if not values.ndim:
        raise CheckFailed(f"{label}: got {values.item()}, expected a finite one")
    n = int((~values.isfinite()).nonzero()[0, 0])
    value = values[n][~values[n].isfinite()].flatten()[0].item()
    example = f"prediction {_format_values(prediction[n])} and target {_format_values(target[n])}"
    raise CheckFailed(f"{label}: got {value} for {example}, expected a finite one")


def _format_values(values: Tensor, most: int = 8) -> str:
    numbers = values.detach().flatten().tolist()
    text = ", ".join(f"{v:.4g}" for v in numbers[:most])
    return f"[{text}{', …' if len(numbers) > most else ''}]"
