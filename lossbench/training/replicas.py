"""Well-known layers on a stack: inputs `[R, B, ...]`, parameters `[R, ...]`, no vmap.

Layers of images go row by row on a CPU: one row's feature maps stay in its cache from layer to layer, and torch's
grouped convolutions are slow there. Measured on one core, forward and backward of three convolutions on 32 x 32 pixels,
64 rows: 2.5 ms a row, against 5.7 with groups. On a GPU all rows are one grouped convolution, in one memory layout.

Products of stacked matrices in a process that has one core: by NumPy, whose OpenBLAS is made for small matrices.

Torch's MKL has no AVX-512 kernels for AMD's processors, and is slow where a result has few columns. Measured on one
core of a Zen 5, products of 64 x 64 matrices: 5.5 us by MKL, 4.9 by OpenBLAS as it comes, 2.2 by its AVX-512 kernels.

R networks as rows of one parameter `theta[R, P]`: row r is trial r, so rows never mix.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from lossbench.models.heads import CosineHead
from lossbench.models.networks import GlobalMaxPool
from lossbench.models.recognisers import Columns
from lossbench.numerics.softmax import NARROW

Tensors = Mapping[str, Tensor]
Rule = Callable[[nn.Module, Tensors, Tensor], Tensor]

ELEMENTWISE = (nn.ReLU, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Identity)
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
OF_IMAGES = (nn.Conv2d, nn.GroupNorm, nn.Flatten, Columns, GlobalMaxPool, *POOLS, *ELEMENTWISE)


def as_channels(x: Tensor) -> Tensor:
    """`[R, B, C, ...]` to `[B, R*C, ...]`: a view of what `from_channels` gave."""
    return x.transpose(0, 1).flatten(1, 2)


def from_channels(x: Tensor, rows: int) -> Tensor:
    """`[B, R*C, ...]` to `[R, B, C, ...]`, a view."""
    return x.unflatten(1, (rows, -1)).transpose(0, 1)


class _Linear(torch.autograd.Function):
    """What autograd does for `x weight^T + bias`, with ReLU or without, by our own products.

    OpenBLAS takes twice as long for a matrix by rows times one by columns: `_by_columns` avoids that where it can.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        out = product(x, weight.mT, _by_columns(x, weight))
        if bias is not None:
            out += bias[:, None]
        ctx.save_for_backward(x, weight, out.relu_() if relu else None)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight, out), (gradient,), needed = ctx.saved_tensors, gradients, ctx.needs_input_grad
        if out is not None:
            gradient = torch.ops.aten.threshold_backward(gradient, out, 0)  # what torch's own ReLU does
        return (
            product(gradient, weight, is_by_columns(x)) if needed[0] else None,
            product(gradient.mT, x, is_by_columns(weight)) if needed[1] else None,
            gradient.sum(1) if needed[2] else None,
            None,
        )


def _by_columns(x: Tensor, weight: Tensor) -> bool:
    """How to store a layer's output, and with it its gradient."""
    if weight.shape[1] < NARROW:
        return True  # reductions over few outputs are vectors' work then, not numbers'
    return is_by_columns(weight) and x.requires_grad and not is_by_columns(x)


def _linear(module: nn.Module, tensors: Tensors, x: Tensor, relu: bool = False) -> Tensor:
    if x.ndim > 3:  # [R, B, T, W]: every step of every example is one more row of the product
        return _linear(module, tensors, x.flatten(1, -2), relu).unflatten(1, x.shape[1:-1])
    weight, bias = tensors["weight"], tensors.get("bias")
    if usable(x):
        return _Linear.apply(x, weight, bias, relu)
    out = torch.bmm(x, weight.mT) if bias is None else torch.baddbmm(bias[:, None], x, weight.mT)
    return out.relu_() if relu else out


_linear_relu = partial(_linear, relu=True)


def _conv2d(module: nn.Module, tensors: Tensors, x: Tensor) -> Tensor:
    assert isinstance(module, nn.Conv2d)  # for the type checker; the rule table guarantees it
    rows = x.shape[0]
    weight, bias = tensors["weight"].flatten(0, 1), tensors.get("bias")
    out = F.conv2d(
        as_channels(x),
        weight,
        None if bias is None else bias.flatten(),
        module.stride,
        module.padding,
        module.dilation,
        groups=rows * module.groups,
    )
    return from_channels(out, rows)


def _group_norm(module: nn.Module, tensors: Tensors, x: Tensor) -> Tensor:
    assert isinstance(module, nn.GroupNorm)
    rows = x.shape[0]
    weight, bias = (tensors[n].flatten() if n in tensors else None for n in ("weight", "bias"))
    return from_channels(F.group_norm(as_channels(x), rows * module.num_groups, weight, bias, module.eps), rows)


def _pool(module: nn.Module, tensors: Tensors, x: Tensor) -> Tensor:
    out = module(as_channels(x))
    return from_channels(out, x.shape[0])


