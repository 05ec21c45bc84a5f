"""Parse and check overrides as they are typed: mistakes that Hydra reports badly or accepts silently."""

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

PRESET_GROUPS = {"experiment", "protocol", "hydra"}
"""Groups of which Hydra itself knows what may be chosen."""


def check_overrides(texts: Sequence[str], sweep: bool, completing: bool = False) -> None:
    """Raise `InvalidValue` for overrides that cannot be read, are repeated, remove a setting, or need a sweep.

    completing: a shell asks for completions, so that values may be unfinished.
    """
    parsed = [parse_override(text) for text in texts]
    sweep = sweep or any(override.key_or_group == "hydra.mode" for override in parsed)
    settings = [override for override in parsed if not override.key_or_group.startswith("hydra")]
    # 1. each setting once
    lines_by_name = defaultdict(list)
    for override in settings:
        lines_by_name[override.get_key_element().lstrip("+~")].append(str(override.input_line))
    for name, lines in lines_by_name.items():
        if len(lines) > 1:
            raise InvalidValue(f"{name} is set {len(lines)} times: {', '.join(lines)}. Set it once.")
    # 2. the form of each override, then its value
    for override in settings:
        _check_form(override, sweep)
        if not completing:
            _check_value(override)


def refuse_ignored_choices(texts: Sequence[str], config: Mapping[str, Any]) -> None:
    """Raise `InvalidValue` for a choice that has no effect because its list is set, perhaps by a preset."""
    choices = {parse_override(text).key_or_group.partition(".")[0]: repr(text) for text in texts}
    schema.refuse_ignored_choices(choices, config)


def parse_override(text: str) -> Override:
    """Return the parsed override. Raises `InvalidValue` if it cannot be read."""
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise InvalidValue(
            f"Cannot read {text!r}: write name=value, for a list 'name=[a,b]', for a mapping 'name={{key:value}}' "
            "(in quotes, for the shell)."
        ) from error
    if not override.key_or_group:
        raise InvalidValue(f"Cannot read {text!r}: there is no name before the '='.")
    return override


def _check_form(override: Override, sweep: bool) -> None:
    name, value, text = override.key_or_group, override.value(), override.input_line
    if override.is_delete():
        raise InvalidValue(f"{text}: a setting cannot be removed. Leave it out to get its default.")
    if name in CHOICES and not isinstance(value, str) and not override.is_sweep_override():
        hint = f" For several write '{LISTS[name]}=[...]'." if name in LISTS and isinstance(value, list) else ""
        raise InvalidValue(f"{name} must be one name. Got {text!r} instead.{hint}")
    if override.is_sweep_override() and not sweep:
        # loss=mse,huber: offer the list that trains them together, where there is one
        setting, hint = LISTS.get(name, name), ""
        if setting in (*LISTS.values(), "seeds", "rates", *LISTED):
            several = override.is_discrete_sweep()
            values = ",".join(map(str, override.sweep_string_iterator())) if several else "..."
            hint = f" As one list: '{setting}=[{values}]'."
        raise InvalidValue(f"{text!r} gives several values.{hint} To make them jobs of a sweep, add -m.")


def _check_value(override: Override) -> None:
    """Raise for an unknown setting or a wrong value, as far as the schema alone can tell.

    This comes before anything heavy is imported. The fields of a choice are checked by its class, later.
    """
    name, value = override.key_or_group.lstrip("+"), override.value()
    known = {field.name for field in fields(Schema)}
    if name.partition(".")[0] not in known | PRESET_GROUPS and "/" not in name:
        raise make_unknown("setting", name, known, "Settings")
    is_interpolation = isinstance(value, str) and "${" in value
    if name not in SETTINGS or override.is_sweep_override() or is_interpolation:
        return
    setting = SETTINGS[name]
    # 1. the type: OmegaConf converts the value, which it finds at its place in the schema
    nested: Any = value
    for part in reversed(name.split(".")):
        nested = {part: nested}
    value = setting.read(check_types(nested))
    if value is None:
        return
    # 2. the range, or the words that are allowed
    if setting.per_replica:
        parse_numbers(setting.path, value)
    elif isinstance(value, str) == (setting.type is str):
        check_setting(setting, value)
