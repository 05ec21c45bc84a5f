"""What a trial's numbers depend on beside its settings: library versions, and code that is not ours."""

import inspect
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions, version
from pkgutil import resolve_name

from lossbench import registry
from lossbench.seeds import stable_hash
from lossbench.types import Choice

LIBRARIES = ("lossbench", "torch", "numpy", "scikit-learn")


@cache
def fingerprint(*parts: tuple[str, Choice]) -> str:
    """Sixteen hex digits of the library versions, and of version and source of each part that is not built in."""
    versions = [f"{name} {version(name)}" for name in LIBRARIES]
    return stable_hash(versions, [list(_origin(thing)) for part in parts for thing in _foreign(*part)])[:16]


def _foreign(group: str, choice: Choice) -> Iterator[object]:
    """The classes and functions behind a choice that are not ours."""
    kind = registry.ALL[group].find(choice.name)
    if not kind.__module__.startswith("lossbench."):
        yield kind
    elif choice.name == "external":
        yield resolve_name(choice.fields["target"])
    elif choice.name == "deferred" and "scheme" in choice.fields:
        scheme = choice.fields["scheme"]
        yield from _foreign(group, Choice(scheme if isinstance(scheme, str) else scheme["name"]))


def _origin(thing: object) -> Iterator[str]:
    """Versions of the distributions that hold it, and its module's source where there is one."""
    name = getattr(thing, "__module__", None) or type(thing).__module__
    for distribution in packages_distributions().get(name.split(".")[0], []):
        yield f"{distribution} {version(distribution)}"
    try:
        yield inspect.getsource(sys.modules[name])
    except (KeyError, OSError, TypeError):  # defined in a shell or compiled: its name is all there is
        yield f"{name}.{getattr(thing, '__qualname__', '')}"
