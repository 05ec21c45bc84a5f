"""Hydra's errors as ours: what was given, what was wanted, the nearest valid choice."""

from collections.abc import Sequence

from hydra.errors import MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from lossbench.cli.commands import aliases
from lossbench.config import omegaconf_errors
from lossbench.config.presets import list_library_presets, list_problems, load_preset
from lossbench.config.resolve import FALLBACKS
from lossbench.config.schema import CHOICES
from lossbench.errors import InvalidValue, LossbenchError, UnknownName, join_names, make_unknown
from lossbench.registry import GROUPS, fits_task


def convert_hydra_error(error: Exception, arguments: Sequence[str]) -> LossbenchError:
    """`error`, that Hydra raised for `arguments`, as one of ours."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_choice(error.missing_cfg_file, error.options or (), arguments)
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        return omegaconf_errors.convert_omegaconf_error(cause, CHOICES)
    return InvalidValue((str(error).splitlines() or [type(error).__name__])[0])


def _unknown_choice(path: str, options: Sequence[str], arguments: Sequence[str]) -> LossbenchError:
    group, _, name = path.rpartition("/")
    if group.startswith("loss/"):
        return _with_problems(
            make_unknown(
                "loss", path.removeprefix("loss/"), list_library_presets("loss"), "Presets for losses of libraries"
            )
        )
    if group not in GROUPS or group == "task":
        return _with_problems(make_unknown(group or "configuration", name, options, f"{group.capitalize()}s"))
    names, task = GROUPS[group], _task(arguments)
    if name in {p.name for p in names.problems}:
        return _broken(group, name)
    fitting = names.names(task)
    own_presets = [o for o in sorted(set(options) - set(names.names())) if _preset_fits(group, o, task)]
    label = names.group.capitalize() + (f" for {task}" if task else "")
    hint = aliases.format_hint(names, name, fitting) or aliases.format_nearest(name, [*fitting, *own_presets], options)
    told = f"Unknown {names.word} {name!r}.{hint} {label}: {join_names(fitting)}."
    return _with_problems(UnknownName(told + (f" Presets: {', '.join(own_presets)}." if own_presets else "")))


def _with_problems(error: UnknownName) -> UnknownName:
    """A name may be one that a package with a problem ships."""
    return UnknownName(f"{error}{''.join(f' ({problem})' for problem in list_problems())}")


def _task(arguments: Sequence[str]) -> str | None:
    """The task that the arguments ask for; None if only a preset knows, or there is no such task."""
    given = dict(a.lstrip("+").split("=", 1) for a in arguments if "=" in a)
    task = given.get("task", None if "experiment" in given else FALLBACKS["task"])
    return task if task in GROUPS["task"].entries() else None


def _preset_fits(group: str, name: str, task: str | None) -> bool:
    """Whether a preset is of something for `task`; one of the user's own, or one that cannot be read, may be."""
    try:
        found = load_preset(group, name)
    except LossbenchError:
        return True
    entry = GROUPS[group].entries().get(found["name"]) if found else None
    return entry is None or task is None or fits_task(entry.kind, task)


def _broken(group: str, name: str) -> LossbenchError:
    try:
        GROUPS[group].find(name)
    except UnknownName as error:  # tells which package offers it, and why it did not load
        return error
    return UnknownName(f"{group}={name} has no configuration.")
