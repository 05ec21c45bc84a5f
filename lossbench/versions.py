"""What a trial's numbers depend on beside its settings: library versions, and code that is not ours."""

from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions, version
from pkgutil import resolve_name
from typing import Any

from lossbench import registry
from lossbench.seeds import stable_hash
from lossbench.sources import definition
from lossbench.types import Choice

LIBRARIES = ("lossbench", "torch", "numpy", "scikit-learn")


def fingerprint(*parts: tuple[str, Choice]) -> str:
    """Sixteen hex digits of the library versions, and of version and source of each part that is not built in."""
    return stable_hash(_versions(), [_origin(*place) for part in parts for place in _foreign(*part)])[:16]


@cache
def _versions() -> tuple[str, ...]:
    return tuple(f"{name} {version(name)}" for name in LIBRARIES)


def _foreign(group: str, choice: Choice) -> Iterator[tuple[str, str]]:
    """Module and name of the classes and functions behind a choice that are not ours."""
    kind = registry.ALL[group].find(choice.name)
    if not kind.__module__.startswith("lossbench."):
        yield kind.__module__, kind.__qualname__
    elif choice.name == "external":
        yield _home(choice.fields["target"])
    elif choice.name == "deferred" and "scheme" in choice.fields:
        yield from _foreign(group, _part(choice.fields["scheme"]))
    elif choice.name == "combined":
        for term in choice.fields["terms"]:
            yield from _foreign(group, _part(term))


def _home(target: str) -> tuple[str, str]:
    """Where it is defined, which need not be where it is imported from; of an instance, only the latter is known."""
    found = resolve_name(target)
    module, _, name = target.replace(":", ".").rpartition(".")
    return getattr(found, "__module__", module), getattr(found, "__qualname__", name)


def _part(given: Any) -> Choice:
    """A choice inside a choice."""
    return Choice(given) if isinstance(given, str) else Choice.of(given["name"], given)


def _origin(module: str, name: str) -> list[str]:
    """Versions of the distributions that hold it, and its source where there is one."""
    known = [f"{found} {version(found)}" for found in _distributions().get(module.partition(".")[0], [])]
    try:
        return known + definition(module, name)
    except (KeyError, OSError, TypeError):  # defined in a shell or compiled: its name is all there is
        return [*known, f"{module}.{name}"]


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())
