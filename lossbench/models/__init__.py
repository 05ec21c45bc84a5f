"""Models: the trunks that the losses of a comparison share. The module `heads` builds the last layer."""

from typing import Any

from lossbench import registry
from lossbench.interfaces import Model
from lossbench.models.networks import CNN, MLP, CNNFlat, CNNMax, Linear
from lossbench.models.recognisers import Recogniser, RecogniserLSTM

__all__ = ["CNN", "MLP", "CNNFlat", "CNNMax", "Linear", "Recogniser", "RecogniserLSTM", "get", "list_names"]


def get(name: str, **fields: Any) -> Model:
    """Return the model called `name` with its fields set; raises `UnknownName`, which suggests the nearest name."""
    return registry.models.get(name, **fields)


def list_names(task: str | None = None) -> list[str]:
    """List the names of all models, or of those that fit `task`."""
    return registry.models.names(task)
