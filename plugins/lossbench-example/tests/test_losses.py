"""The loss: its formula, and the contract that every loss keeps."""

import pickle

import pytest
import torch

from lossbench import losses
from lossbench.check import CHECKS, Check


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_contract(check: Check) -> None:
    check.verify(losses.get("trimmed_mae"))


@pytest.mark.parametrize("cut", [1.0, 3])
def test_formula(cut: float) -> None:
    prediction = torch.linspace(-5, 5, 20, dtype=torch.float64).view(10, 2)
    got = losses.get("trimmed_mae", cut=cut)(prediction, torch.zeros_like(prediction))
    torch.testing.assert_close(got, prediction.abs().clamp(max=cut).mean(1))


def test_gradient_stops_at_the_cut() -> None:
    prediction = torch.tensor([[0.5], [4.0]], requires_grad=True)
    losses.get("trimmed_mae")(prediction, torch.zeros(2, 1)).sum().backward()
    assert prediction.grad.tolist() == [[1.0], [0.0]]


def test_vmap_refuses_it() -> None:
    loss = losses.get("trimmed_mae")
    with pytest.raises(RuntimeError):
        torch.vmap(loss)(torch.randn(2, 4, 1), torch.zeros(2, 4, 1))


def test_is_a_value_and_a_module() -> None:
    loss = losses.get("trimmed_mae", cut=2.0)
    assert pickle.loads(pickle.dumps(loss)) == loss
    assert loss.module()(torch.full((3, 1), 9.0), torch.zeros(3, 1)) == 2
