"""Any existing loss, a class or a function of another library, from its import path."""

from lossbench.losses.composition.external.adapter import External

__all__ = ["External"]
