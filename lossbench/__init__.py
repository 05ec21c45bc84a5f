"""lossbench: choose a training loss with evidence."""

from importlib import import_module
from importlib.metadata import version
from typing import Any

__version__ = version("lossbench")

_MODULES = ("losses", "weightings", "corruptions", "tasks", "datasets", "models", "metrics", "check")
_NAMES = {
    "run": "lossbench.study",
    "load": "lossbench.study",
    "Results": "lossbench.study",
    "Comparison": "lossbench.study",
    "Recommendation": "lossbench.study",
    "loss": "lossbench.functions",
    "Loss": "lossbench.interfaces",
    "Weighting": "lossbench.interfaces",
    "Corruption": "lossbench.interfaces",
    "Task": "lossbench.interfaces",
    "Dataset": "lossbench.interfaces",
    "Model": "lossbench.interfaces",
    "Metric": "lossbench.interfaces",
    "TermWeighting": "lossbench.interfaces",
    "check_same_shape": "lossbench.interfaces.loss",
    "check_index_shape": "lossbench.interfaces.loss",
    "Examples": "lossbench.types",
    "Space": "lossbench.types",
    "Encoding": "lossbench.types",
    "Head": "lossbench.types",
    "Requirement": "lossbench.types",
    "LossbenchError": "lossbench.errors",
}
__all__ = ["__version__", *_MODULES, *_NAMES]  # noqa: PLE0604  # ruff does not see that the names are strings


def __getattr__(name: str) -> Any:
    """Import on first use: `import lossbench` alone stays as light as `--help` needs it."""
    if name in _MODULES:
        return import_module(f"lossbench.{name}")
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'lossbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
