"""Examples of registered names: a command that runs, or a few lines of Python."""

from typing import Any

from lossbench import plugins, registry
from lossbench.interfaces.encodings import ENCODINGS
from lossbench.interfaces.loss import Loss
from lossbench.interfaces.spaces import SPACES
from lossbench.registry import GROUPS, Entry, Registry, fits_task, list_required
from lossbench.report.describe.docstrings import Docstring

SCRIPT = """\
import torch
from lossbench import losses

prediction = {prediction}.requires_grad_()
target = {target}
losses.get("{name}").module()(prediction, target).backward()"""


def write_example(names: Registry[Any], entry: Entry[Any], docstring: Docstring) -> str:
    """Return a command that runs, or Python where no task runs it; empty where neither is known."""
    if docstring.examples or list_required(entry.kind):  # an example cannot guess required fields
        return docstring.examples
    tasks = [entry.name] if names is registry.tasks else find_tasks(entry.kind)
    if tasks:
        group = next((g for g, r in GROUPS.items() if r is names), "metric")
        choice = "" if names is registry.tasks else f" {group}={entry.name}"
        module = entry.kind.__module__
        plugin = next((f" 'plugins=[{p.place}]'" for p in plugins.list_loaded() if p.module == module), "")
        return f"lossbench{plugin} task={tasks[0]}{choice}"
    if issubclass(entry.kind, Loss):
        prediction, target = SPACES[entry.kind.space].example, ENCODINGS[entry.kind.encoding].example
        if prediction and target:
            return SCRIPT.format(prediction=prediction, target=target, name=entry.name)
    return ""


def find_tasks(kind: type) -> list[str]:
    """Return the tasks that a class fits: first those that it names, in its order, then all others."""
    fitting = [name for name in registry.tasks.entries() if fits_task(kind, name)]
    named = [name for name in getattr(kind, "tasks", ()) if name in fitting]
    return list(dict.fromkeys([*named, *fitting]))
