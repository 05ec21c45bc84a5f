"""A metric: a frozen dataclass that scores each example, whatever loss the prediction was trained with."""

from dataclasses import dataclass

from torch import Tensor

from lossbench.interfaces.metric import ExampleMetric, is_finite, mask_invalid, widen


@dataclass(frozen=True)
class WithinOne(ExampleMetric):
    """The share of examples whose counts are all predicted to within one, before rounding."""

    tasks = ("counts",)
    higher_is_better = True
    limit = 1.0

    def score_examples(self, prediction: Tensor, target: Tensor) -> Tensor:
        """1 or 0 per example, `[R, N, D]` to `[R, N]`; NaN where the prediction is not finite."""
        values = widen(prediction)
        errors = (values - target.to(values.dtype)).abs().amax(-1)
        return mask_invalid((errors <= 1).to(values.dtype), is_finite(prediction))
