"""Products of stacked matrices by NumPy."""

import subprocess
import sys

import pytest
import torch

from lossbench.training.replicas import FEWEST, get_one_core_environment, is_by_columns, product, usable


@pytest.mark.parametrize("sizes", [(3, 4, 5), (3, 1, 5), (3, 4, 1)])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("by_columns", [False, True])
def test_they_are_torchs_and_stored_as_asked(sizes, turned, by_columns):
    n, k, m = sizes
    a, b = torch.randn(FEWEST, n, k).double(), torch.randn(FEWEST, k, m).double()
    out = product(a.mT.contiguous().mT if turned else a, b, by_columns)
    torch.testing.assert_close(out, a @ b)
    assert m == 1 or is_by_columns(out) is by_columns


def test_they_overflow_in_silence():
    assert product(torch.full((1, 2, 2), 1e30), torch.full((1, 2, 2), 1e30)).isinf().all()


def test_few_matrices_and_half_precision_are_left_to_torch():
    assert not usable(torch.zeros(FEWEST - 1, 2, 2))
    with torch.autocast("cpu", torch.bfloat16):
        assert not usable(torch.zeros(FEWEST, 2, 2))


@pytest.mark.slow
def test_a_process_with_one_core_uses_them():
    code = "import torch; from lossbench.training.replicas import usable; print(usable(torch.zeros(4, 2, 2)))"
    out = subprocess.run(
        [sys.executable, "-c", code], env=get_one_core_environment(), capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "True"


def test_kernels_that_are_asked_for_by_hand_stay(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert get_one_core_environment().get("OPENBLAS_CORETYPE", "Haswell") == "Haswell"
