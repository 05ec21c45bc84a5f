"""Everything that is known of a registered class, as plain values: from its docstring, its facts and its checks."""

import re
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from typing import Any, get_type_hints

from lossbench import registry
from lossbench.config.choices import check_pair
from lossbench.errors import LossbenchError
from lossbench.interfaces.encodings import ENCODINGS
from lossbench.interfaces.spaces import SPACES
from lossbench.registry import Entry, Registry, list_required
from lossbench.report.describe import formulas
from lossbench.report.describe.docstrings import Docstring, parse_docstring, plain
from lossbench.report.describe.examples import find_tasks, write_example
from lossbench.report.describe.words import HEADS
from lossbench.types import Requirement
from lossbench.validation import collect_demands

CLAIMS = ("convex", "bounded", "robust", "symmetric")
FACTS = (*CLAIMS, "batch_level", "trains parameters", "keeps a state")
OTHER = "other"
"""The family of losses that declare none."""


def list_entry(entry: Entry[Any]) -> dict[str, Any]:
    """Return what a list shows of a name, and more: all that needs no other class."""
    kind, said = entry.kind, parse_docstring(entry.kind)
    return {
        "name": entry.name,
        **({"family": family(kind)} if issubclass(kind, registry.losses.interface) else {}),
        "tasks": list(fact(kind, "tasks", ())),
        "fields": {f.name: default(f) for f in own_fields(kind)},
        "required": list_required(kind),
        "what_it_is": plain(said.summary),
        **_takes(kind),
        "facts": facts(kind),
        "use_when": plain(fact(kind, "use_when")),
        "pitfall": plain(fact(kind, "pitfall")),
        "aliases": [plain(name) for name in fact(kind, "aliases", ())],
        "same_as": fact(kind, "same_as"),
        "source": entry.source,
    }


def describe_entry(names: Registry[Any], entry: Entry[Any]) -> dict[str, Any]:
    """Return all of it: what `describe_class` gives, and which weightings go with a loss."""
    return {**describe_class(names, entry), "weightings": weightings(entry) if names is registry.losses else {}}


def describe_class(names: Registry[Any], entry: Entry[Any]) -> dict[str, Any]:
    """Return what `list_entry` gives, the docstring's parts, what fields must be, and an example."""
    said, demanded, types = parse_docstring(entry.kind), _demanded(entry.kind), _types(entry.kind)
    rows = [
        {"name": f.name, "type": types[f.name], "default": default(f), "must_be": demanded.get(f.name)}
        for f in own_fields(entry.kind)
    ]
    own = {"kind": names.word, **list_entry(entry), "fields": rows, **_parts(said), **_of_a_task(entry.kind)}
    return {**own, "example": write_example(names, entry, said)}


def fact(kind: type, name: str, default: Any = "") -> Any:
    """Return a class fact; `default` where there is none, or where only an instance has it."""
    value = getattr(kind, name, default)
    return default if isinstance(value, property) else value


def family(kind: type) -> str:
    """Return what losses are grouped by."""
    return fact(kind, "family") or OTHER


def own_fields(kind: type) -> tuple["Field[Any]", ...]:
    """Return the fields that can be set."""
    return tuple(f for f in fields(kind) if f.init) if is_dataclass(kind) else ()


def default(field: "Field[Any]") -> Any:
    """Return a field's default as a plain value; None where it has to be given."""
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    return None if value is MISSING else value.value if isinstance(value, Enum) else value


def facts(kind: type) -> dict[str, bool | None]:
    """Return what a loss claims of itself, None where it claims nothing; nothing of anything else."""
    if not issubclass(kind, registry.losses.interface):
        return {}
    requires = fact(kind, "requires", ())
    found = {name: fact(kind, name, None) for name in (*CLAIMS, "batch_level")}
    return found | {
        "trains parameters": Requirement.PARAMETERS in requires,
        "keeps a state": Requirement.STATE in requires,
    }


def weightings(entry: Entry[Any]) -> dict[str, list[str]]:
    """Return the weightings that go with a loss, for each of its tasks that exist."""
    if list_required(entry.kind):
        return {}
    loss = registry.losses.get(entry.name)
    return {
        task: [w for w in registry.weightings.names(task) if _fit(entry.name, loss, w, task)]
        for task in find_tasks(entry.kind)
    }


def _fit(name: str, loss: Any, weighting: str, task: str) -> bool:
    if list_required(registry.weightings.find(weighting)):
        return False
    try:
        check_pair(name, loss, weighting, registry.weightings.get(weighting), registry.tasks.get(task))
    except LossbenchError:
        return False
    return True


def _takes(kind: type) -> dict[str, Any]:
    if not issubclass(kind, registry.losses.interface):
        return {}
    space, encoding, head = (fact(kind, n, None) for n in ("space", "encoding", "head"))
    return {
        "takes": SPACES[space].words if space else "what it is told",
        "target": ENCODINGS[encoding].words if encoding else "what it is told",
        "head": HEADS.get(head, "as it is told"),
        "requires": [str(n) for n in fact(kind, "requires", ())],
    }


def _parts(said: Docstring) -> dict[str, Any]:
    return {
        "formula": formulas.lines(said.formula),
        "latex": said.formula,
        "notes": [plain(note) for note in said.notes],
        "shapes": plain(said.shapes),
        "raises": plain(said.raises),
        "reference": plain(said.reference),
    }


def _of_a_task(kind: type) -> dict[str, Any]:
    """Return what a task goes with, where data come from, and which values of a metric are better."""
    found: dict[str, Any] = {}
    if defaults := fact(kind, "defaults", None):
        found |= {"defaults": dict(defaults), "metrics": list(kind.metrics)}  # type: ignore[attr-defined]
    if isinstance(where := fact(kind, "source", None), str):
        found["data_from"] = where
    if isinstance(higher := fact(kind, "higher_is_better", None), bool):
        found["better"] = "higher" if higher else "lower"
    return found


def _types(kind: type) -> dict[str, str]:
    try:
        hints = get_type_hints(kind)
    except NameError:  # an annotation that only its own module's type checker can resolve
        hints = {}
    return {f.name: _typed(hints.get(f.name, f.type)) for f in own_fields(kind)}


def _typed(hint: Any) -> str:
    return (
        hint.__name__ if isinstance(hint, type) and not hasattr(hint, "__args__") else re.sub(r"\b\w+\.", "", str(hint))
    )


def _demanded(kind: type) -> dict[str, str]:
    """Return what its fields must be, by the checks of its construction; nothing if it has no defaults."""
    if list_required(kind):
        return {}
    try:
        return collect_demands(kind)
    except LossbenchError:  # it has to be told something first
        return {}
