"""Products of stacked matrices in a process that has one core: by NumPy, whose OpenBLAS is made for small matrices.

Torch's MKL has no AVX-512 kernels for AMD's processors, and is slow where a result has few columns. Measured on one
core of a Zen 5, products of 64 x 64 matrices: 5.5 us by MKL, 4.9 by OpenBLAS as it comes, 2.2 by its AVX-512 kernels.
"""

import os

import numpy as np
import torch
from torch import Tensor

ONE_THREAD = "1" in {os.environ.get(name) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}
"""Whether OpenBLAS has been told to be alone; it looks once, when NumPy is loaded."""

FEWEST = 4
"""With fewer matrices the way to NumPy and back costs more than it saves."""


def one_core() -> dict[str, str]:
    """The environment of a process that is to use one core, and that core's widest vectors."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    # OpenBLAS 0.3.31 does not know Zen 5, and would take the kernels of Haswell
    wide = {"X86_V4", "AVX512_SKX"} & set(np.show_config(mode="dicts")["SIMD Extensions"]["found"])
    return threads | ({"OPENBLAS_CORETYPE": os.environ.get("OPENBLAS_CORETYPE", "SkylakeX")} if wide else {})


def usable(x: Tensor) -> bool:
    """Whether `product` is the fastest way for tensors like `x`."""
    known = x.ndim == 3 and x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
    return ONE_THREAD and known and x.is_cpu and x.shape[0] >= FEWEST


def product(a: Tensor, b: Tensor, by_columns: bool = False) -> Tensor:
    """`a b` of stacks `[R, n, k]` and `[R, k, m]`, the result stored by rows or by columns; no gradient passes."""
    if by_columns:
        return product(b.mT, a.mT).mT
    a, b = a.detach(), b.detach()
    if a.shape[2] == 1:  # not for BLAS, NumPy thinks
        return a * b
    out = a.new_empty(a.shape[0], a.shape[1], b.shape[2])
    with np.errstate(all="ignore"):  # rows that diverge are frozen by the optimiser
        np.matmul(a.numpy(), b.numpy(), out=out.numpy())
    return out


def is_by_columns(x: Tensor) -> bool:
    """Whether the matrices of a stack are stored by columns."""
    return x.stride(2) != 1 or x.shape[2] == 1
