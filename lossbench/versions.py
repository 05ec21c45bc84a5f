"""What a trial's numbers depend on beside its settings: library versions, and sources that are not ours."""

import inspect
from functools import cache
from importlib.metadata import version

from lossbench import registry
from lossbench.seeds import stable_hash
from lossbench.types import Choice

LIBRARIES = ("lossbench", "torch", "numpy", "scikit-learn")


@cache
def fingerprint(*parts: tuple[str, Choice]) -> str:
    """Sixteen hex digits of the library versions and of the sources of the parts that are not built in."""
    versions = [f"{name} {version(name)}" for name in LIBRARIES]
    return stable_hash(versions, [source for group, choice in parts if (source := _source(group, choice))])[:16]


def _source(group: str, choice: Choice) -> str:
    kind = registry.ALL[group].find(choice.name)
    if kind.__module__.startswith("lossbench."):
        return ""
    module = inspect.getmodule(kind)
    try:
        return inspect.getsource(module) if module else kind.__module__
    except (OSError, TypeError):  # defined in a shell or compiled: its name is all there is
        return f"{kind.__module__}.{kind.__qualname__}"
