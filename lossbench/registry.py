"""Names to classes. Built-ins and third parties enter by the same door: entry points `lossbench.<kind>`.

An entry point names a class (registered under the entry point's name) or a module (its public classes, each under its
name in snake case, or under its class fact `name: ClassVar[str]`: `None` cannot be a class's name). A package that
fails to load is remembered with its reason and does not stop the others.

What a trial's numbers depend on beside its settings: library versions, and code that is not ours.
"""

import inspect
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from importlib.metadata import EntryPoint, entry_points, version
from pkgutil import resolve_name
from types import ModuleType
from typing import Any, Generic, TypeVar, get_type_hints

from lossbench.errors import InvalidValue, LossbenchError, make_unknown
from lossbench.identity import Unidentified, identify
from lossbench.interfaces import Corruption, Dataset, Loss, Metric, Model, Scheme, Task
from lossbench.seeds import hash_values
from lossbench.sources import extract_definition, list_versions
from lossbench.types import Choice

T = TypeVar("T")
LOADING = threading.RLock()
"""Held while entry points load: another thread must not see half of them. One for all: their modules look others up."""
RESERVED = frozenset({"name", "weight"})
"""Field names that the configuration uses itself."""


class NameClash(LossbenchError):
    """Two things want the same name."""


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A registered class and where it comes from."""

    name: str
    kind: type[T]
    source: str  # distribution and version, or the file
    installed: bool = False  # offered by an entry point, which any process finds
    identity: str = ""  # hash of an object that was given in place of a name


@dataclass(frozen=True)
class Problem:
    """An entry point that could not be loaded."""

    group: str
    name: str
    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source} failed to load ({self.group}: {self.name}): {self.reason}"


def to_snake_case(name: str) -> str:
    """`GeneralizedCrossEntropy` to `generalized_cross_entropy`, `MSE` to `mse`, `SmoothL1` to `smooth_l1`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def list_required(kind: type) -> list[str]:
    """Names of the fields without a default."""
    return [f.name for f in _fields(kind) if f.default is MISSING and f.default_factory is MISSING]


def get_defaults(kind: type) -> dict[str, Any]:
    """Return the defaults of the fields that have one, as YAML knows them."""
    found: dict[str, Any] = {}
    for f in _fields(kind):
        if f.default_factory is not MISSING:
            found[f.name] = f.default_factory()
        elif f.default is not MISSING:
            found[f.name] = f.default
    return {
        name: list(v) if isinstance(v, tuple) else v.value if isinstance(v, Enum) else v for name, v in found.items()
    }


def _fields(kind: type) -> tuple["Field[Any]", ...]:
    return fields(kind) if is_dataclass(kind) else ()


def get_annotations(kind: type) -> dict[str, Any]:
    """The annotations; none where only their own module's type checker can resolve them."""
    try:
        return get_type_hints(kind)
    except NameError:
        return {}


def _typed(kind: type, name: str, value: Any) -> Any:
    """Whole numbers to floats and texts to enums, as the field's annotation asks: `delta=2` is `delta=2.0`."""
    hint = get_annotations(kind).get(name)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not (inspect.isclass(hint) and issubclass(hint, Enum)):
        return value
    if value not in [m.value for m in hint]:
        raise make_unknown(f"value of {name!r}:", value, [str(m.value) for m in hint], "Its values")
    return hint(value)


