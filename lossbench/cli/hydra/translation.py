"""Hydra's and OmegaConf's errors as ours: what was given, what was wanted, the nearest valid choice."""

from collections.abc import Sequence
from difflib import get_close_matches

from hydra import initialize_config_module
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from lossbench.cli import elsewhere
from lossbench.config import packages
from lossbench.config.experiment import GROUPS
from lossbench.config.presets import of_libraries, preset
from lossbench.errors import InvalidValue, LossbenchError, UnknownName, enumerated, unknown
from lossbench.registry import fits_task

WANTED = {
    "Float": "a number",
    "Integer": "a whole number",
    "valid bool": "true or false",
    "not a ListConfig": "a list in brackets, as in '{key}=[{value}]'",
    "not Optional": "a value, not null",
    "not a subclass": "set by its fields: {fields}",
}
"""OmegaConf's words for a wrong type, and ours."""


def translated(error: Exception, arguments: Sequence[str]) -> LossbenchError:
    """`error`, that Hydra raised for `arguments`, as one of ours."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_choice(error.missing_cfg_file, error.options or (), arguments)
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return _unknown_setting(cause)
    if isinstance(cause, ValidationError):
        return _wrong_type(cause)
    said = (str(cause or error).splitlines() or [type(error).__name__])[0]
    key = getattr(cause, "full_key", None)
    return InvalidValue(f"{key}: {said}" if key else said)


def _unknown_choice(path: str, options: Sequence[str], arguments: Sequence[str]) -> LossbenchError:
    group, _, name = path.rpartition("/")
    if group.startswith("loss/"):
        return _with_problems(
            unknown("loss", path.removeprefix("loss/"), of_libraries("loss"), "Presets for losses of libraries")
        )
    if group not in GROUPS or group == "task":
        return _with_problems(unknown(group or "configuration", name, options, f"{group.capitalize()}s"))
    names, task = GROUPS[group], _task(arguments)
    if name in {p.name for p in names.problems}:
        return _broken(group, name)
    fitting = names.names(task)
    presets = [o for o in sorted(set(options) - set(names.names())) if _preset_fits(group, o, task)]
    label = names.group.capitalize() + (f" for {task}" if task else "")
    hint = elsewhere.hint(names, name, fitting) or elsewhere.nearest(name, [*fitting, *presets], options)
    told = f"Unknown {names.word} {name!r}.{hint} {label}: {enumerated(fitting)}."
    return _with_problems(UnknownName(told + (f" Presets: {', '.join(presets)}." if presets else "")))


def _with_problems(error: UnknownName) -> UnknownName:
    """A name may be one that a package with a problem ships."""
    told = [f" ({p.source} failed to load ({p.group}: {p.name}): {p.reason})" for p in packages.problems()]
    return UnknownName(f"{error}{''.join(told)}")


def _task(arguments: Sequence[str]) -> str | None:
    """The task that the arguments ask for; None if only a preset knows, or there is no such task."""
    given = dict(a.lstrip("+").split("=", 1) for a in arguments if "=" in a)
    task = given.get("task", None if "experiment" in given else "regression")
    return task if task in GROUPS["task"].entries() else None


def _preset_fits(group: str, name: str, task: str | None) -> bool:
    """Whether a preset is of something for `task`; one of the user's own, or one that cannot be read, may be."""
    try:
        with initialize_config_module("lossbench.configs", version_base="1.3"):
            found = preset(group, name)
    except HydraException:
        return True
    entry = GROUPS[group].entries().get(found["name"]) if found else None
    return entry is None or task is None or fits_task(entry.kind, task)


def _broken(group: str, name: str) -> LossbenchError:
    try:
        GROUPS[group].find(name)
    except UnknownName as error:  # tells which package offers it, and why it did not load
        return error
    return UnknownName(f"{group}={name} has no configuration.")


def _unknown_setting(cause: OmegaConfBaseException) -> LossbenchError:
    key = cause.full_key or str(cause.key)
    parent, _, field = key.rpartition(".")
    known = _fields(cause.parent_node, parent)
    near = get_close_matches(field, known, n=1)
    hint = f" Did you mean {(parent + '.' if parent else '') + near[0]!r}?" if near else ""
    where = f"Fields of {_described(parent, cause.parent_node)}" if parent else "Settings"
    return UnknownName(f"Unknown setting {key!r}.{hint} {where}: {', '.join(known) or 'none'}.")


def _fields(node: object, parent: str) -> list[str]:
    hidden = {"name"} if parent in GROUPS else {"hydra"}
    return sorted(str(key) for key in node if str(key) not in hidden) if isinstance(node, DictConfig) else []


def _described(parent: str, node: object) -> str:
    chosen = node.get("name") if parent in GROUPS and isinstance(node, DictConfig) else None
    return f"{parent}={chosen}" if chosen else parent


def _wrong_type(cause: OmegaConfBaseException) -> LossbenchError:
    said, key = str(cause).splitlines()[0], cause.full_key
    wanted = next((words for mark, words in WANTED.items() if mark in said), None)
    if wanted is None or key is None:
        return InvalidValue(f"{key}: {said}" if key else said)
    fields = _fields(cause.parent_node.get(key), key) if isinstance(cause.parent_node, DictConfig) else []
    wanted = wanted.format(key=key, value=cause.value, fields=", ".join(f"{key}.{f}=" for f in fields))
    return InvalidValue(f"{key} must be {wanted}. Got {cause.value!r} instead.")
