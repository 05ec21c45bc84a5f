"""Descriptions of a registered class as plain values: from its docstring, its facts and its checks."""

import re
from contextlib import suppress
from dataclasses import MISSING, Field, is_dataclass
from dataclasses import fields as dataclass_fields
from enum import Enum
from typing import Any, get_type_hints

from lossbench import registry
from lossbench.config.choices import check_pair
from lossbench.errors import LossbenchError
from lossbench.interfaces.encodings import ENCODINGS
from lossbench.interfaces.spaces import SPACES
from lossbench.registry import Entry, Registry, list_required
from lossbench.report.describe.docstrings import parse_docstring, to_plain_text
from lossbench.report.describe.examples import find_tasks, write_example
from lossbench.report.describe.formulas import split_formula
from lossbench.types import Head, Requirement
from lossbench.validation import collect_demands

CLAIMS = ("convex", "bounded", "robust", "symmetric")
FACTS = (*CLAIMS, "batch_level", "trains parameters", "keeps a state")
OTHER = "other"  # the family of losses that declare none
HEADS: dict[Head, str] = {
    Head.LINEAR: "linear",
    Head.MEAN_SCALE: "means and scales",
    Head.COSINE: "cosine",
    Head.EMBEDDING: "embedding",
}
BY_FIELDS = "set by its fields"  # of a loss whose class does not fix what it takes


def list_entry(entry: Entry[Any]) -> dict[str, Any]:
    """Return what a list shows of a registered name: everything that depends on no other class."""
    kind, docstring = entry.kind, parse_docstring(entry.kind)
    is_loss = issubclass(kind, registry.losses.interface)
    takes: dict[str, Any] = {}
    if is_loss:
        space, encoding, head = (get_fact(kind, name, None) for name in ("space", "encoding", "head"))
        takes = {
            "takes": SPACES[space].words if space else BY_FIELDS,
            "target": ENCODINGS[encoding].words if encoding else BY_FIELDS,
            "head": HEADS.get(head, BY_FIELDS),
            "requires": [str(requirement) for requirement in get_fact(kind, "requires", ())],
        }
    return {
        "name": entry.name,
        **({"family": get_fact(kind, "family") or OTHER} if is_loss else {}),
        "tasks": list(get_fact(kind, "tasks", ())),
        "fields": {f.name: get_default(f) for f in list_fields(kind)},
        "required": list_required(kind),
        "what_it_is": to_plain_text(docstring.summary),
        **takes,
        "facts": list_facts(kind),
        "use_when": to_plain_text(get_fact(kind, "use_when")),
        "pitfall": to_plain_text(get_fact(kind, "pitfall")),
        "aliases": [to_plain_text(name) for name in get_fact(kind, "aliases", ())],
        "same_as": get_fact(kind, "same_as"),
        "source": entry.source,
    }


def describe_entry(names: Registry[Any], entry: Entry[Any]) -> dict[str, Any]:
    """Return the whole description: `describe_class`, and the weightings that go with a loss."""
    weightings = list_weightings(entry) if names is registry.losses else {}
    return {**describe_class(names, entry), "weightings": weightings}


def describe_class(names: Registry[Any], entry: Entry[Any]) -> dict[str, Any]:
    """Return `list_entry`, the docstring's parts, the demands on fields, and an example."""
    kind, docstring = entry.kind, parse_docstring(entry.kind)

    # 1. fields: type, default, and what their checks at construction demand
    try:
        hints = get_type_hints(kind)
    except NameError:  # an annotation that only its own module's type checker can resolve
        hints = {}
    demands: dict[str, str] = {}
    if not list_required(kind):
        with suppress(LossbenchError):  # a class that needs more than its defaults to be constructed
            demands = collect_demands(kind)
    fields = [
        {
            "name": f.name,
            "type": format_type(hints.get(f.name, f.type)),
            "default": get_default(f),
            "must_be": demands.get(f.name),
        }
        for f in list_fields(kind)
    ]

    # 2. the docstring's parts
    parts = {
        "formula": split_formula(docstring.formula),
        "latex": docstring.formula,
        "notes": [to_plain_text(note) for note in docstring.notes],
        "shapes": to_plain_text(docstring.shapes),
        "raises": to_plain_text(docstring.raises),
        "reference": to_plain_text(docstring.reference),
    }

    # 3. a task's choices, where data come from, which values of a metric are better
    others: dict[str, Any] = {}
    if defaults := get_fact(kind, "defaults", None):
        others |= {"defaults": dict(defaults), "metrics": list(kind.metrics)}
    if isinstance(source := get_fact(kind, "source", None), str):
        others["data_from"] = source
    if isinstance(higher_is_better := get_fact(kind, "higher_is_better", None), bool):
        others["better"] = "higher" if higher_is_better else "lower"

    description = {"kind": names.word, **list_entry(entry), "fields": fields, **parts, **others}
    return {**description, "example": write_example(names, entry, docstring)}


def get_fact(kind: type, name: str, default: Any = "") -> Any:
    """Return a class fact; `default` where there is none, or where only an instance has it."""
    value = getattr(kind, name, default)
    return default if isinstance(value, property) else value


def list_fields(kind: type) -> tuple["Field[Any]", ...]:
    """Return the fields that can be set."""
    return tuple(f for f in dataclass_fields(kind) if f.init) if is_dataclass(kind) else ()


def get_default(field: "Field[Any]") -> Any:
    """Return a field's default as a plain value; None where it is required."""
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    return None if value is MISSING else value.value if isinstance(value, Enum) else value


def format_type(hint: Any) -> str:
    """Return a field's type without its modules: `float`, `Literal['mean', 'sum']`."""
    is_plain = isinstance(hint, type) and not hasattr(hint, "__args__")
    return hint.__name__ if is_plain else re.sub(r"\b\w+\.", "", str(hint))


def list_facts(kind: type) -> dict[str, bool | None]:
    """Return a loss's claims, None where it claims nothing; nothing of any other class."""
    if not issubclass(kind, registry.losses.interface):
        return {}
    requires = get_fact(kind, "requires", ())
    claims = {name: get_fact(kind, name, None) for name in (*CLAIMS, "batch_level")}
    return claims | {
        "trains parameters": Requirement.PARAMETERS in requires,
        "keeps a state": Requirement.STATE in requires,
    }


def list_weightings(entry: Entry[Any]) -> dict[str, list[str]]:
    """Return the weightings that go with a loss, for each of its tasks that exist."""
    if list_required(entry.kind):
        return {}
    loss = registry.losses.get(entry.name)
    fitting: dict[str, list[str]] = {}
    for task in find_tasks(entry.kind):
        fitting[task] = []
        for weighting in registry.weightings.names(task):
            if list_required(registry.weightings.find(weighting)):
                continue
            with suppress(LossbenchError):  # refused as an experiment would be
                check_pair(entry.name, loss, weighting, registry.weightings.get(weighting), registry.tasks.get(task))
                fitting[task].append(weighting)
    return fitting
