"""What metrics do with rows: a row with a prediction that is not finite gets NaN, other rows are not touched."""

import torch
from torch import Tensor


def wide(prediction: Tensor) -> Tensor:
    """Half precision as single."""
    return prediction if prediction.dtype in {torch.float32, torch.float64} else prediction.float()


def finite(prediction: Tensor) -> Tensor:
    """Where all numbers of a prediction are finite, `[R, N, ...]` over the last axis."""
    return prediction.abs().amax(-1).isfinite()  # the largest is NaN where any is; isfinite() of all takes 5x as long


def or_nan(values: Tensor, valid: Tensor) -> Tensor:
    """`values`, NaN where they are not valid."""
    return torch.where(valid, values, torch.nan)
