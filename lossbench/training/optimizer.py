"""R independent optimisers over `theta[R, P]`: own rate, decay, schedule and clipping; diverged rows freeze."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

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


def _schedules(rows: Sequence[Settings], steps: int) -> tuple[Tensor, Tensor]:
    """Which schedule each row follows, `[R]`, and the factors, `[steps, K]` (rows of steps: read one per step)."""
    kinds = sorted({(s.schedule, s.warmup) for s in rows})
    first = [next(s for s in rows if (s.schedule, s.warmup) == kind) for kind in kinds]
    table = [[schedule_factor(s, t, steps) for s in first] for t in range(steps)]
    which = [kinds.index((s.schedule, s.warmup)) for s in rows]
    return torch.tensor(which), torch.tensor(table, dtype=torch.float64).view(steps, len(kinds))


class RowOptimizer(torch.optim.Optimizer):
    """Wraps torch's fused optimiser: it steps a zero buffer at rate 1, so each row gets its own rate for one addcmul.

    Exact for every optimiser whose update is linear in the rate and does not read the parameters (Adam, SGD). Decay is
    decoupled: theta <- theta (1 - lr decay), as in AdamW (https://arxiv.org/abs/1711.05101).

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
        self.sizes, self.settings = list(sizes), rows[0]
        self.theta, device = theta, theta.device
        which, factors = _schedules(rows, steps)
        self.which, self.factors = which.to(device), factors.to(theta)
        self.base, self.clip = (torch.tensor([getattr(s, n) for s in rows]).to(theta)[:, None] for n in ("lr", "clip"))
        decay = torch.tensor([s.weight_decay for s in rows])[:, None] * decays.cpu()
        self.decay = decay.to(theta) if bool(decay.any()) else None
        self.delta = torch.zeros_like(theta)
        self.inner = _inner(self.delta, rows[0])
        n_rows = theta.shape[0]
        self.state[theta] = {
            "step": 0,
            "active": torch.ones(n_rows, dtype=torch.bool, device=device),
            "diverged_step": torch.full((n_rows,), -1, device=device),
        }
        self.norm = torch.zeros(n_rows, dtype=theta.dtype, device=device)
        self.clipped = torch.zeros_like(self.norm)

    @property
    def active(self) -> Tensor:
        """`[R]`: rows that still train."""
        return self.state[self.theta]["active"]

    @property
    def diverged_step(self) -> Tensor:
        """`[R]`: the step at which a row stopped being finite, -1 if it has not."""
        return self.state[self.theta]["diverged_step"]

    def freeze(self, rows: Tensor) -> None:
        """Stop the rows of a mask `[R]`, without a host sync. They are kept as they were before this step."""
        state = self.state[self.theta]
        newly = rows & state["active"]
        state["diverged_step"] = torch.where(newly, state["step"], state["diverged_step"])
        state["active"] = state["active"] & ~rows

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every active row."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gradient = self.theta.grad
        if gradient is None:
            return loss
        self.norm = torch.linalg.vector_norm(gradient, dim=1)
        self.freeze(~self.norm.isfinite())
        active = self.active[:, None]
        self._update(self._clip(torch.where(active, gradient, 0.0)), active)
        self.state[self.theta]["step"] += 1
        return loss

    def _update(self, gradient: Tensor, active: Tensor) -> None:
        self.delta.zero_()
        self.delta.grad = gradient
        self.inner.step()
        step = self.state[self.theta]["step"]
        rate = self.base * self.factors[min(step, len(self.factors) - 1)][self.which][:, None] * active
        if self.decay is not None:
            self.theta.mul_(1 - rate * self.decay)
        self.theta.addcmul_(self.delta, rate)

    def _clip(self, gradient: Tensor) -> Tensor:
        mode = self.settings.clip_mode
        if mode == "norm":
            return gradient * self._shrink(self.norm[:, None])
        if mode == "value":
            self.clipped = (gradient.abs() > self.clip).any(1).to(gradient)
            return gradient.clamp(-self.clip, self.clip)
        if mode == "per_tensor":
            parts = gradient.split(self.sizes, 1)
            shrinks = [self._shrink(torch.linalg.vector_norm(p, dim=1, keepdim=True)) for p in parts]
            self.clipped = (torch.cat(shrinks, 1) < 1).any(1).to(gradient)
            return torch.cat([p * s for p, s in zip(parts, shrinks, strict=True)], 1)
        return gradient

    def _shrink(self, norm: Tensor) -> Tensor:
        # where, not arithmetic: a frozen row's norm may be NaN, and its gradient is zero already
        shrink = torch.where(norm > self.clip, self.clip / norm, 1.0)
        self.clipped = (shrink[:, 0] < 1).to(norm)
        return shrink

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {"rows": dict(self.state[self.theta]), "inner": self.inner.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict()`."""
        self.state[self.theta] = dict(state_dict["rows"])
        self.inner.load_state_dict(state_dict["inner"])


def _inner(delta: Tensor, settings: Settings) -> torch.optim.Optimizer:
    parameter = delta.requires_grad_()
    if settings.name == "sgd":
        return torch.optim.SGD([parameter], lr=1.0, momentum=settings.momentum, fused=True)
    return torch.optim.Adam([parameter], lr=1.0, betas=settings.betas, eps=settings.eps, fused=True)