class Registry(Generic[T]):
    """The classes of one kind, loaded from their entry points at first use."""

    def __init__(self, group: str, word: str, interface: type[T]) -> None:
        self.group, self.word, self.interface = group, word, interface
        self.problems: list[Problem] = []
        self._entries: dict[str, Entry[T]] = {}
        self._loaded = self._begun = False

    def register(self, name: str, kind: type[T], source: str, installed: bool = False, identity: str = "") -> None:
        """Add a class under `name`; another one of that name is an error that names both.

        The same class twice is fine, and the same definition run again (a notebook's cell) replaces the older.
        """
        self._check(name, kind, source)
        present = self._entries.get(name)
        again = present is not None and _run_again(present.kind, kind)
        if present and present.kind is not kind and not again:
            raise NameClash(
                f"The {self.word} {name!r} of {source} clashes with {present.kind.__module__}."
                f"{present.kind.__qualname__} of {present.source}: rename one of them."
            )
        # a later one replaces it: an entry point knows its source better than a decorator
        self._entries[name] = Entry(name, kind, source, installed, identity)

    def _check(self, name: str, kind: type[T], source: str) -> None:
        if not (inspect.isclass(kind) and issubclass(kind, self.interface)):
            raise InvalidValue(
                f"{name!r} of {source} must be a subclass of lossbench.interfaces.{self.interface.__name__}. "
                f"Got {kind!r} instead."
            )
        told = f"{kind.__qualname__} of {source}"
        if not is_dataclass(kind):
            raise InvalidValue(
                f"{told} must be a dataclass: put @dataclass(frozen=True) above it, or _ before its name if it is only "
                "for others to inherit from."
            )
        lacks = [fact for fact in inspect.get_annotations(self.interface) if not hasattr(kind, fact)]
        if lacks and not hasattr(kind, "__post_init__"):  # where an instance may set facts of its own
            raise InvalidValue(f"{told} must declare {', '.join(lacks)}, as the built-in ones do.")
        if isinstance(declared := getattr(kind, "tasks", ()), str):
            raise InvalidValue(f"{told} must declare tasks as a tuple, ({declared!r},). Got {declared!r} instead.")
        if clash := RESERVED & {f.name for f in _fields(kind)}:
            raise InvalidValue(f"{told} has a field called {min(clash)!r}: that is reserved.")

    def entries(self) -> dict[str, Entry[T]]:
        """All of them by name."""
        self._load()
        return dict(sorted(self._entries.items()))

    def names(self, task: str | None = None) -> list[str]:
        """Their names; those that fit `task` if one is given. Objects in place of names are no offer to others."""
        if task is not None and task not in tasks.entries():
            raise make_unknown("task", task, tasks.entries(), "Tasks")
        offered = {name: entry.kind for name, entry in self.entries().items() if not entry.identity}
        return [name for name, kind in offered.items() if task is None or fits_task(kind, task)]

    def find(self, name: str, task: str | None = None) -> type[T]:
        """The class called `name`; the error for an unknown one names the nearest, and those that fit `task`."""
        entry = self.entries().get(name)
        if entry is None:
            label = f"{self.group.capitalize()} for {task}" if task else self.group.capitalize()
            broken = [p for p in self.problems if p.name == name]
            why = "".join(f" ({p.source} offers it and failed to load: {p.reason})" for p in broken)
            raise type(e := make_unknown(self.word, name, self.names(task), label))(f"{e}{why}")
        return entry.kind

    def get(self, name: str, **values: Any) -> T:
        """An instance of `name` with its fields set: `losses.get("huber", delta=2.0)`."""
        return self.made(name, self.find(name), values)

    def made(self, name: str, kind: type[T], values: Mapping[str, Any]) -> T:
        """An instance of a class, registered or not, that is called `name` in errors."""
        known = {f.name for f in _fields(kind)}
        for given in values.keys() - known:
            raise make_unknown(f"field of {self.word} {name!r}:", given, known, "Its fields")
        if missing := set(list_required(kind)) - values.keys():
            raise InvalidValue(f"The {self.word} {name!r} needs a value for {', '.join(sorted(missing))}.")
        return kind(**{n: _typed(kind, n, v) for n, v in values.items()})

    def build(self, choice: Choice) -> T:
        """An instance from a plain choice."""
        return self.get(choice.name, **choice.fields)

    def forget(self, module: str) -> None:
        """Take out what a module of this name has registered, before it runs again."""
        self._load()
        self._entries = {n: e for n, e in self._entries.items() if e.installed or e.kind.__module__ != module}

    def offered(self, module: ModuleType) -> Iterator[tuple[str, type[T]]]:
        """The public classes of a module that are of this kind, by name."""
        for attribute, value in vars(module).items():
            public = inspect.isclass(value) and not attribute.startswith("_")
            if public and issubclass(value, self.interface) and not inspect.isabstract(value):
                yield _derived_name(attribute, value), value

    def _load(self) -> None:
        if self._loaded:
            return
        with LOADING:
            if not self._begun:  # or another thread has loaded them meanwhile, or what is loaded looks something up
                self._begun = True
                self._load_all()
                self._loaded = True

    def _load_all(self) -> None:
        early, self._entries = self._entries, {}
        # built-ins first, so that in a clash the newcomer is the one reported
        points = sorted(entry_points(group=f"lossbench.{self.group}"), key=_built_in_first)
        for point in points:
            self._load_point(point)
        # what a script has registered before: a clash with a package is the script's, and raised
        for entry in early.values():
            self.register(entry.name, entry.kind, entry.source, identity=entry.identity)

    def _load_point(self, point: EntryPoint) -> None:
        source = f"{_source(point)} {point.dist.version}" if point.dist else "unknown"
        try:
            offered = list(self._offered(point.name, point.load()))
        except Exception as error:  # a stranger's package may raise anything; reported by name below
            self._report(point.name, source, error)
            return
        for name, kind in offered:
            try:
                self.register(name, kind, source, installed=True)
            except LossbenchError as error:
                self._report(name, source, error)

    def _report(self, name: str, source: str, error: Exception) -> None:
        reason = str(error) if isinstance(error, LossbenchError) else f"{type(error).__name__}: {error}"
        self.problems.append(Problem(f"lossbench.{self.group}", name, source, reason))

    def _offered(self, name: str, loaded: Any) -> Iterator[tuple[str, type[T]]]:
        if isinstance(loaded, ModuleType):
            yield from self.offered(loaded)
        else:
            yield name, loaded


