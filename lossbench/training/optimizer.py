"""R independent optimisers over `theta[R, P]`: own rate, decay, schedule and clipping; diverged rows freeze."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from lossbench.types import Optimizer as Settings


def schedule_factor(settings: Settings, step: int, steps: int) -> float:
    """What the learning rate is multiplied by at `step` (from 0) of `steps`: linear warm-up, then constant or cosine.

    Cosine: (1 + cos(pi t)) / 2 over the steps after the warm-up (Loshchilov and Hutter, SGDR, 2017,
    https://arxiv.org/abs/1608.03983), never quite zero at the last step.
    """
    warmup = round(settings.warmup * steps)
    if step < warmup:
        return (step + 1) / warmup
    if settings.schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1))) / 2


class Schedules:
    """Learning rates of all rows: own base rates, times the factor of each row's schedule."""

    def __init__(self, rows: Sequence[Settings], steps: int, like: Tensor) -> None:
        self.steps = steps
        self.base = torch.tensor([s.lr for s in rows], dtype=torch.float64).to(like)[:, None]
        first = {(s.schedule, s.warmup): s for s in rows}
        self.kinds, names = list(first.values()), list(first)
        which = torch.tensor([names.index((s.schedule, s.warmup)) for s in rows])
        table = [[schedule_factor(s, t, steps) for s in self.kinds] for t in range(steps)] if len(names) > 1 else []
        # on the device once: a copy per step would be a host sync
        self.table = torch.tensor(table, dtype=torch.float64).to(like) if table else None
        self.which = which.to(like.device)
        self.shared = len(names) == 1 and len({s.lr for s in rows}) == 1

    def shared_rate(self, step: int) -> float:
        """At `step`, where `shared`: all rows have one."""
        return self.kinds[0].lr * schedule_factor(self.kinds[0], step, self.steps)

    def rates(self, step: int) -> Tensor:
        """`[R, 1]` at `step`."""
        if self.table is None:
            return self.base * schedule_factor(self.kinds[0], step, self.steps)
        return self.base * self.table[min(step, self.steps - 1)][self.which][:, None]


class RowOptimizer(torch.optim.Optimizer):
    """torch's fused optimiser on a zero buffer at rate 1, so that each row gets its own rate for one addcmul.

    Exact for every optimiser whose update is linear in the rate and does not read the parameters (Adam, SGD). Decay is
    decoupled: theta <- theta (1 - lr decay), as in AdamW (https://arxiv.org/abs/1711.05101). On a CPU, rows that share
    their rate go without the buffer, and gradients are left alone while no row is frozen.

    Args:
        theta: `[R, P]`.
        rows: settings of each row; those of `Settings.family` must agree.
        steps: length of the schedules.
        sizes: columns per tensor, for `clip_mode="per_tensor"`.
        decays: `[P]`, 1 where decay acts.
    """

    def __init__(
        self, theta: Tensor, rows: Sequence[Settings], steps: int, sizes: Sequence[int], decays: Tensor
    ) -> None:
        super().__init__([theta], {})
        self.theta, self.sizes, self.settings = theta, list(sizes), rows[0]
        self.schedules = Schedules(rows, steps, theta)
        self.clip = torch.tensor([s.clip for s in rows], dtype=torch.float64).to(theta)[:, None]
        decay = torch.tensor([s.weight_decay for s in rows], dtype=torch.float64)[:, None] * decays.cpu()
        self.decay = decay.to(theta) if bool(decay.any()) else None
        # without the buffer, frozen rows have to be looked up, for which a GPU would wait
        direct = theta.is_cpu and self.schedules.shared
        self.delta = None if direct else torch.zeros_like(theta)
        n_rows = theta.shape[0]
        self.memory: dict[str, Any] = {
            "step": 0,
            "active": torch.ones(n_rows, dtype=torch.bool, device=theta.device),
            "lived": torch.zeros(n_rows, dtype=torch.long, device=theta.device),  # steps while active
            "seen": torch.zeros(n_rows, dtype=theta.dtype, device=theta.device),  # the loss that a row saw last
            "inner": _inner_state(theta, rows[0]),
        }
        self.losses: Tensor | None = None
        self.norm = torch.zeros(n_rows, dtype=theta.dtype, device=theta.device)
        self.clipped = torch.zeros_like(self.norm)

    @property
    def active(self) -> Tensor:
        """`[R]`: rows that still train."""
        return self.memory["active"]

    @property
    def diverged_step(self) -> Tensor:
        """`[R]`: the step at which a row stopped being finite, -1 if it has not."""
        return torch.where(self.active, -1, self.memory["lived"])

    def why_diverged(self, row: int) -> str:
        """What was not finite, and when; empty if the row has not diverged."""
        step, seen = int(self.diverged_step[row]), float(self.memory["seen"][row])
        if step < 0:
            return ""
        what = (
            f"the loss is {seen:g}" if not math.isfinite(seen) else "the gradient, or what is predicted, is not finite"
        )
        return f"{what} at step {step}" + (", before anything is learned" if step == 0 else "")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every active row. A row whose gradient, or its loss in `losses`, is not finite stops before it.

        Without a host sync: nothing here looks at a value.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gradient = self.theta.grad
        if gradient is None:
            return loss
        self.norm = torch.linalg.vector_norm(gradient, dim=1)
        finite = self.norm if self.losses is None else self.norm + self.losses
        if self.losses is not None:
            self.memory["seen"] = torch.where(self.active, self.losses.to(self.norm), self.memory["seen"])
        self.memory["active"] = self.active & finite.isfinite()
        self.memory["lived"] += self.active
        if self.theta.is_cpu and bool(self.active.all()):
            self._update(self._clip(gradient), None)
        else:
            active = self.active[:, None]
            # where, not a product: NaN times zero is NaN
            self._update(self._clip(torch.where(active, gradient, 0.0)), active)
        self.memory["step"] += 1
        return loss

    def keep(self, rows: Tensor) -> None:
        """Stop all rows but those of the mask `[R]`."""
        self.memory["active"] = self.active & rows

    def _update(self, gradient: Tensor, active: Tensor | None) -> None:
        """Move the rows of the mask `[R, 1]`, all rows if there is none."""
        if self.delta is None:
            self._update_directly(gradient, active)
            return
        _inner_step(self.delta.zero_(), gradient, self.memory["inner"], self.settings, 1.0)
        rate = self.schedules.rates(self.memory["step"])
        rate = rate if active is None else rate * active
        if self.decay is not None:
            self.theta.mul_(1 - rate * self.decay)
        self.theta.addcmul_(self.delta, rate)

    def _update_directly(self, gradient: Tensor, active: Tensor | None) -> None:
        before = self.theta if active is None else self.theta.clone()
        rate = self.schedules.shared_rate(self.memory["step"])
        if self.decay is not None:
            self.theta.mul_(1 - rate * self.decay)
        _inner_step(self.theta, gradient, self.memory["inner"], self.settings, rate)
        if active is not None:
            self.theta.copy_(torch.where(active, self.theta, before))

    def _clip(self, gradient: Tensor) -> Tensor:
        mode = self.settings.clip_mode
        if mode == "norm":
            shrink = self._shrink(self.norm[:, None])
        elif mode == "value":
            self.clipped = (gradient.abs() > self.clip).any(1).to(gradient)
            return gradient.clamp(-self.clip, self.clip)
        elif mode == "per_tensor":
            parts = gradient.split(self.sizes, 1)
            shrinks = [self._shrink(torch.linalg.vector_norm(p, dim=1, keepdim=True)) for p in parts]
            shrink = torch.cat([s.expand_as(p) for s, p in zip(shrinks, parts, strict=True)], 1)
        else:
            return gradient
        self.clipped = (shrink < 1).any(1).to(gradient)
        return gradient * shrink

    def _shrink(self, norm: Tensor) -> Tensor:
        # where, not arithmetic: a frozen row's norm may be NaN, and its gradient is zero already
        return torch.where(norm > self.clip, self.clip / norm, 1.0)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, beside theta."""
        return {name: _copy(value) for name, value in self.memory.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict()`."""
        self.memory = {name: _copy(value) for name, value in state_dict.items()}


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {n: _copy(v) for n, v in value.items()}
    return value.clone() if isinstance(value, Tensor) else value


def _inner_state(theta: Tensor, settings: Settings) -> dict[str, Tensor]:
    names = ("momentum_buffer",) if settings.name == "sgd" else ("exp_avg", "exp_avg_sq")
    # torch's fused kernels count in a float32 tensor (exact to 2^24 steps) and correct the bias in float64
    step = torch.zeros((), device=theta.device)
    return {"step": step, **{n: torch.zeros_like(theta) for n in names}}


def _inner_step(values: Tensor, gradient: Tensor, state: dict[str, Tensor], settings: Settings, rate: float) -> None:
    """Move `values` as torch's optimiser would, without decay.

    Torch's functional API: a second `Optimizer` object inside this one would double the hooks around each step.
    """
    if settings.name == "sgd":
        sgd(
            [values],
            [gradient],
            [state["momentum_buffer"]],
            fused=True,
            weight_decay=0.0,
            momentum=settings.momentum,
            lr=rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        return
    adam(
        [values],
        [gradient],
        [state["exp_avg"]],
        [state["exp_avg_sq"]],
        [],
        [state["step"]],
        fused=True,
        amsgrad=False,
        beta1=settings.beta1,
        beta2=settings.beta2,
        lr=rate,
        weight_decay=0.0,
        eps=settings.eps,
        maximize=False,
    )
