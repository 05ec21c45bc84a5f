"""OmegaConf's errors as ours: what was given, what was wanted, the nearest valid choice."""

from collections.abc import Collection
from difflib import get_close_matches

from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from lossbench.errors import InvalidValue, LossbenchError, UnknownName

TYPES = {
    "Float": "a number",
    "Integer": "a whole number",
    "valid bool": "true or false",
    "not a ListConfig": "a list in brackets, as in '{key}=[{value}]'",
    "not Optional": "a value, not null",
    "Incompatible value 'None'": "a value, not null",
    "not a subclass": "set by its fields: {fields}",
}
"""OmegaConf's words for a wrong type, and ours."""


def convert_omegaconf_error(error: OmegaConfBaseException, choices: Collection[str]) -> LossbenchError:
    """Return OmegaConf's error as one of ours; choices: groups that hold a choice, with its fields."""
    if isinstance(error, ConfigAttributeError | ConfigKeyError):
        return _unknown_setting(error, choices)
    if isinstance(error, ValidationError):
        return _wrong_type(error, choices)
    return _plain(error)


def _plain(error: OmegaConfBaseException) -> InvalidValue:
    text = (str(error).splitlines() or [type(error).__name__])[0]
    return InvalidValue(f"{error.full_key}: {text}" if error.full_key else text)


def _unknown_setting(error: OmegaConfBaseException, choices: Collection[str]) -> LossbenchError:
    key = error.full_key or str(error.key)
    parent, _, field = key.rpartition(".")
    known = _fields(error.parent_node, parent in choices)
    near = get_close_matches(field, known, n=1)
    hint = f" Did you mean {(parent + '.' if parent else '') + near[0]!r}?" if near else ""
    where = f"Fields of {_described(parent, error.parent_node, parent in choices)}" if parent else "Settings"
    return UnknownName(f"Unknown setting {key!r}.{hint} {where}: {', '.join(known) or 'none'}.")


def _fields(node: object, is_choice: bool) -> list[str]:
    hidden = {"name"} if is_choice else {"hydra"}
    return sorted(str(key) for key in node if str(key) not in hidden) if isinstance(node, DictConfig) else []


def _described(parent: str, node: object, is_choice: bool) -> str:
    chosen = node.get("name") if is_choice and isinstance(node, DictConfig) else None
    return f"{parent}={chosen}" if chosen else parent


def _wrong_type(error: OmegaConfBaseException, choices: Collection[str]) -> LossbenchError:
    said, key = str(error).splitlines()[0], error.full_key
    expected = next((words for mark, words in TYPES.items() if mark in said), None)
    if expected is None or key is None:
        return _plain(error)
    fields = _fields(error.parent_node.get(key), key in choices) if isinstance(error.parent_node, DictConfig) else []
    expected = expected.format(key=key, value=error.value, fields=", ".join(f"{key}.{f}=" for f in fields))
    return InvalidValue(f"{key} must be {expected}. Got {error.value!r} instead.")
