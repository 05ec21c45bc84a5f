"""R networks as rows of one parameter `theta[R, P]`: row r is trial r, so rows never mix."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

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
