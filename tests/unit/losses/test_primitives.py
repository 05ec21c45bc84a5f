"""Terms that families share."""

import numpy as np
import pytest
import torch

from lossbench import losses
from lossbench.interfaces.loss import replicate
from lossbench.losses.primitives import mean, sum_last_axis


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("width", [1, 2, 10, 15, 16, 40])
def test_sums_and_means_against_numpy(width, dtype):
    values = torch.randn(3, 50, width, generator=torch.Generator().manual_seed(0)).to(dtype)
    exact = values.double().numpy()
    close = {"rtol": 0, "atol": 20 * width * torch.finfo(dtype).eps}
    for found, wanted in ((sum_last_axis(values), exact.sum(-1)), (mean(values), exact.mean(-1))):
        assert found.dtype == dtype
        np.testing.assert_allclose(found.double(), wanted, **close)


def test_a_mean_in_float16_does_not_overflow():
    assert mean(torch.full((1, 100), 1000.0, dtype=torch.float16)).item() == 1000


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("width", [1, 4, 20])
def test_what_is_not_finite_stays_in_its_row(bad, width):
    values = torch.ones(5, width)
    values[2, 0] = bad
    assert mean(values).isfinite().tolist() == [True, True, False, True, True]


@pytest.mark.parametrize(("name", "field"), [("huber", "delta"), ("smooth_l1", "beta")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torchs_functions_are_the_formulas_of_stacks(name, field, dtype):
    # alone torch's function is called, in a stack the formula: also at the bend, at 0 and far out
    residual = torch.tensor([0.0, 1e-6, 0.5, 1.0, 1.5, 1e4, 1e15], dtype=dtype)
    prediction = torch.cat([residual, -residual]).view(1, -1, 1).requires_grad_()
    for value in (0.5, 1.0, 2.0):
        loss = losses.get(name, **{field: value})
        row = replicate(loss, **{field: torch.full((1, 1, 1), value, dtype=dtype)})
        results = [part(prediction, torch.zeros_like(prediction)) for part in (loss, row)]
        torch.testing.assert_close(*results)
        torch.testing.assert_close(*(torch.autograd.grad(r.sum(), prediction)[0] for r in results))
