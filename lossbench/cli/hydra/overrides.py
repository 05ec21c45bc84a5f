"""What is typed, checked: mistakes that Hydra tells badly or takes in silence."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from lossbench.config import schema
from lossbench.config.schema import CHOICES, LISTED, LISTS, SETTINGS, Schema, check_setting, check_types, parse_numbers
from lossbench.errors import InvalidValue, make_unknown
from lossbench.types import Setting

NAMES = {"experiment", "protocol", "hydra"}
"""Groups of presets: what may be chosen of them, Hydra knows."""


def check_overrides(given: Sequence[str], sweep: bool, completing: bool = False) -> None:
    """Raise `InvalidValue` for what cannot be read, is given twice, is removed, or needs a sweep."""
    parsed = [parse_override(text) for text in given]
    sweep = sweep or any(o.key_or_group == "hydra.mode" for o in parsed)
    ours = [o for o in parsed if not o.key_or_group.startswith("hydra")]
    _check_once(ours)
    for override in ours:
        _check_one(override, sweep)
        if not completing:
            _check_setting(override)


def refuse_ignored_choices(given: Sequence[str], config: Mapping[str, Any]) -> None:
    """Raise `InvalidValue` for a choice that is typed while its list is set, maybe by a preset: it would not count."""
    schema.refuse_ignored_choices({parse_override(text).key_or_group.partition(".")[0]: text for text in given}, config)


def parse_override(text: str) -> Override:
    """One override; raises `InvalidValue` if it cannot be read."""
    try:
        found = OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise InvalidValue(
            f"Cannot read {text!r}: write name=value, for a list 'name=[a,b]', for a mapping 'name={{key:value}}' "
            "(in quotes, for the shell)."
        ) from error
    if not found.key_or_group:
        raise InvalidValue(f"Cannot read {text!r}: there is no name before the '='.")
    return found


def _check_once(given: Sequence[Override]) -> None:
    by_name = defaultdict(list)
    for override in given:
        by_name[override.get_key_element().lstrip("+~")].append(override.input_line)
    for name, lines in by_name.items():
        if len(lines) > 1:
            raise InvalidValue(f"{name} is set {len(lines)} times: {', '.join(map(str, lines))}. Set it once.")


def _check_one(override: Override, sweep: bool) -> None:
    name, value = override.key_or_group, override.value()
    if override.is_delete():
        raise InvalidValue(f"{override.input_line}: a setting cannot be removed. Leave it out to get its default.")
    if name in CHOICES and not isinstance(value, str) and not override.is_sweep_override():
        raise InvalidValue(f"{name} must be one name. Got {override.input_line!r} instead.{_as_list(name, value)}")
    if override.is_sweep_override() and not sweep:
        raise InvalidValue(f"{override.input_line!r} gives several values.{_hint(override)}")


def _check_setting(override: Override) -> None:
    """Raise for what the schema alone can tell, before anything heavy is imported: no such setting, or another type.

    What a choice takes, its class tells.
    """
    name, value = override.key_or_group.lstrip("+"), override.value()
    known = {f.name for f in fields(Schema)}
    top = name.partition(".")[0]
    if top not in known | NAMES and "/" not in name:
        raise make_unknown("setting", name, known, "Settings")
    is_plain = not override.is_sweep_override() and not (isinstance(value, str) and "${" in value)
    if is_plain and name in SETTINGS:
        nested: Any = value
        for part in reversed(name.split(".")):
            nested = {part: nested}
        value = SETTINGS[name].read(check_types(nested))
        if value is not None:
            _check_value(SETTINGS[name], value)


def _check_value(one: Setting, value: Any) -> None:
    """Raise for a number or a word that a setting cannot be; its type is checked with the schema."""
    if one.per_replica:
        parse_numbers(one.path, value)
    elif isinstance(value, str) == (one.type is str):
        check_setting(one, value)


def _as_list(name: str, value: object) -> str:
    return f" For several write '{LISTS[name]}=[...]'." if name in LISTS and isinstance(value, list) else ""


def _hint(override: Override) -> str:
    setting = LISTS.get(override.key_or_group, override.key_or_group)
    one_by_one = " To make them jobs of a sweep, add -m."
    if setting not in (*LISTS.values(), "seeds", "rates", *LISTED):
        return one_by_one
    values = ",".join(map(str, override.sweep_string_iterator())) if override.is_discrete_sweep() else "..."
    return f" As one list: '{setting}=[{values}]'.{one_by_one}"
