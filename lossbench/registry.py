"""Registries from names to classes. Built-ins and third parties use the same entry points, `lossbench.<kind>`.

An entry point names a class (registered under the entry point's name) or a module (its public classes, each under its
name in snake case, or under its class fact `name: ClassVar[str]`: `None` cannot be a class's name). A package that
fails to load is remembered with its reason and does not stop the others.

The end of the module computes the fingerprint of a trial: what its numbers depend on beside its settings, that is
library versions and third-party code.
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
from lossbench.sources import extract_definition, limit_import_time, list_versions
from lossbench.types import Choice

T = TypeVar("T")
LOADING = threading.RLock()
"""Held while entry points load: no thread may see half of them. One lock for all: modules use other registries."""
RESERVED = frozenset({"name", "weight"})
"""Field names that the configuration uses itself."""


class NameClash(LossbenchError):
    """Two classes are registered under one name."""


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A registered class and where it comes from."""

    name: str
    kind: type[T]
    source: str  # distribution and version, or the file
    installed: bool = False  # by an entry point, which any process finds
    identity: str = ""  # hash of an object that was passed in place of a name


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
    """Return `generalized_cross_entropy` for `GeneralizedCrossEntropy`, `mse` for `MSE`, `smooth_l1` for `SmoothL1`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def list_required(kind: type) -> list[str]:
    """Return the names of the fields without a default."""
    return [f.name for f in _list_fields(kind) if f.default is MISSING and f.default_factory is MISSING]


def get_defaults(kind: type) -> dict[str, Any]:
    """Return the defaults of the fields that have one, as YAML knows them."""
    defaults: dict[str, Any] = {}
    for f in _list_fields(kind):
        if f.default_factory is not MISSING:
            defaults[f.name] = f.default_factory()
        elif f.default is not MISSING:
            defaults[f.name] = f.default
    return {
        name: list(v) if isinstance(v, tuple) else v.value if isinstance(v, Enum) else v for name, v in defaults.items()
    }


def _list_fields(kind: type) -> tuple["Field[Any]", ...]:
    return fields(kind) if is_dataclass(kind) else ()


def get_annotations(kind: type) -> dict[str, Any]:
    """Return the annotations; none where only the type checker of their own module can resolve them."""
    try:
        return get_type_hints(kind)
    except NameError:
        return {}


class Registry(Generic[T]):
    """The classes of one kind, loaded from their entry points at first use."""

    def __init__(self, group: str, word: str, interface: type[T]) -> None:
        self.group, self.word, self.interface = group, word, interface
        self.problems: list[Problem] = []
        self._entries: dict[str, Entry[T]] = {}
        self._is_loaded = self._is_loading = False

    def register(self, name: str, kind: type[T], source: str, installed: bool = False, identity: str = "") -> None:
        """Add a class under `name`; another one of that name is an error that names both.

        The same class twice is fine, and the same definition run again (a notebook's cell) replaces the older.
        """
        self._check_class(name, kind, source)
        present = self._entries.get(name)
        if present and present.kind is not kind and not _is_same_definition(present.kind, kind):
            raise NameClash(
                f"The {self.word} {name!r} of {source} clashes with {present.kind.__module__}."
                f"{present.kind.__qualname__} of {present.source}: rename one of them."
            )
        # a later one replaces it: an entry point knows its source better than a decorator
        self._entries[name] = Entry(name, kind, source, installed, identity)

    def _check_class(self, name: str, kind: type[T], source: str) -> None:
        if not (inspect.isclass(kind) and issubclass(kind, self.interface)):
            raise InvalidValue(
                f"{name!r} of {source} must be a subclass of lossbench.interfaces.{self.interface.__name__}. "
                f"Got {kind!r} instead."
            )
        label = f"{kind.__qualname__} of {source}"
        if not is_dataclass(kind):
            raise InvalidValue(
                f"{label} must be a dataclass: put @dataclass(frozen=True) above it, or _ before its name if it is "
                "only for others to inherit from."
            )
        missing = [fact for fact in inspect.get_annotations(self.interface) if not hasattr(kind, fact)]
        if missing and not hasattr(kind, "__post_init__"):  # which may set facts per instance
            raise InvalidValue(f"{label} must declare {', '.join(missing)}, as the built-in ones do.")
        if isinstance(declared := getattr(kind, "tasks", ()), str):
            raise InvalidValue(f"{label} must declare tasks as a tuple, ({declared!r},). Got {declared!r} instead.")
        if clash := RESERVED & {f.name for f in _list_fields(kind)}:
            raise InvalidValue(f"{label} has a field called {min(clash)!r}: that is reserved.")

    def entries(self) -> dict[str, Entry[T]]:
        """Return all entries by name."""
        self._load()
        return dict(sorted(self._entries.items()))

    def names(self, task: str | None = None) -> list[str]:
        """Return all names, or those that fit `task`; without objects that were passed in place of a name."""
        if task is not None and task not in tasks.entries():
            raise make_unknown("task", task, tasks.entries(), "Tasks")
        kinds = {name: entry.kind for name, entry in self.entries().items() if not entry.identity}
        return [name for name, kind in kinds.items() if task is None or fits_task(kind, task)]

    def find(self, name: str, task: str | None = None) -> type[T]:
        """Return the class called `name`; the error for an unknown one names the nearest, and those that fit `task`."""
        entry = self.entries().get(name)
        if entry is None:
            label = f"{self.group.capitalize()} for {task}" if task else self.group.capitalize()
            error = make_unknown(self.word, name, self.names(task), label)
            broken = [p for p in self.problems if p.name == name]
            reasons = "".join(f" ({p.source} offers it and failed to load: {p.reason})" for p in broken)
            raise type(error)(f"{error}{reasons}")
        return entry.kind

    def get(self, name: str, **values: Any) -> T:
        """Return an instance of `name` with its fields set: `losses.get("huber", delta=2.0)`."""
        return self.make(name, self.find(name), values)

    def make(self, name: str, kind: type[T], values: Mapping[str, Any]) -> T:
        """Return an instance of a class, registered or not, that errors call `name`."""
        known = {f.name for f in _list_fields(kind)}
        for unknown in values.keys() - known:
            raise make_unknown(f"field of {self.word} {name!r}:", unknown, known, "Its fields")
        if missing := set(list_required(kind)) - values.keys():
            raise InvalidValue(f"The {self.word} {name!r} needs a value for {', '.join(sorted(missing))}.")

        # ints to floats and texts to enums, as the annotations say: `delta=2` is `delta=2.0`
        hints = get_annotations(kind) if values else {}
        converted: dict[str, Any] = {}
        for field, value in values.items():
            hint = hints.get(field)
            converted[field] = value
            if hint is float and isinstance(value, int) and not isinstance(value, bool):
                converted[field] = float(value)
            elif inspect.isclass(hint) and issubclass(hint, Enum):
                if value not in [member.value for member in hint]:
                    raise make_unknown(f"value of {field!r}:", value, [str(m.value) for m in hint], "Its values")
                converted[field] = hint(value)
        return kind(**converted)

    def build(self, choice: Choice) -> T:
        """Return an instance of a plain choice."""
        return self.get(choice.name, **choice.fields)

    def forget(self, module: str) -> None:
        """Remove the classes that a module of this name has registered, before it runs again."""
        self._load()
        self._entries = {n: e for n, e in self._entries.items() if e.installed or e.kind.__module__ != module}

    def list_public(self, module: ModuleType) -> Iterator[tuple[str, type[T]]]:
        """Yield the public classes of a module that are of this kind, with their names."""
        for attribute, value in vars(module).items():
            is_public = inspect.isclass(value) and not attribute.startswith("_")
            if is_public and issubclass(value, self.interface) and not inspect.isabstract(value):
                # the fact must be the class's own: an inherited one would give a subclass its parent's name
                name = vars(value).get("name")
                yield name if isinstance(name, str) else to_snake_case(attribute), value

    def _load(self) -> None:
        if self._is_loaded:
            return
        with LOADING:
            # another thread may have loaded them meanwhile, or a module that is being loaded looks something up
            if self._is_loading:
                return
            self._is_loading = True
            early, self._entries = self._entries, {}
            # 1. built-ins first, so that in a clash the newcomer is the one reported
            points = entry_points(group=f"lossbench.{self.group}")
            for point in sorted(points, key=lambda p: (_get_distribution(p) != "lossbench", p.name)):
                self._load_point(point)
            # 2. classes that a script has registered before: a clash with a package is the script's error, and raised
            for entry in early.values():
                self.register(entry.name, entry.kind, entry.source, identity=entry.identity)
            self._is_loaded = True

    def _load_point(self, point: EntryPoint) -> None:
        source = f"{_get_distribution(point)} {point.dist.version}" if point.dist else "unknown"
        try:
            with limit_import_time():
                loaded = point.load()
            kinds = list(self.list_public(loaded)) if isinstance(loaded, ModuleType) else [(point.name, loaded)]
        except (Exception, SystemExit) as error:  # a third-party package may raise anything; reported by name
            self._report(point.name, source, error)
            return
        for name, kind in kinds:
            try:
                self.register(name, kind, source, installed=True)
            except LossbenchError as error:
                self._report(name, source, error)

    def _report(self, name: str, source: str, error: BaseException) -> None:
        reason = str(error) if isinstance(error, LossbenchError) else f"{type(error).__name__}: {error}"
        self.problems.append(Problem(f"lossbench.{self.group}", name, source, reason))


def _is_same_definition(old: type, new: type) -> bool:
    """Return True if the definition of `old` has run again and made `new`."""
    # a file may be imported under two names, and a notebook's cell has another file each time
    is_same_place = old.__module__ == new.__module__ or _get_file(old) == _get_file(new) is not None
    return old is not new and is_same_place and old.__qualname__ == new.__qualname__


def _get_file(kind: type) -> str | None:
    return getattr(sys.modules.get(kind.__module__), "__file__", None)


def _get_distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else ""


def fits_task(kind: type, task: str) -> bool:
    """Return True if a class declares `task`, a task that it is like, or no tasks at all, as it fits all.

    A model must also give sequences exactly where the task needs them.
    """
    declared, target = getattr(kind, "tasks", None), tasks.find(task)
    if issubclass(kind, Model) and kind.sequence != target.sequence:
        return False
    return declared is None or not {task, "*", *target.like}.isdisjoint(declared)


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
"""Config groups and the registries of their choices."""

LIBRARIES = ("lossbench", "torch", "numpy", "scikit-learn")


def compute_fingerprint(*parts: tuple[str, Choice]) -> str:
    """Return 16 hex digits: a hash of library versions, and of version and source of each third-party part."""
    origins = [origin for group, choice in parts for origin in _list_third_party(group, choice)]
    return hash_values(_list_library_versions(), origins)[:16]


@cache
def _list_library_versions() -> tuple[str, ...]:
    return tuple(f"{name} {version(name)}" for name in LIBRARIES)


def _list_third_party(group: str, choice: Choice) -> Iterator[list[str]]:
    """Yield the origin of each third-party class or function in a choice and the choices inside it."""
    entry = ALL[group].entries()[choice.name]
    if entry.identity:
        yield [entry.identity]
    elif not entry.kind.__module__.startswith("lossbench."):
        yield _describe_origin(entry.kind.__module__, entry.kind.__qualname__, entry.kind)
    elif choice.name == "external":
        # a function may be imported from elsewhere than where it is defined; of an instance only the former is known
        target = choice.fields["target"]
        module, _, name = target.replace(":", ".").rpartition(".")
        value = resolve_name(target)
        yield _describe_origin(getattr(value, "__module__", module), getattr(value, "__qualname__", name), value)
    for part in _list_parts(choice):
        yield from _list_third_party(group, part)


def unfold(choice: Choice) -> Iterator[Choice]:
    """Yield a choice and those inside it: the terms of a combined loss, the scheme of a deferred weighting."""
    yield choice
    for part in _list_parts(choice):
        yield from unfold(part)


def _list_parts(choice: Choice) -> list[Choice]:
    """Return the choices inside a choice, which are names or mappings of fields."""
    parts: list[Any] = []
    if choice.name == "deferred" and "scheme" in choice.fields:
        parts = [choice.fields["scheme"]]
    elif choice.name == "combined":
        parts = choice.fields["terms"]
    return [Choice(part) if isinstance(part, str) else Choice.from_fields(part["name"], part) for part in parts]


def _describe_origin(module: str, name: str, value: Any) -> list[str]:
    """Return the versions of the distributions that hold a class or function, and its source where there is one."""
    versions = list_versions(module)
    try:
        return versions + extract_definition(module, name)
    except (KeyError, OSError, TypeError):  # from a notebook's cell or a shell, or compiled
        try:
            identity = identify(value)
        except Unidentified:  # only its name is known
            identity = ""
        return [*versions, f"{module}.{name}", identity]
