"""The networks of a stack as rows of one parameter `theta[R, P]`: row r is replica r, so replicas never mix.

Well-known layers run on the whole stack without vmap: inputs `[R, B, ...]`, parameters `[R, ...]`. On a CPU, layers of
images go replica by replica: one replica's feature maps stay in its cache from layer to layer, and torch's grouped
convolutions are slow there. Measured on one core, forward and backward of three convolutions on 32 x 32 pixels, 64
replicas: 2.5 ms a replica, against 5.7 with groups. On a GPU all replicas are one grouped convolution, in one memory
layout.

In a process that has one core, stacked matrices are multiplied by NumPy, whose OpenBLAS is made for small matrices.
Torch's MKL has no AVX-512 kernels for AMD's processors, and is slow where a result has few columns. Measured on one
core of a Zen 5, products of 64 x 64 matrices: 5.5 us by MKL, 4.9 by OpenBLAS as it comes, 2.2 by its AVX-512 kernels.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
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
"""Applies a layer to a stack, from the module, its parameters `[R, ...]` and its input `[R, B, ...]`."""
Forward = Callable[[Tensors, Tensor], Tensor]

ELEMENTWISE = (nn.ReLU, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Identity)
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
IMAGE_LAYERS = (nn.Conv2d, nn.GroupNorm, nn.Flatten, Columns, GlobalMaxPool, *POOLS, *ELEMENTWISE)

ONE_THREAD = "1" in {os.environ.get(name) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}
"""True if OpenBLAS has been told to use one thread; it looks once, when NumPy is loaded."""

FEWEST_MATRICES = 4
"""With fewer matrices the way to NumPy and back costs more than it saves."""


def get_one_core_environment() -> dict[str, str]:
    """Return the environment of a process that is to use one core, and that core's widest vectors."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    # OpenBLAS 0.3.31 does not know Zen 5, and would take the kernels of Haswell
    wide = {"X86_V4", "AVX512_SKX"} & set(np.show_config(mode="dicts")["SIMD Extensions"]["found"])
    return threads | ({"OPENBLAS_CORETYPE": os.environ.get("OPENBLAS_CORETYPE", "SkylakeX")} if wide else {})


def is_numpy_matmul_faster(x: Tensor) -> bool:
    """Return whether `batched_matmul` is the fastest way for tensors like `x`."""
    known = x.ndim == 3 and x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
    return ONE_THREAD and known and x.is_cpu and x.shape[0] >= FEWEST_MATRICES


def batched_matmul(a: Tensor, b: Tensor, column_major: bool = False) -> Tensor:
    """Multiply stacks `[R, n, k]` and `[R, k, m]` by NumPy; no gradient passes.

    column_major: how the result is stored.
    """
    if column_major:
        return batched_matmul(b.mT, a.mT).mT  # (a b)^T = b^T a^T
    a, b = a.detach(), b.detach()
    if a.shape[2] == 1:  # an outer product: NumPy does not leave it to BLAS
        return a * b
    out = a.new_empty(a.shape[0], a.shape[1], b.shape[2])
    with np.errstate(all="ignore"):  # replicas that diverge are frozen by the optimiser
        np.matmul(a.numpy(), b.numpy(), out=out.numpy())
    return out


def is_column_major(x: Tensor) -> bool:
    """Return whether the matrices of a stack are stored by columns."""
    return x.stride(2) != 1 or x.shape[2] == 1


def fold_into_channels(x: Tensor) -> Tensor:
    """Reshape `[R, B, C, ...]` to `[B, R*C, ...]`: a view of what `unfold_channels` gave."""
    return x.transpose(0, 1).flatten(1, 2)


def unfold_channels(x: Tensor, n_replicas: int) -> Tensor:
    """Reshape `[B, R*C, ...]` to `[R, B, C, ...]`, a view."""
    return x.unflatten(1, (n_replicas, -1)).transpose(0, 1)


