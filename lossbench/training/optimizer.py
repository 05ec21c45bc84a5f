"""R independent optimisers over `theta[R, P]`, each with its learning rate, decay, schedule and clipping.

Replicas that diverge are frozen.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from lossbench.types import Optimizer as Settings


def compute_schedule_factor(settings: Settings, step: int, steps: int) -> float:
    """Return the factor of the learning rate at `step` (from 0) of `steps`: linear warm-up, then constant or cosine.

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
    """Learning rates of all replicas: each one's base, times the factor of its schedule.

    shared: all replicas have the same learning rate at every step.
    """

    def __init__(self, settings: Sequence[Settings], steps: int, like: Tensor) -> None:
        self.steps = steps
        self.base = torch.tensor([s.lr for s in settings], dtype=torch.float64).to(like)[:, None]  # [R, 1]
        # the distinct schedules, and which of them each replica has
        by_schedule = {(s.schedule, s.warmup): s for s in settings}
        self.kinds, keys = list(by_schedule.values()), list(by_schedule)
        index = torch.tensor([keys.index((s.schedule, s.warmup)) for s in settings])  # [R]
        table = (
            [[compute_schedule_factor(s, t, steps) for s in self.kinds] for t in range(steps)] if len(keys) > 1 else []
        )
        # [steps, kinds], on the device once: a copy per step would be a host sync
        self.table = torch.tensor(table, dtype=torch.float64).to(like) if table else None
        self.index = index.to(like.device)
        self.shared = len(keys) == 1 and len({s.lr for s in settings}) == 1

    def get_shared_learning_rate(self, step: int) -> float:
        """Return the learning rate of all replicas at `step`; only where `shared`."""
        return self.kinds[0].lr * compute_schedule_factor(self.kinds[0], step, self.steps)

    def get_learning_rates(self, step: int) -> Tensor:
        """Return the replicas' learning rates at `step`, `[R, 1]`."""
        if self.table is None:
            return self.base * compute_schedule_factor(self.kinds[0], step, self.steps)
        return self.base * self.table[min(step, self.steps - 1)][self.index][:, None]


