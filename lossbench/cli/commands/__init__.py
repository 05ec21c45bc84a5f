"""Verbs: `lossbench losses regression`, `lossbench describe huber` and the like."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lossbench.cli.output import OutputMode, print_document, print_message, results_console
from lossbench.errors import InvalidValue, make_unknown

if TYPE_CHECKING:  # it imports torch, which comparing records needs not
    from lossbench.registry import Registry

OTHERS = ("check", "compare", "describe", "plot", "plugins")
"""Verbs that are no lists."""


def run_command(verb: str, arguments: Sequence[str], mode: OutputMode = OutputMode.TABLE) -> int:
    """List what is registered, for one task if it is named; or one of `OTHERS`."""
    if verb == "compare":
        from lossbench.cli.commands.compare import run_compare

        return run_compare(arguments, mode)
    if any("plugins=" in argument for argument in arguments):
        from lossbench.cli.hydra.store import load_plugin_overrides

        arguments = load_plugin_overrides(arguments)
    from lossbench.registry import ALL

    if verb in OTHERS:
        code = _run_other(verb, arguments, mode)
    elif verb in ALL:
        code = _run_list(verb, _task(verb, arguments), mode)
    else:
        raise make_unknown("verb", verb, [*ALL, *OTHERS], "Verbs")
    if mode is not OutputMode.QUIET and verb != "plugins":  # which tells them in its table
        for names in [ALL[verb]] if verb in ALL else ALL.values() if verb == "describe" else [ALL["losses"]]:
            _tell_problems(names)
    return code


def _run_other(verb: str, arguments: Sequence[str], mode: OutputMode) -> int:
    # imported where they are wanted: a list need not wait for what draws and what checks
    if verb == "check":
        from lossbench.cli.commands.check import run_check

        return run_check(arguments, mode)
    if verb == "plot":
        from lossbench.cli.commands.plot import run_plot

        return run_plot(arguments, mode)
    if verb == "plugins":
        from lossbench.cli.commands.plugins import run_plugins

        return run_plugins(arguments, mode)
    from lossbench.cli.commands.describe import run_describe

    return run_describe(arguments, mode)


def _run_list(verb: str, task: str | None, mode: OutputMode) -> int:
    from lossbench.registry import ALL
    from lossbench.report.describe.descriptions import list_entry
    from lossbench.report.describe.lists import render_entries, render_losses

    found = [ALL[verb].entries()[name] for name in ALL[verb].names(task)]
    if mode is OutputMode.JSON:
        print_document([list_entry(entry) for entry in found])
    elif mode is OutputMode.TABLE:
        out, for_task = results_console(), task is not None
        out.print(render_losses(found, for_task, out.width) if verb == "losses" else render_entries(found, for_task))
    return 0


def _task(verb: str, arguments: Sequence[str]) -> str | None:
    """The task that a list is for: `binary`, `--task binary`, `--task=binary` or `task=binary`."""
    words = [re.sub("^(--)?task=", "", a) for a in arguments]
    given = words[1:] if words[:1] == ["--task"] else words
    if len(given) > 1 or words == ["--task"] or any(w.startswith("-") for w in given):
        raise InvalidValue(
            f"lossbench {verb} takes at most one task, as lossbench {verb} --task regression. "
            f"Got {' '.join(arguments)!r} instead."
        )
    return given[0] if given else None


def _tell_problems(registry: "Registry[Any]") -> None:
    for problem in registry.problems:
        print_message(str(problem))
