"""Products of stacked matrices by NumPy."""

import subprocess
import sys

import pytest
import torch

from lossbench.training.replicas import (
    FEWEST_MATRICES,
    batched_matmul,
    get_one_core_environment,
    is_column_major,
    is_numpy_matmul_faster,
)


@pytest.mark.parametrize("sizes", [(3, 4, 5), (3, 1, 5), (3, 4, 1)])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("column_major", [False, True])
def test_they_are_torchs_and_stored_as_asked(sizes, transposed, column_major):
    n, k, m = sizes
    a, b = torch.randn(FEWEST_MATRICES, n, k).double(), torch.randn(FEWEST_MATRICES, k, m).double()
    out = batched_matmul(a.mT.contiguous().mT if transposed else a, b, column_major)
    torch.testing.assert_close(out, a @ b)
    assert m == 1 or is_column_major(out) is column_major


def test_they_overflow_in_silence():
    assert batched_matmul(torch.full((1, 2, 2), 1e30), torch.full((1, 2, 2), 1e30)).isinf().all()


def test_few_matrices_and_half_precision_are_left_to_torch():
    assert not is_numpy_matmul_faster(torch.zeros(FEWEST_MATRICES - 1, 2, 2))
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_numpy_matmul_faster(torch.zeros(FEWEST_MATRICES, 2, 2))


@pytest.mark.slow
def test_a_process_with_one_core_uses_them():
    code = (
        "import torch; from lossbench.training.replicas import is_numpy_matmul_faster; "
        "print(is_numpy_matmul_faster(torch.zeros(4, 2, 2)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], env=get_one_core_environment(), capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "True"


def test_kernels_that_are_asked_for_by_hand_stay(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert get_one_core_environment().get("OPENBLAS_CORETYPE", "Haswell") == "Haswell"
