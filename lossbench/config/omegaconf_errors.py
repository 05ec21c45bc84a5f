"""Convert OmegaConf's errors: what was given, what was expected, the nearest valid choice."""

from collections.abc import Collection
from difflib import get_close_matches

from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from lossbench.errors import InvalidValue, LossbenchError, UnknownName
from lossbench.notation import format_paths, format_setting, format_value


def convert_omegaconf_error(error: OmegaConfBaseException, choices: Collection[str]) -> LossbenchError:
    """Return OmegaConf's error as a `LossbenchError`; choices: groups that hold a choice, with its fields."""
    if isinstance(error, ConfigAttributeError | ConfigKeyError):
        return _convert_unknown_key(error, choices)
    if isinstance(error, ValidationError) and (converted := _convert_wrong_type(error, choices)):
        return converted
    text = (str(error).splitlines() or [type(error).__name__])[0]
    return InvalidValue(f"{error.full_key}: {text}" if error.full_key else text)


def _convert_unknown_key(error: OmegaConfBaseException, choices: Collection[str]) -> LossbenchError:
    """Return the error for a setting or field that does not exist."""
    path = error.full_key or str(error.key)
    parent, _, key = path.rpartition(".")
    is_choice, node = parent in choices, error.parent_node
    known = _list_fields(node, is_choice)
    near = get_close_matches(key, known, n=1)
    hint = f" Did you mean {(parent + '.' if parent else '') + near[0]!r}?" if near else ""
    chosen = node.get("name") if is_choice and isinstance(node, DictConfig) else None
    owner = f"{parent}={chosen}" if chosen else parent
    label = f"Fields of {owner}" if parent else "Settings"
    return UnknownName(f"Unknown setting {path!r}.{hint} {label}: {', '.join(known) or 'none'}.")


def _convert_wrong_type(error: ValidationError, choices: Collection[str]) -> InvalidValue | None:
    """Return the error for a value of the wrong type; None if OmegaConf's words are not known here."""
    path, value, parent = error.full_key, error.value, error.parent_node
    if path is None:
        return None
    fields = _list_fields(parent.get(path), path in choices) if isinstance(parent, DictConfig) else []
    expected_by_words = {
        "Float": "a number",
        "Integer": "a whole number",
        "valid bool": f"{format_value(True)} or {format_value(False)}",
        "not a ListConfig": f"a list, as in {format_setting(path, [value])}",
        "not Optional": f"a value, not {format_value(None)}",
        "Incompatible value 'None'": f"a value, not {format_value(None)}",
        "not a subclass": f"set by its fields: {format_paths(path, fields)}",
    }
    said = str(error).splitlines()[0]
    expected = next((text for words, text in expected_by_words.items() if words in said), None)
    return None if expected is None else InvalidValue(f"{path} must be {expected}. Got {value!r} instead.")


def _list_fields(node: object, is_choice: bool) -> list[str]:
    hidden = {"name"} if is_choice else {"hydra"}
    return sorted(str(key) for key in node if str(key) not in hidden) if isinstance(node, DictConfig) else []