class ReplicaOptimizer(torch.optim.Optimizer):
    """torch's fused optimiser on a zero buffer at learning rate 1; one addcmul then applies each replica's own.

    Exact for every optimiser whose update is linear in the learning rate and does not read the parameters (Adam, SGD).
    Decay is decoupled: theta <- theta (1 - lr decay), as in AdamW (https://arxiv.org/abs/1711.05101). On a CPU,
    replicas that share their learning rate go without the buffer, and gradients are left alone while no replica is
    frozen.

    Args:
        theta: `[R, P]`.
        settings: of each replica; those of `Settings.family` must agree.
        steps: length of the schedules.
        sizes: columns per tensor, for `clip_mode="per_tensor"`.
        decays: `[P]`, 1 where decay acts.
    """

    def __init__(
        self, theta: Tensor, settings: Sequence[Settings], steps: int, sizes: Sequence[int], decays: Tensor
    ) -> None:
        super().__init__([theta], {})
        self.theta, self.sizes, self.settings = theta, list(sizes), settings[0]
        self.schedules = Schedules(settings, steps, theta)
        self.clip = torch.tensor([s.clip for s in settings], dtype=torch.float64).to(theta)[:, None]  # [R, 1]
        # per replica and column, [R, P]; None if nothing decays
        decay = torch.tensor([s.weight_decay for s in settings], dtype=torch.float64)[:, None] * decays.cpu()
        self.decay = decay.to(theta) if bool(decay.any()) else None
        # without the buffer, frozen replicas have to be looked up, for which a GPU would wait
        direct = theta.is_cpu and self.schedules.shared
        self.delta = None if direct else torch.zeros_like(theta)
        n_replicas, device = theta.shape[0], theta.device
        moments = ("momentum_buffer",) if self.settings.name == "sgd" else ("exp_avg", "exp_avg_sq")
        self.memory: dict[str, Any] = {
            "step": 0,
            "active": torch.ones(n_replicas, dtype=torch.bool, device=device),
            "active_steps": torch.zeros(n_replicas, dtype=torch.long, device=device),
            "last_loss": torch.zeros(n_replicas, dtype=theta.dtype, device=device),  # the last while active
            # torch's fused kernels count in a float32 tensor (exact to 2^24 steps) and correct the bias in float64
            "inner": {"step": torch.zeros((), device=device), **{name: torch.zeros_like(theta) for name in moments}},
        }
        self.losses: Tensor | None = None
        self.norm = torch.zeros(n_replicas, dtype=theta.dtype, device=device)
        self.clipped = torch.zeros_like(self.norm)

    @property
    def active(self) -> Tensor:
        """`[R]`: replicas that still train."""
        return self.memory["active"]

    @property
    def diverged_step(self) -> Tensor:
        """`[R]`: the step at which a replica stopped being finite, -1 if it has not."""
        return torch.where(self.active, -1, self.memory["active_steps"])

    def describe_divergence(self, replica: int) -> str:
        """Say what was not finite, and when; empty if the replica has not diverged."""
        step, loss = int(self.diverged_step[replica]), float(self.memory["last_loss"][replica])
        if step < 0:
            return ""
        cause = (
            f"the loss is {loss:g}" if not math.isfinite(loss) else "the gradient, or what is predicted, is not finite"
        )
        return f"{cause} at step {step}" + (", before anything is learned" if step == 0 else "")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step of every active replica.

        A replica whose gradient, or whose loss in `losses`, is not finite stops before it. There is no host sync on a
        GPU: nothing here looks at a value.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gradient = self.theta.grad
        if gradient is None:
            return loss

        # 1. freeze replicas whose gradient or loss is not finite: norm + loss is finite only if both are
        self.norm = torch.linalg.vector_norm(gradient, dim=1)  # [R]
        finite = self.norm if self.losses is None else self.norm + self.losses
        if self.losses is not None:
            self.memory["last_loss"] = torch.where(self.active, self.losses.to(self.norm), self.memory["last_loss"])
        self.memory["active"] = self.active & finite.isfinite()
        self.memory["active_steps"] += self.active

        # 2. clip the gradient and move the others
        if self.theta.is_cpu and bool(self.active.all()):
            self._update(self._clip(gradient), None)
        else:
            active = self.active[:, None]  # [R, 1]
            # where, not a product: NaN times zero is NaN
            self._update(self._clip(torch.where(active, gradient, 0.0)), active)
        self.memory["step"] += 1
        return loss

    def keep_active(self, replicas: Tensor) -> None:
        """Freeze all replicas but those of the mask `[R]`."""
        self.memory["active"] = self.active & replicas

    def _clip(self, gradient: Tensor) -> Tensor:
        """Clip the gradient `[R, P]` as the settings say, and note which replicas were clipped."""
        mode = self.settings.clip_mode
        if mode == "norm":
            factor = self._clip_factor(self.norm[:, None])  # [R, 1]
        elif mode == "value":
            self.clipped = (gradient.abs() > self.clip).any(1).to(gradient)
            return gradient.clamp(-self.clip, self.clip)
        elif mode == "per_tensor":
            parts = gradient.split(self.sizes, 1)
            factors = [self._clip_factor(torch.linalg.vector_norm(p, dim=1, keepdim=True)) for p in parts]
            factor = torch.cat([f.expand_as(p) for f, p in zip(factors, parts, strict=True)], 1)  # [R, P]
        else:
            return gradient
        self.clipped = (factor < 1).any(1).to(gradient)
        return gradient * factor

    def _clip_factor(self, norm: Tensor) -> Tensor:
        # where, not arithmetic: a frozen replica's norm may be NaN, and its gradient is zero already
        return torch.where(norm > self.clip, self.clip / norm, 1.0)

    def _update(self, gradient: Tensor, active: Tensor | None) -> None:
        """Move the replicas of the mask `[R, 1]`, all replicas if there is none."""
        inner = self.memory["inner"]
        if self.delta is None:
            # all replicas share a learning rate: move theta itself, and put the frozen replicas back
            before = self.theta if active is None else self.theta.clone()
            shared = self.schedules.get_shared_learning_rate(self.memory["step"])
            if self.decay is not None:
                self.theta.mul_(1 - shared * self.decay)
            _apply_inner_step(self.theta, gradient, inner, self.settings, shared)
            if active is not None:
                self.theta.copy_(torch.where(active, self.theta, before))
            return
        # move a zero buffer at learning rate 1, then theta by learning rate times buffer; frozen ones by 0
        _apply_inner_step(self.delta.zero_(), gradient, inner, self.settings, 1.0)
        learning_rate = self.schedules.get_learning_rates(self.memory["step"])  # [R, 1]
        learning_rate = learning_rate if active is None else learning_rate * active
        if self.decay is not None:
            self.theta.mul_(1 - learning_rate * self.decay)
        self.theta.addcmul_(self.delta, learning_rate)

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything that the next step depends on, beside theta."""
        return {name: _copy(value) for name, value in self.memory.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict()`; raises `KeyError` for a state of another version."""
        self.memory = {name: _copy(state_dict[name]) for name in self.memory}


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {n: _copy(v) for n, v in value.items()}
    return value.clone() if isinstance(value, Tensor) else value


def _apply_inner_step(
    values: Tensor, gradient: Tensor, state: dict[str, Tensor], settings: Settings, learning_rate: float
) -> None:
    """Move `values` as torch's optimiser would, without decay.

    This calls torch's functional API: a second `Optimizer` object inside this one would double the hooks around each
    step.
    """
    if settings.name == "sgd":
        sgd(
            [values],
            [gradient],
            [state["momentum_buffer"]],
            fused=True,
            weight_decay=0.0,
            momentum=settings.momentum,
            lr=learning_rate,
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
        lr=learning_rate,
        weight_decay=0.0,
        eps=settings.eps,
        maximize=False,
    )