def _run_again(old: type, new: type) -> bool:
    # a file may be imported under two names, and a notebook's cell has another file each time
    same_place = old.__module__ == new.__module__ or _file(old) == _file(new) is not None
    return old is not new and same_place and old.__qualname__ == new.__qualname__


def _file(kind: type) -> str | None:
    return getattr(sys.modules.get(kind.__module__), "__file__", None)


def _derived_name(attribute: str, kind: type) -> str:
    # only the class's own fact: an inherited one would give a subclass its parent's name
    own = vars(kind).get("name")
    return own if isinstance(own, str) else to_snake_case(attribute)


def _source(point: EntryPoint) -> str:
    return point.dist.name if point.dist else ""


def _built_in_first(point: EntryPoint) -> tuple[bool, str]:
    return (_source(point) != "lossbench", point.name)


def fits_task(kind: type, task: str) -> bool:
    """Whether a class declares `task`, one that it is like, or no tasks as it fits all.

    A model must give sequences where they are due.
    """
    declared, wanted = getattr(kind, "tasks", None), tasks.find(task)
    if issubclass(kind, Model) and kind.sequence != wanted.sequence:
        return False
    return declared is None or not {task, "*", *wanted.like}.isdisjoint(declared)


losses: Registry[Loss] = Registry("losses", "loss", Loss)  # type: ignore[type-abstract]
weightings: Registry[Scheme] = Registry("weightings", "weighting", Scheme)  # type: ignore[type-abstract]
corruptions: Registry[Corruption] = Registry("corruptions", "corruption", Corruption)  # type: ignore[type-abstract]
tasks: Registry[Task] = Registry("tasks", "task", Task)  # type: ignore[type-abstract]
datasets: Registry[Dataset] = Registry("datasets", "data set", Dataset)  # type: ignore[type-abstract]
models: Registry[Model] = Registry("models", "model", Model)  # type: ignore[type-abstract]
metrics: Registry[Metric] = Registry("metrics", "metric", Metric)  # type: ignore[type-abstract]

ALL: dict[str, Registry[Any]] = {
    r.group: r for r in (losses, weightings, corruptions, tasks, datasets, models, metrics)
}
GROUPS: dict[str, Registry[Any]] = {
    "task": tasks,
    "data": datasets,
    "model": models,
    "loss": losses,
    "weighting": weightings,
    "corruption": corruptions,
}
"""Config groups and where their choices come from."""

LIBRARIES = ("lossbench", "torch", "numpy", "scikit-learn")


def compute_fingerprint(*parts: tuple[str, Choice]) -> str:
    """Sixteen hex digits of the library versions, and of version and source of each part that is not built in."""
    return hash_values(_versions(), [origin for part in parts for origin in _foreign(*part)])[:16]


@cache
def _versions() -> tuple[str, ...]:
    return tuple(f"{name} {version(name)}" for name in LIBRARIES)


def _foreign(group: str, choice: Choice) -> Iterator[list[str]]:
    """Yield where the classes and functions behind a choice come from that are not ours."""
    entry = ALL[group].entries()[choice.name]
    if entry.identity:
        yield [entry.identity]
    elif not entry.kind.__module__.startswith("lossbench."):
        yield _origin(entry.kind.__module__, entry.kind.__qualname__, entry.kind)
    elif choice.name == "external":
        yield _origin_of_path(choice.fields["target"])
    for part in _parts(choice):
        yield from _foreign(group, part)


def unfold(choice: Choice) -> Iterator[Choice]:
    """Yield a choice and those inside it: the terms of a combined loss, the scheme of a deferred weighting."""
    yield choice
    for part in _parts(choice):
        yield from unfold(part)


def _parts(choice: Choice) -> list[Choice]:
    if choice.name == "deferred" and "scheme" in choice.fields:
        return [_part(choice.fields["scheme"])]
    return [_part(term) for term in choice.fields["terms"]] if choice.name == "combined" else []


def _origin_of_path(target: str) -> list[str]:
    """Of where it is defined, which need not be where it is imported from; of an instance, only the latter is known."""
    found = resolve_name(target)
    module, _, name = target.replace(":", ".").rpartition(".")
    return _origin(getattr(found, "__module__", module), getattr(found, "__qualname__", name), found)


def _part(given: Any) -> Choice:
    """A choice inside a choice."""
    return Choice(given) if isinstance(given, str) else Choice.from_fields(given["name"], given)


def _origin(module: str, name: str, value: Any) -> list[str]:
    """Versions of the distributions that hold it, and its source where there is one."""
    known = list_versions(module)
    try:
        return known + extract_definition(module, name)
    except (KeyError, OSError, TypeError):  # made in a notebook's cell or a shell, or compiled
        return [*known, f"{module}.{name}", _identity(value)]


def _identity(value: Any) -> str:
    try:
        return identify(value)
    except Unidentified:  # its name is all there is
        return ""
