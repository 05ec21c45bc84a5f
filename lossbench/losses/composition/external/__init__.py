"""Third-party losses: any class or function, from its import path."""

from lossbench.losses.composition.external.adapter import External

__all__ = ["External"]
