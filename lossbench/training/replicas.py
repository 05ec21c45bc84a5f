"""R networks as rows of one parameter `theta[R, P]`: row r is trial r, so rows never mix."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from lossbench.training.layers import Tensors, stacked_sequential

Forward = Callable[[Tensors, Tensor], Tensor]


class Replicas(nn.Module):
    """The networks of a stack, and behind each row's network parameters the trainable ones of its loss.

    One tensor serves gradients, clipping, freezing, decay and the best-epoch copy alike. Rows whose losses have fewer
    parameters than the widest are padded with zeros, whose gradients are zero.
    """

    def __init__(self, networks: Sequence[nn.Module], extra: Tensor | None = None) -> None:
        super().__init__()
        first = networks[0]
        self.names = [name for name, _ in first.named_parameters()]
        self.shapes = [p.shape for p in first.parameters()]
        self.sizes = [math.prod(s) for s in self.shapes]
        rows = torch.stack([nn.utils.parameters_to_vector(n.parameters()).detach() for n in networks])
        self.theta = nn.Parameter(rows if extra is None else torch.cat([rows, extra.to(rows)], 1))
        self.n_extra = self.theta.shape[1] - sum(self.sizes)
        self.buffer_names = [name for name, _ in first.named_buffers()]
        for i, name in enumerate(self.buffer_names):
            stacked = torch.stack([dict(n.named_buffers())[name] for n in networks])
            self.register_buffer(f"buffer{i}", stacked)
        self._network = [first]  # in a list it is not registered: it is no second set of parameters
        self.route, self._forward = self._choose(first)

    def _choose(self, network: nn.Module) -> tuple[str, Forward]:
        # chosen by kind, not by timing: a timed choice would make the numbers differ from run to run
        forward = stacked_sequential(network)
        if forward is not None:
            return "batched", forward
        return "vmap", self._vmapped

    def use_loop(self) -> None:
        """Run the rows one by one: for networks that vmap refuses (LSTM, data-dependent branches)."""
        self.route, self._forward = "loop", self._looped

    def try_forward(self, x: Tensor) -> None:
        """Settle the route on one batch `[R, B, ...]`: what vmap refuses is looped. Buffers are left as they were."""
        kept = [b.clone() for b in self.buffers()]
        try:
            with torch.no_grad():
                self(x)
        except Exception:  # vmap raises many types; the loop shows the true error if it is the network's own
            if self.route != "vmap":
                raise
            self.use_loop()
        for buffer, old in zip(self.buffers(), kept, strict=True):
            buffer.copy_(old)

    def tensors(self, theta: Tensor | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """Named parameters `[R, ...]` and the losses' columns `[R, Q]`, as views of `theta`."""
        theta = self.theta if theta is None else theta
        *parts, extra = theta.split([*self.sizes, self.n_extra], 1)  # split, not slices: one cat in the backward
        return {n: t.view(-1, *s) for n, t, s in zip(self.names, parts, self.shapes, strict=True)}, extra

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
