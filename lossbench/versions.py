"""What a trial's numbers depend on beside its settings: library versions, and code that is not ours."""

from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions, version
from pkgutil import resolve_name
from typing import Any

from lossbench import registry
from lossbench.identity import Unidentified, identify
from lossbench.seeds import stable_hash
from lossbench.sources import definition
from lossbench.types import Choice

LIBRARIES = ("lossbench", "torch", "numpy", "scikit-learn")


def fingerprint(*parts: tuple[str, Choice]) -> str:
    """Sixteen hex digits of the library versions, and of version and source of each part that is not built in."""
    return stable_hash(_versions(), [origin for part in parts for origin in _foreign(*part)])[:16]


@cache
def _versions() -> tuple[str, ...]:
    return tuple(f"{name} {version(name)}" for name in LIBRARIES)


def _foreign(group: str, choice: Choice) -> Iterator[list[str]]:
    """Yield where the classes and functions behind a choice come from that are not ours."""
    entry = registry.ALL[group].entries()[choice.name]
    if entry.identity:
        yield [entry.identity]
    elif not entry.kind.__module__.startswith("lossbench."):
        yield _origin(entry.kind.__module__, entry.kind.__qualname__, entry.kind)
    elif choice.name == "external":
        yield _origin_of_path(choice.fields["target"])
    elif choice.name == "deferred" and "scheme" in choice.fields:
        yield from _foreign(group, _part(choice.fields["scheme"]))
    elif choice.name == "combined":
        for term in choice.fields["terms"]:
            yield from _foreign(group, _part(term))


def _origin_of_path(target: str) -> list[str]:
    """Of where it is defined, which need not be where it is imported from; of an instance, only the latter is known."""
    found = resolve_name(target)
    module, _, name = target.replace(":", ".").rpartition(".")
    return _origin(getattr(found, "__module__", module), getattr(found, "__qualname__", name), found)


def _part(given: Any) -> Choice:
    """A choice inside a choice."""
    return Choice(given) if isinstance(given, str) else Choice.of(given["name"], given)


def _origin(module: str, name: str, value: Any) -> list[str]:
    """Versions of the distributions that hold it, and its source where there is one."""
    known = [f"{found} {version(found)}" for found in _distributions().get(module.partition(".")[0], [])]
    try:
        return known + definition(module, name)
    except (KeyError, OSError, TypeError):  # made in a notebook's cell or a shell, or compiled
        return [*known, f"{module}.{name}", _identity(value)]


def _identity(value: Any) -> str:
    try:
        return identify(value)
    except Unidentified:  # its name is all there is
        return ""


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())
