"""`lossbench check huber`, `check huber loss.delta=2`, `check --all`, `check path/to/file.py:Class`.

A loss of another library: `check external task=multiclass loss.target=timm.loss.JsdCrossEntropy`, `check timm/zlpr`.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

from omegaconf import OmegaConf

from lossbench import registry
from lossbench.check.checks import check_loss
from lossbench.check.external_wrapper import ExternalWrapper, wrap_external
from lossbench.check.loading import is_location, load_losses
from lossbench.check.verdicts import Verdict, convert_verdicts, render_checks, render_verdicts
from lossbench.cli.hydra.overrides import parse_override
from lossbench.cli.output import OutputMode, print_document, print_message, results_console
from lossbench.config.choices import make_choice
from lossbench.config.presets import list_library_presets, load_preset
from lossbench.errors import InvalidValue
from lossbench.interfaces.loss import Loss
from lossbench.losses import External

ALL = "--all"
USAGE = "lossbench check NAME [task=TASK] [loss.FIELD=VALUE ...] | --all | path/to/file.py:Class | package.module:Class"
TASK = "task"


def run_check(arguments: Sequence[str], mode: OutputMode) -> int:
    """Run the contract; 0 if every loss passes, and 1 if any fails."""
    names = [a for a in arguments if "=" not in a and not a.startswith("-")]
    fields = _fields([a for a in arguments if "=" in a])
    _check_usage(arguments, names, fields)
    verdicts = []
    with warnings.catch_warnings():  # a stranger's loss may warn with each call
        warnings.simplefilter("ignore")
        for name, loss in _wanted(names, fields):
            why = loss if isinstance(loss, str) else ""
            verdicts.append(Verdict(name, () if isinstance(loss, str) else tuple(check_loss(loss)), why))
    _print(verdicts, mode)
    return int(any(v.failed for v in verdicts))


def _check_usage(arguments: Sequence[str], names: Sequence[str], fields: Mapping[str, Any]) -> None:
    strange = [a for a in arguments if a.startswith("-") and a != ALL]
    if strange or bool(names) == (ALL in arguments):
        got = " ".join(arguments)
        raise InvalidValue(f"Write {USAGE}. Got {got!r} instead." if got else f"Write {USAGE}.")
    if fields and len(names) != 1:
        raise InvalidValue(f"Fields are set for one loss at a time. Got {', '.join(names) or ALL} with {fields}.")


def _fields(overrides: Sequence[str]) -> dict[str, Any]:
    """Fields of the loss, `loss.params.gamma=2` as a mapping in a mapping; and the task, if it is among them."""
    found = OmegaConf.create({})
    for text in overrides:
        override = parse_override(text)
        group, _, name = override.key_or_group.partition(".")
        if group != "loss" or not name:
            if (group, name) != (TASK, ""):
                raise InvalidValue(f"Only fields of the loss can be set, as loss.delta=2. Got {text!r} instead.")
            registry.tasks.find(str(override.value()))
            name = TASK
        OmegaConf.update(found, name, override.value(), force_add=True)
    return cast(dict[str, Any], OmegaConf.to_container(found))


def _wanted(names: Sequence[str], fields: dict[str, Any]) -> list[tuple[str, Loss | str]]:
    """The losses by name; without names all that are registered, or why one of them cannot be made."""
    if not names:
        return [(name, _made_or_why(name)) for name in registry.losses.names()]
    task = fields.pop(TASK, None)
    if task is not None or names[0] in list_library_presets("loss"):
        return [(name, _adapted(name, fields, task)) for name in names]
    kinds = [pair for name in names for pair in (load_losses(name) if is_location(name) else _registered(name)).items()]
    return [(name, registry.losses.make(name, kind, fields)) for name, kind in kinds]


def _adapted(name: str, fields: Mapping[str, Any], task: str | None) -> Loss:
    """A loss as an experiment on `task` would have it; of a preset, which may say all that there is to say."""
    found: Any = {"name": name}
    if name in list_library_presets("loss"):
        found = load_preset("loss", name)
    given = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.merge(found, fields)))
    loss: Loss = registry.losses.build(make_choice("loss", given, task))
    if isinstance(loss, External):
        print_message(loss.told())
        if isinstance(called := wrap_external(loss), ExternalWrapper):
            print_message(called.describe())
    return loss


def _registered(name: str) -> dict[str, type[Loss]]:
    return {name: registry.losses.find(name)}


def _made_or_why(name: str) -> Loss | str:
    try:
        return registry.losses.get(name)
    except InvalidValue as error:  # a loss that has to be told something first
        return str(error)


def _print(verdicts: Sequence[Verdict], mode: OutputMode) -> None:
    if mode is OutputMode.JSON:
        print_document(convert_verdicts(verdicts))
    elif mode is OutputMode.TABLE:
        table = render_checks(verdicts[0]) if len(verdicts) == 1 else render_verdicts(verdicts)
        results_console().print(table)