class _Linear(torch.autograd.Function):
    """`x weight^T + bias` with its gradients, with ReLU or without, by `batched_matmul`.

    x: `[R, B, in]`; weight: `[R, out, in]`; bias: `[R, out]`. OpenBLAS takes twice as long for a row-major times a
    column-major matrix: the layout of the output, and with it of its gradient, avoids that where it can.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        # over few outputs, column-major as well: reductions then work on vectors, not on single numbers
        narrow = weight.shape[1] < NARROW
        column_major = narrow or (is_column_major(weight) and x.requires_grad and not is_column_major(x))
        out = batched_matmul(x, weight.mT, column_major)  # [R, B, out]
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
            batched_matmul(gradient, weight, is_column_major(x)) if needed[0] else None,  # [R, B, in]
            batched_matmul(gradient.mT, x, is_column_major(weight)) if needed[1] else None,  # [R, out, in]
            gradient.sum(1) if needed[2] else None,  # [R, out]
            None,
        )


def _apply_linear(module: nn.Module, tensors: Tensors, x: Tensor, relu: bool = False) -> Tensor:
    if x.ndim > 3:  # [R, B, T, W]: every step of every example is one more row of the product
        return _apply_linear(module, tensors, x.flatten(1, -2), relu).unflatten(1, x.shape[1:-1])
    weight, bias = tensors["weight"], tensors.get("bias")
    if is_numpy_matmul_faster(x):
        return _Linear.apply(x, weight, bias, relu)
    out = torch.bmm(x, weight.mT) if bias is None else torch.baddbmm(bias[:, None], x, weight.mT)
    return out.relu_() if relu else out


_apply_linear_relu = partial(_apply_linear, relu=True)


def _apply_conv2d(module: nn.Module, tensors: Tensors, x: Tensor) -> Tensor:
    assert isinstance(module, nn.Conv2d)  # for the type checker; the rule table guarantees it
    n_replicas = x.shape[0]
    weight, bias = tensors["weight"].flatten(0, 1), tensors.get("bias")  # [R out, in / groups, H, W], [R, out]
    out = F.conv2d(
        fold_into_channels(x),
        weight,
        None if bias is None else bias.flatten(),
        module.stride,
        module.padding,
        module.dilation,
        groups=n_replicas * module.groups,
    )
    return unfold_channels(out, n_replicas)


def _apply_group_norm(module: nn.Module, tensors: Tensors, x: Tensor) -> Tensor:
    assert isinstance(module, nn.GroupNorm)
    n_replicas = x.shape[0]
    weight, bias = (tensors[n].flatten() if n in tensors else None for n in ("weight", "bias"))
    groups = n_replicas * module.num_groups
    return unfold_channels(F.group_norm(fold_into_channels(x), groups, weight, bias, module.eps), n_replicas)


def _apply_pool(module: nn.Module, tensors: Tensors, x: Tensor) -> Tensor:
    return unfold_channels(module(fold_into_channels(x)), x.shape[0])


def _apply_cosine(module: nn.Module, tensors: Tensors, x: Tensor) -> Tensor:
    assert isinstance(module, CosineHead)
    return module.score(x, tensors["weight"])


def _apply_columns(module: nn.Module, tensors: Tensors, x: Tensor) -> Tensor:
    return x.permute(0, 1, 4, 2, 3).flatten(3)  # [R, B, C, H, W] to [R, B, W, C*H]


def _get_rule(module: nn.Module) -> Rule | None:
    """Return how to apply a layer to a stack; None if there is no rule for it."""
    kind = type(module)
    if kind in ELEMENTWISE or kind is GlobalMaxPool:  # which works on the last two axes
        return lambda m, t, x: m.forward(x)
    if kind in POOLS:
        return _apply_pool
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
        return lambda m, t, x: x.flatten(2)
    if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
        return None
    rules: dict[type, Rule] = {nn.Linear: _apply_linear, nn.Conv2d: _apply_conv2d, nn.GroupNorm: _apply_group_norm}
    return (rules | {CosineHead: _apply_cosine, Columns: _apply_columns}).get(kind)


def _list_leaves(module: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """List the layers of a chain with the prefix of their parameters' names."""
    if type(module) is not nn.Sequential:
        return [(prefix, module)]
    return [leaf for name, child in module.named_children() for leaf in _list_leaves(child, f"{prefix}{name}.")]


