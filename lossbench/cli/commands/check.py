"""`lossbench check huber`, `check huber loss.delta=2`, `check --all`, `check path/to/file.py:Class`.

For a third-party loss: `check external task=multiclass loss.target=timm.loss.JsdCrossEntropy`, `check timm/zlpr`.
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
    """Run the contract on losses; return 0 if every loss passes, 1 if any fails."""
    names = [argument for argument in arguments if "=" not in argument and not argument.startswith("-")]
    settings = _parse_settings([argument for argument in arguments if "=" in argument])
    options = [argument for argument in arguments if argument.startswith("-") and argument != ALL]
    if options or bool(names) == (ALL in arguments):
        got = " ".join(arguments)
        raise InvalidValue(f"Write {USAGE}. Got {got!r} instead." if got else f"Write {USAGE}.")
    if settings and len(names) != 1:
        raise InvalidValue(f"Fields are set for one loss at a time. Got {', '.join(names) or ALL} with {settings}.")
    verdicts = []
    with warnings.catch_warnings():  # a third-party loss may warn with each call
        warnings.simplefilter("ignore")
        for name, loss in _make_losses(names, settings):
            if isinstance(loss, str):
                verdicts.append(Verdict(name, (), loss))
            else:
                verdicts.append(Verdict(name, tuple(check_loss(loss)), ""))
    if mode is OutputMode.JSON:
        print_document(convert_verdicts(verdicts))
    elif mode is OutputMode.TABLE:
        results_console().print(render_checks(verdicts[0]) if len(verdicts) == 1 else render_verdicts(verdicts))
    return int(any(verdict.failed for verdict in verdicts))


def _parse_settings(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the loss's fields, `loss.params.gamma=2` as nested mappings, and the task if it is set."""
    settings = OmegaConf.create({})
    for text in overrides:
        override = parse_override(text)
        group, _, name = override.key_or_group.partition(".")
        if (group, name) == (TASK, ""):
            registry.tasks.find(str(override.value()))
            name = TASK
        elif group != "loss" or not name:
            raise InvalidValue(f"Only fields of the loss can be set, as loss.delta=2. Got {text!r} instead.")
        OmegaConf.update(settings, name, override.value(), force_add=True)
    return cast(dict[str, Any], OmegaConf.to_container(settings))


def _make_losses(names: Sequence[str], settings: dict[str, Any]) -> list[tuple[str, Loss | str]]:
    """Return the losses with their names; without names all that are registered.

    A loss that cannot be made without settings is replaced by the reason.
    """
    losses: list[tuple[str, Loss | str]] = []
    if not names:
        for name in registry.losses.names():
            try:
                losses.append((name, registry.losses.get(name)))
            except InvalidValue as error:  # such as `external`, which needs its target
                losses.append((name, str(error)))
        return losses
    task = settings.pop(TASK, None)
    if task is not None or names[0] in list_library_presets("loss"):
        return [(name, _make_for_task(name, settings, task)) for name in names]
    for name in names:
        kinds = load_losses(name) if is_location(name) else {name: registry.losses.find(name)}
        losses += [(key, registry.losses.make(key, kind, settings)) for key, kind in kinds.items()]
    return losses


def _make_for_task(name: str, fields: Mapping[str, Any], task: str | None) -> Loss:
    """Return the loss that an experiment on `task` would train; a preset need not name its task."""
    is_preset = name in list_library_presets("loss")
    base: Any = load_preset("loss", name) if is_preset else {"name": name}
    choice = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.merge(base, fields)))
    loss: Loss = registry.losses.build(make_choice("loss", choice, task))
    if isinstance(loss, External):  # say what was inferred about it, and how the checks call it
        print_message(loss.describe())
        if isinstance(wrapped := wrap_external(loss), ExternalWrapper):
            print_message(wrapped.describe())
    return loss
