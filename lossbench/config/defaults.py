"""From what was set to the whole configuration: presets and defaults filled in. One way for all doors."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, cast

import numpy as np

from lossbench import registry
from lossbench.config.experiment import GROUPS
from lossbench.config.presets import (
    EXPERIMENT,
    PROTOCOL,
    list_presets,
    load_experiment,
    load_preset,
    load_protocol,
    merge,
    merge_settings,
)
from lossbench.config.schema import check_types
from lossbench.errors import InvalidValue

FALLBACKS = {"task": "regression", "weighting": "none", PROTOCOL: "quick"}
"""Choices where neither the settings nor the task name one."""


def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole configuration for some settings: what is not among them is the preset's, the task's or usual.

    A setting is spelt as on the command line, in one mapping (`{"optimizer.name": "sgd"}`) or several
    (`{"optimizer": {"name": "sgd"}}`). A choice is a name, a mapping with the name and fields, or a mapping of fields
    of the usual choice. A whole configuration comes back as it is.

    Raises `LossbenchError` for what is unknown or of the wrong type.
    """
    given = nest(_plain(settings))
    if (preset := given.pop(EXPERIMENT, None)) is not None:
        given = merge_settings(load_experiment(str(preset)), given)
    given = merge_settings({}, given)
    found: dict[str, Any] = {}
    found["task"] = _chosen("task", given.pop("task", None), {})
    usual = dict(registry.tasks.find(found["task"]["name"]).defaults)
    for group in GROUPS:
        if group != "task":
            found[group] = _chosen(group, given.pop(group, None), usual)
    found[PROTOCOL] = _protocol(given.pop(PROTOCOL, None))
    return check_types(given | found)


def _chosen(group: str, given: Any, usual: Mapping[str, str]) -> dict[str, Any]:
    """Return one choice as a mapping with its name; a preset's fields come before those that are given."""
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise InvalidValue(f"{group} must be one name, or a mapping with a name and fields. Got {given!r} instead.")
    fields = {str(n): v for n, v in given.items() if n != "name"}
    name = str(given.get("name") or usual.get(group) or FALLBACKS[group])
    if name not in GROUPS[group].entries() and name in list_presets(group):
        return merge(load_preset(group, name) or {}, fields)
    return {"name": name, **fields}


def _protocol(given: Any) -> dict[str, Any]:
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise InvalidValue(f"protocol must be one name, or a mapping of its settings. Got {given!r} instead.")
    return merge(load_protocol(str(given.get("name", FALLBACKS[PROTOCOL]))), given)


def nest(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"clip.mode": "norm"}` as `{"clip": {"mode": "norm"}}`."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        *groups, name = str(key).split(".")
        inside = {name: value}
        for group in reversed(groups):
            inside = {group: inside}
        found = merge_settings(found, inside)
    return found


def _plain(value: Any) -> Any:
    """Return containers and numbers as YAML knows them: people's scripts have tuples, ranges, paths and NumPy's."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes):
        return [_plain(one) for one in cast(Iterable[Any], value)]
    return value