def build_stacked_forward(network: nn.Module) -> Forward | None:
    """Build the forward of a stack of `network`s if it is a chain of layers that have rules, else return None."""
    # 1. a rule per layer; a ReLU right after a linear layer is merged with it
    leaves = _list_leaves(network)
    rules: list[Rule] = []
    for _, module in leaves:
        rule = _get_rule(module)
        if rule is None:
            return None
        if type(module) is nn.ReLU and rules and rules[-1] is _apply_linear:
            rules[-1], rule = _apply_linear_relu, lambda m, t, x: x
        rules.append(rule)

    # 2. per layer, short names of its parameters to their names in the network
    names = [{n: prefix + n for n, _ in module.named_parameters()} for prefix, module in leaves]
    layers = [(module, rule, full) for (_, module), rule, full in zip(leaves, rules, names, strict=True)]

    # 3. how many of the first layers are of images, if any is a convolution
    images = list(takewhile(lambda layer: type(layer[0]) in IMAGE_LAYERS, layers))
    n_images = len(images) if any(type(module) is nn.Conv2d for module, _, _ in images) else 0

    def forward(tensors: Tensors, x: Tensor) -> Tensor:
        n_looped = n_images if is_replica_by_replica(x) else 0
        if n_looped:
            x = _forward_one_by_one(layers[:n_looped], tensors, x)
        for module, rule, full in layers[n_looped:]:
            x = rule(module, {name: tensors[full_name] for name, full_name in full.items()}, x)
        return x

    return forward


def is_replica_by_replica(x: Tensor) -> bool:
    """Return whether layers of images take one replica after another."""
    return x.is_cpu


def _forward_one_by_one(
    layers: Sequence[tuple[nn.Module, Rule, Mapping[str, str]]], tensors: Tensors, x: Tensor
) -> Tensor:
    # unbind, not an index per replica: the backward of that writes a gradient of the whole stack for each replica
    parts = {name: tensors[name].unbind() for _, _, full in layers for name in full.values()}
    outputs = []
    for r, image in enumerate(x.unbind()):
        out = image  # [B, C, H, W]
        for module, _, full in layers:
            out = _apply_to_replica(module, {name: parts[full_name][r] for name, full_name in full.items()}, out)
        outputs.append(out)
    return torch.stack(outputs)


def _apply_to_replica(module: nn.Module, tensors: Tensors, x: Tensor) -> Tensor:
    """Apply a layer to one replica with other parameters, without the time that `functional_call` takes."""
    if isinstance(module, nn.Conv2d):
        return module._conv_forward(x, tensors["weight"], tensors.get("bias"))
    if isinstance(module, nn.GroupNorm):
        return F.group_norm(x, module.num_groups, tensors.get("weight"), tensors.get("bias"), module.eps)
    out: Tensor = module(x)
    return out


