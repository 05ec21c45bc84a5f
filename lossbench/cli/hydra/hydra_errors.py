"""Convert Hydra's errors: what was given, what was expected, the nearest valid choice."""

from collections.abc import Sequence

from hydra.errors import MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from lossbench.cli.commands.aliases import format_hint, format_nearest
from lossbench.config.omegaconf_errors import convert_omegaconf_error
from lossbench.config.presets import list_library_presets, list_problems, load_preset
from lossbench.config.resolve import FALLBACKS
from lossbench.config.schema import CHOICES
from lossbench.errors import InvalidValue, LossbenchError, UnknownName, join_names, make_unknown
from lossbench.registry import GROUPS, fits_task


def convert_hydra_error(error: Exception, arguments: Sequence[str]) -> LossbenchError:
    """Return the error that Hydra raised for `arguments` as a `LossbenchError`."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _convert_missing_choice(error.missing_cfg_file, error.options or (), arguments)
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        return convert_omegaconf_error(cause, CHOICES)
    return InvalidValue((str(error).splitlines() or [type(error).__name__])[0])


def _convert_missing_choice(path: str, options: Sequence[str], arguments: Sequence[str]) -> LossbenchError:
    """Return the error for a choice without a file: `path` is `loss/hubre`, options are those that Hydra knows."""
    group, _, name = path.rpartition("/")
    if group.startswith("loss/"):  # a preset of a library: timm/zlpr
        names, label = list_library_presets("loss"), "Presets for losses of libraries"
        return _append_problems(make_unknown("loss", path.removeprefix("loss/"), names, label))
    if group not in GROUPS or group == "task":
        return _append_problems(make_unknown(group or "configuration", name, options, f"{group.capitalize()}s"))
    registry = GROUPS[group]
    if name in {problem.name for problem in registry.problems}:  # registered, but its package did not load
        try:
            registry.find(name)
        except UnknownName as unknown:
            return unknown
        return UnknownName(f"{group}={name} has no configuration.")
    # 1. names and presets that fit the task, if the arguments tell it
    settings = dict(argument.lstrip("+").split("=", 1) for argument in arguments if "=" in argument)
    task = settings.get("task", None if "experiment" in settings else FALLBACKS["task"])
    task = task if task in GROUPS["task"].entries() else None
    fitting = registry.names(task)
    presets = [o for o in sorted(set(options) - set(registry.names())) if _preset_fits(group, o, task)]
    # 2. the nearest name
    hint = format_hint(registry, name, fitting) or format_nearest(name, [*fitting, *presets], options)
    label = registry.group.capitalize() + (f" for {task}" if task else "")
    message = f"Unknown {registry.word} {name!r}.{hint} {label}: {join_names(fitting)}."
    return _append_problems(UnknownName(message + (f" Presets: {', '.join(presets)}." if presets else "")))


def _append_problems(error: UnknownName) -> UnknownName:
    """Return the error with the packages of presets that did not load: the name may be one of theirs."""
    return UnknownName(f"{error}{''.join(f' ({problem})' for problem in list_problems())}")


def _preset_fits(group: str, name: str, task: str | None) -> bool:
    """Return False for a preset of another task's part; a user's own part, or an unreadable preset, may fit."""
    try:
        preset = load_preset(group, name)
    except LossbenchError:
        return True
    entry = GROUPS[group].entries().get(preset["name"]) if preset else None
    return entry is None or task is None or fits_task(entry.kind, task)