def _cosine(module: nn.Module, tensors: Tensors, x: Tensor) -> Tensor:
    assert isinstance(module, CosineHead)
    return module.score(x, tensors["weight"])


def _columns(module: nn.Module, tensors: Tensors, x: Tensor) -> Tensor:
    return x.permute(0, 1, 4, 2, 3).flatten(3)


def _unchanged(module: nn.Module, tensors: Tensors, x: Tensor) -> Tensor:
    return x


def _rule(module: nn.Module) -> Rule | None:
    kind = type(module)
    if kind in ELEMENTWISE or kind is GlobalMaxPool:  # which works on the last two axes
        return lambda m, t, x: m.forward(x)
    if kind in POOLS:
        return _pool
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
        return lambda m, t, x: x.flatten(2)
    if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
        return None
    rules: dict[type, Rule] = {nn.Linear: _linear, nn.Conv2d: _conv2d, nn.GroupNorm: _group_norm}
    return (rules | {CosineHead: _cosine, Columns: _columns}).get(kind)


def _leaves(module: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    if type(module) is not nn.Sequential:
        return [(prefix, module)]
    return [leaf for name, child in module.named_children() for leaf in _leaves(child, f"{prefix}{name}.")]


def stacked_sequential(network: nn.Module) -> Callable[[Tensors, Tensor], Tensor] | None:
    """The forward of a stack of `network`s if it is a chain of layers known here, else None."""
    leaves = _leaves(network)
    rules = _rules([module for _, module in leaves])
    if rules is None:
        return None
    names = [{n: prefix + n for n, _ in module.named_parameters()} for prefix, module in leaves]
    layers = [(module, rule, own) for (_, module), rule, own in zip(leaves, rules, names, strict=True)]
    images = list(takewhile(lambda layer: type(layer[0]) in OF_IMAGES, layers))
    n_images = len(images) if any(type(module) is nn.Conv2d for module, _, _ in images) else 0

    def forward(tensors: Tensors, x: Tensor) -> Tensor:
        by_rows = n_images if goes_by_rows(x) else 0
        if by_rows:
            x = _row_by_row(layers[:by_rows], tensors, x)
        for module, rule, own in layers[by_rows:]:
            x = rule(module, {n: tensors[full] for n, full in own.items()}, x)
        return x

    return forward


def goes_by_rows(x: Tensor) -> bool:
    """Whether layers of images take one row after another."""
    return x.is_cpu


def _row_by_row(layers: Sequence[tuple[nn.Module, Rule, Mapping[str, str]]], tensors: Tensors, x: Tensor) -> Tensor:
    # unbind, not an index per row: the backward of that writes a gradient of the whole stack for each row
    rows = {full: tensors[full].unbind() for _, _, own in layers for full in own.values()}

    def through(r: int, out: Tensor) -> Tensor:
        for module, _, own in layers:
            out = _one_row(module, {n: rows[full][r] for n, full in own.items()}, out)
        return out

    return torch.stack([through(r, row) for r, row in enumerate(x.unbind())])


def _one_row(module: nn.Module, tensors: Tensors, x: Tensor) -> Tensor:
    """A layer on one row: what the module does, with other parameters, and without the time of `functional_call`."""
    if isinstance(module, nn.Conv2d):
        return module._conv_forward(x, tensors["weight"], tensors.get("bias"))
    if isinstance(module, nn.GroupNorm):
        return F.group_norm(x, module.num_groups, tensors.get("weight"), tensors.get("bias"), module.eps)
    out: Tensor = module(x)
    return out


def _rules(modules: Sequence[nn.Module]) -> list[Rule] | None:
    rules: list[Rule] = []
    for module in modules:
        rule = _rule(module)
        if rule is None:
            return None
        if type(module) is nn.ReLU and rules and rules[-1] is _linear:
            rules[-1], rule = _linear_relu, _unchanged
        rules.append(rule)
    return rules


ONE_THREAD = "1" in {os.environ.get(name) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}
"""Whether OpenBLAS has been told to be alone; it looks once, when NumPy is loaded."""

FEWEST = 4
"""With fewer matrices the way to NumPy and back costs more than it saves."""


def get_one_core_environment() -> dict[str, str]:
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


Forward = Callable[[Tensors, Tensor], Tensor]


class Replicas(nn.Module):
    """The networks of a stack, and behind each row's network parameters the trainable ones of its loss.

    One tensor serves gradients, clipping, freezing, decay and the best-epoch copy alike. Rows whose losses have fewer
    parameters than the widest are padded with zeros, whose gradients are zero.
    """

    def __init__(self, networks: Sequence[nn.Module], extra: Tensor | None = None) -> None:
        super().__init__()
        first = networks[0]
        trained = {name: p for name, p in first.named_parameters() if p.requires_grad}
        self.names, self.shapes = list(trained), [p.shape for p in trained.values()]
        self.sizes = [math.prod(s) for s in self.shapes]
        self.turned = frozenset(_wide(first)) & set(trained)
        rows = torch.stack([self._flat(n) for n in networks])
        self.theta = nn.Parameter(rows if extra is None else torch.cat([rows, extra.to(rows)], 1))
        self.n_extra = self.theta.shape[1] - sum(self.sizes)
        # what is not trained: buffers, and parameters that the network has frozen itself
        kept = [_untrained(n, trained) for n in networks]
        self.buffer_names = list(kept[0])
        for i, name in enumerate(self.buffer_names):
            self.register_buffer(f"buffer{i}", torch.stack([values[name] for values in kept]))
        self._network = [first]  # in a list it is not registered: it is no second set of parameters
        self._routes = self._known_routes(first)
        self.route, self._forward = self._routes[0]

    def _known_routes(self, network: nn.Module) -> list[tuple[str, Forward]]:
        # tried by kind, not by timing: a timed choice would make the numbers differ from run to run
        batched = stacked_sequential(network)
        rest: list[tuple[str, Forward]] = [("vmap", self._vmapped), ("loop", self._looped)]
        return rest if batched is None else [("batched", batched), *rest]

    def settle(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Choose the fastest route that takes a batch `[R, B, ...]`; its output. Buffers are left as they were.

        What vmap refuses (LSTM, data-dependent branches) is looped. Raises what the loop raises.
        """
        for route in self._routes[:-1]:
            try:
                return self._tried(route, x)
            except Exception:  # a route may be refused in many ways; the loop shows the network's own
                continue
        return self._tried(self._routes[-1], x)

    @property
    def n_trunk(self) -> int:
        """How many of a row's first parameters are the trunk's: those of all modules but the last."""
        modules = [name.split(".")[0] for name in self.names]
        return sum(size for size, module in zip(self.sizes, modules, strict=True) if module != modules[-1])

    @torch.no_grad()
    def _tried(self, route: tuple[str, Forward], x: Tensor) -> tuple[Tensor, Tensor]:
        self.route, self._forward = route
        kept = [b.clone() for b in self.buffers()]
        out = self(x)
        for buffer, old in zip(self.buffers(), kept, strict=True):
            buffer.copy_(old)
        return out

    def tensors(self, theta: Tensor | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """Named parameters `[R, ...]` and the losses' columns `[R, Q]`, as views of `theta`."""
        theta = self.theta if theta is None else theta
        *parts, extra = theta.split([*self.sizes, self.n_extra], 1)  # split, not slices: one cat in the backward
        return {n: self._shaped(n, t, s) for n, t, s in zip(self.names, parts, self.shapes, strict=True)}, extra

    def _shaped(self, name: str, part: Tensor, shape: torch.Size) -> Tensor:
        return part.view(-1, *shape[::-1]).mT if name in self.turned else part.view(-1, *shape)

    def _flat(self, network: nn.Module) -> Tensor:
        parameters = {n: p.detach() for n, p in network.named_parameters()}
        parts = [parameters[n].mT if n in self.turned else parameters[n] for n in self.names]
        return torch.cat([torch.zeros(0), *(p.flatten() for p in parts)])

    def stacked_buffers(self) -> dict[str, Tensor]:
        """The networks' buffers by name, `[R, ...]`; a forward in training mode updates them in place."""
        return {name: getattr(self, f"buffer{i}") for i, name in enumerate(self.buffer_names)}

    def forward(self, batch: Tensor, theta: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`[R, B, ...]` to the raw outputs `[R, B, K]` and the losses' columns `[R, Q]`."""
        tensors, extra = self.tensors(theta)
        if self._network[0].training != self.training:
            self._network[0].train(self.training)
        return self._forward(tensors | self.stacked_buffers(), batch), extra

    def _vmapped(self, tensors: Tensors, batch: Tensor) -> Tensor:
        def one(values: dict[str, Tensor], x: Tensor) -> Tensor:
            return functional_call(self._network[0], values, (x,))

        return vmap(one, randomness="different")(dict(tensors), batch)

    def _looped(self, tensors: Tensors, batch: Tensor) -> Tensor:
        rows = range(batch.shape[0])
        return torch.stack(
            [functional_call(self._network[0], {n: t[r] for n, t in tensors.items()}, (batch[r],)) for r in rows]
        )

    def decays(self) -> Tensor:
        """1 for the columns that decay acts on: matrices and kernels, not biases, norms or losses' parameters."""
        parts = [
            torch.full((size,), float(len(shape) > 1)) for size, shape in zip(self.sizes, self.shapes, strict=True)
        ]
        return torch.cat([*parts, torch.zeros(self.n_extra)])


def _untrained(network: nn.Module, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    frozen = {n: p.detach() for n, p in network.named_parameters() if n not in trained}
    return dict(network.named_buffers()) | frozen


def _wide(network: nn.Module) -> Iterator[str]:
    """Weights `[out, in]` that lie in theta as `[in, out]`: products are fast along long rows."""
    for name, module in network.named_modules():
        if type(module) is nn.Linear and module.out_features >= module.in_features:
            yield f"{name}.weight" if name else "weight"