class Replicas(nn.Module):
    """The networks of a stack; behind each replica's network parameters lie the trainable ones of its loss.

    One tensor serves gradients, clipping, freezing, decay and the best-epoch copy alike. Replicas whose losses have
    fewer parameters than the widest are padded with zeros, whose gradients are zero.
    """

    def __init__(self, networks: Sequence[nn.Module], extra: Tensor | None = None) -> None:
        super().__init__()
        first = networks[0]
        trained = {name: p for name, p in first.named_parameters() if p.requires_grad}
        self.names, self.shapes = list(trained), [p.shape for p in trained.values()]
        self.sizes = [math.prod(s) for s in self.shapes]
        # weights [out, in] that lie in theta as [in, out]: products are fast along long rows
        wide = {
            f"{name}.weight" if name else "weight"
            for name, module in first.named_modules()
            if type(module) is nn.Linear and module.out_features >= module.in_features
        }
        self.transposed = frozenset(wide) & set(trained)

        # 1. theta [R, P]: each network's trained parameters, then its loss's [R, Q]
        flat, fixed = [], []
        for network in networks:
            parameters = {n: p.detach() for n, p in network.named_parameters()}
            parts = [parameters[n].mT if n in self.transposed else parameters[n] for n in self.names]
            flat.append(torch.cat([torch.zeros(0), *(p.flatten() for p in parts)]))
            frozen = {n: p for n, p in parameters.items() if n not in trained}
            fixed.append(dict(network.named_buffers()) | frozen)
        theta = torch.stack(flat)
        self.theta = nn.Parameter(theta if extra is None else torch.cat([theta, extra.to(theta)], 1))
        self.n_extra = self.theta.shape[1] - sum(self.sizes)

        # 2. what is not trained: buffers, and parameters that the network has frozen itself
        self.buffer_names = list(fixed[0])
        for i, name in enumerate(self.buffer_names):
            self.register_buffer(f"buffer{i}", torch.stack([values[name] for values in fixed]))

        # 3. the ways to run them, fastest first; tried by kind, not by timing: a timed choice would make the numbers
        # differ from run to run
        self._network = [first]  # in a list it is not registered: it is no second set of parameters
        batched = build_stacked_forward(first)
        self._routes: list[tuple[str, Forward]] = [] if batched is None else [("batched", batched)]
        self._routes += [("vmap", self._forward_vmap), ("loop", self._forward_loop)]
        self.route, self._forward = self._routes[0]

    def choose_route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Choose the fastest route that takes a batch `[R, B, ...]`; return its output. Buffers are left as they were.

        What vmap refuses (LSTM, data-dependent branches) is looped. Raises what the loop raises.
        """
        for route in self._routes[:-1]:
            try:
                return self._try_route(route, x)
            except Exception:  # a route may be refused in many ways; the loop shows the network's own
                continue
        return self._try_route(self._routes[-1], x)

    @torch.no_grad()
    def _try_route(self, route: tuple[str, Forward], x: Tensor) -> tuple[Tensor, Tensor]:
        self.route, self._forward = route
        before = [b.clone() for b in self.buffers()]
        out = self(x)
        for buffer, old in zip(self.buffers(), before, strict=True):
            buffer.copy_(old)
        return out

    @property
    def n_trunk(self) -> int:
        """The number of a replica's first parameters that are the trunk's: those of all modules but the last."""
        modules = [name.split(".")[0] for name in self.names]
        return sum(size for size, module in zip(self.sizes, modules, strict=True) if module != modules[-1])

    def get_tensors(self, theta: Tensor | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """Return the named parameters `[R, ...]` and the losses' columns `[R, Q]`, as views of `theta`."""
        theta = self.theta if theta is None else theta
        *parts, extra = theta.split([*self.sizes, self.n_extra], 1)  # split, not slices: one cat in the backward
        tensors = {
            name: part.view(-1, *shape[::-1]).mT if name in self.transposed else part.view(-1, *shape)
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }
        return tensors, extra

    def get_stacked_buffers(self) -> dict[str, Tensor]:
        """Return the networks' buffers by name, `[R, ...]`; a forward in training mode updates them in place."""
        return {name: getattr(self, f"buffer{i}") for i, name in enumerate(self.buffer_names)}

    def forward(self, batch: Tensor, theta: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map `[R, B, ...]` to the raw outputs `[R, B, K]`; return the losses' columns `[R, Q]` as well."""
        tensors, extra = self.get_tensors(theta)
        if self._network[0].training != self.training:
            self._network[0].train(self.training)
        return self._forward(tensors | self.get_stacked_buffers(), batch), extra

    def _forward_vmap(self, tensors: Tensors, batch: Tensor) -> Tensor:
        def forward(values: dict[str, Tensor], x: Tensor) -> Tensor:
            return functional_call(self._network[0], values, (x,))

        return vmap(forward, randomness="different")(dict(tensors), batch)

    def _forward_loop(self, tensors: Tensors, batch: Tensor) -> Tensor:
        outputs = [
            functional_call(self._network[0], {n: t[r] for n, t in tensors.items()}, (x,)) for r, x in enumerate(batch)
        ]
        return torch.stack(outputs)

    def get_decay_mask(self) -> Tensor:
        """Return 1 for the columns that decay acts on, `[P]`: matrices and kernels.

        Biases, norms and losses' parameters do not decay.
        """
        parts = [
            torch.full((size,), float(len(shape) > 1)) for size, shape in zip(self.sizes, self.shapes, strict=True)
        ]
        return torch.cat([*parts, torch.zeros(self.n_extra)])
