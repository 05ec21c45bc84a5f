"""Commands: `lossbench losses regression`, `lossbench describe huber` and the like."""

import re
from collections.abc import Sequence
from difflib import get_close_matches

from lossbench.cli.output import OutputMode, print_document, print_message, results_console
from lossbench.errors import InvalidValue, UnknownName, join_names, make_unknown

OTHERS = ("check", "compare", "describe", "explain", "plot", "plugins", "repair")
"""Commands that do not list a group of names."""


def run_command(command: str, arguments: Sequence[str], mode: OutputMode = OutputMode.TABLE) -> int:
    """List the names of a group, for one task if it is named; or run one of `OTHERS`. Return the exit code."""
    # 1. these read records alone, or plain text: they must not wait for torch, which the registry imports
    if command == "compare":
        from lossbench.cli.commands.compare import run_compare

        return run_compare(arguments, mode)
    if command == "explain":
        from lossbench.cli.commands.explain import run_explain

        return run_explain(arguments, mode)
    if command == "repair":
        from lossbench.cli.commands.repair import run_repair

        return run_repair(arguments, mode)
    # 2. plug-ins, before any name is looked up
    if any("plugins=" in argument for argument in arguments):
        from lossbench.cli.hydra.store import load_plugin_overrides

        arguments = load_plugin_overrides(arguments)
    from lossbench.registry import ALL

    # 3. the command itself; each is imported late: a list must not wait for what draws and what checks
    if command in ALL:
        code = _print_list(command, _parse_task(command, arguments), mode)
    elif command == "check":
        from lossbench.cli.commands.check import run_check

        code = run_check(arguments, mode)
    elif command == "describe":
        from lossbench.cli.commands.describe import run_describe

        code = run_describe(arguments, mode)
    elif command == "plot":
        from lossbench.cli.commands.plot import run_plot

        code = run_plot(arguments, mode)
    elif command == "plugins":
        from lossbench.cli.commands.plugins import run_plugins

        return run_plugins(arguments, mode)  # its table shows the problems
    else:
        raise _make_unknown_command(command, [*ALL, *OTHERS])
    # 4. plug-ins that did not load: a name may be missing for that reason
    if mode is not OutputMode.QUIET:
        groups = [command] if command in ALL else list(ALL) if command == "describe" else ["losses"]
        for problem in (problem for group in groups for problem in ALL[group].problems):
            print_message(str(problem))
    return code


def _print_list(group: str, task: str | None, mode: OutputMode) -> int:
    from lossbench.registry import ALL
    from lossbench.report.describe.descriptions import list_entry
    from lossbench.report.describe.lists import render_entries, render_losses

    entries = [ALL[group].entries()[name] for name in ALL[group].names(task)]
    if mode is OutputMode.JSON:
        print_document([list_entry(entry) for entry in entries])
    elif mode is OutputMode.TABLE:
        out, for_task = results_console(), task is not None
        table = render_losses(entries, for_task, out.width) if group == "losses" else render_entries(entries, for_task)
        out.print(table)
    return 0


def _make_unknown_command(command: str, commands: Sequence[str]) -> UnknownName:
    """Return the error for an unknown command; a name of something else gets its setting, as task=regression."""
    from lossbench.config.choices import suggest_settings

    if get_close_matches(command, commands, n=1) or not (settings := suggest_settings(command)):
        return make_unknown("command", command, commands, "Commands")
    hint = f"Did you mean lossbench {' or '.join(settings)}?"
    return UnknownName(f"Unknown command {command!r}. {hint} Commands: {join_names(sorted(commands))}.")


def _parse_task(group: str, arguments: Sequence[str]) -> str | None:
    """Return the task that a list is for: `binary`, `--task binary`, `--task=binary` or `task=binary`."""
    words = [re.sub("^(--)?task=", "", argument) for argument in arguments]
    tasks = words[1:] if words[:1] == ["--task"] else words
    if len(tasks) > 1 or words == ["--task"] or any(word.startswith("-") for word in tasks):
        raise InvalidValue(
            f"lossbench {group} takes at most one task, as lossbench {group} --task regression. "
            f"Got {' '.join(arguments)!r} instead."
        )
    return tasks[0] if tasks else None
