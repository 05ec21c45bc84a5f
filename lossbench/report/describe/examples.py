"""How to try something: a command that runs, or a few lines of Python."""

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


def write_example(names: Registry[Any], entry: Entry[Any], said: Docstring) -> str:
    """Return a command that runs, or Python where no task runs it; empty where neither can be said."""
    if said.examples or list_required(entry.kind):
        return said.examples
    tasks = [entry.name] if names is registry.tasks else find_tasks(entry.kind)
    if not tasks:
        return write_script(entry) if issubclass(entry.kind, Loss) else ""
    group = next((g for g, r in GROUPS.items() if r is names), "metric")
    chosen = "" if names is registry.tasks else f" {group}={entry.name}"
    own = next((f" 'plugins=[{p.place}]'" for p in plugins.list_loaded() if p.module == entry.kind.__module__), "")
    return f"lossbench{own} task={tasks[0]}{chosen}"


def write_script(entry: Entry[Loss]) -> str:
    """Return Python that calls a loss by itself; empty if a batch for it is not known."""
    prediction, target = SPACES[entry.kind.space].example, ENCODINGS[entry.kind.encoding].example
    return SCRIPT.format(prediction=prediction, target=target, name=entry.name) if prediction and target else ""


def find_tasks(kind: type) -> list[str]:
    """Return the tasks that exist and that it fits, those that it names first in its order."""
    found = [name for name in registry.tasks.entries() if fits_task(kind, name)]
    named = [name for name in getattr(kind, "tasks", ()) if name in found]
    return list(dict.fromkeys([*named, *found]))
