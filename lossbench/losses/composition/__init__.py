"""Losses made of others: a weighted sum of several, or any loss of another library."""

from lossbench.losses.composition.combined import Combined
from lossbench.losses.composition.external import External

__all__ = ["Combined", "External"]
