"""What is left open of an External, found out: from the names of arguments, and from calls on random data of a task.

The first way that works is taken, in an order that is always the same: as the task's default loss has it, with other
encodings, with two more axes as images have, and then with probabilities and their logarithms.
"""

import warnings
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import torch
from torch import Tensor

from lossbench import registry
from lossbench.errors import Incompatible, InvalidValue
from lossbench.interfaces import Task
from lossbench.interfaces.encodings import ENCODINGS
from lossbench.interfaces.spaces import SPACES
from lossbench.losses.composition.external import outcome, roles
from lossbench.losses.composition.external.adapter import OPEN, External
from lossbench.losses.composition.external.trial import trial_batch
from lossbench.types import Encoding, Space

IMAGE_AXES = (0, 2)
"""`[N, C]`, and the same as images of one pixel, `[N, C, 1, 1]`."""

Fields = Mapping[str, Any]


def complete_fields(given: Fields, task: str, adapter: type[External] = External) -> dict[str, Any]:
    """The fields of an External on `task`, with those that are open (left out or None) found out.

    adapter: the class of an object in place of an import path.

    Only those that differ from what is usual are added. With `batch_level` given nothing is called; and where no call
    works, what a call would have told stays as usual, so that the training says what fails. Raises `InvalidValue` for
    fields that nothing can be made of, and for arguments whose names do not say what they are; `Incompatible` for an
    embedding where classes need scores.
    """
    told = {n: v for n, v in given.items() if v is not None}
    kind = registry.tasks.get(task)
    usual = registry.losses.find(kind.defaults["loss"])
    loss = _made(told, adapter)
    if "arguments" not in told:
        told |= _unusual(arguments=roles.guessed(loss.target, loss.signature()))
    if loss.space_facts.scored_by_loss and not SPACES[usual.space].scored_by_loss:
        why = "trains an embedding, and what scores it gives to classes is not known"
        raise Incompatible(f"{loss.target} {why}: use task=embedding.", loss.target, why)
    ways = [told | way for way in _ways(told, usual.space, usual.encoding, kind, loss)]
    for way in ways if "batch_level" not in told else ():
        if (found := _found(way, kind, adapter)) is not None:
            return way | found
    return ways[0]


def _made(told: Fields, adapter: type[External]) -> External:
    try:
        return adapter(**told)
    except InvalidValue:
        if told.get("reduction") is not None:
            raise
    try:
        return adapter(**told, reduction="keep")  # its reduction may have no "none"
    except InvalidValue:
        return adapter(**told)  # raises what it raised before: that was not the reason


def _unusual(**found: Any) -> dict[str, Any]:
    return {n: v for n, v in found.items() if v != OPEN[n]}


def _ways(told: Fields, space: Space, encoding: Encoding, task: Task, loss: External) -> Iterator[dict[str, Any]]:
    """The ways to call it, the likeliest first; each as the fields that are not told and not usual."""
    spaces = [Space(told["space"])] if "space" in told else _spaces(space, task, loss)
    layouts = [told["layout"]] if "layout" in told else ["last", "first", "steps"] if task.sequence else ["last"]
    axes = [told["axes"]] if "axes" in told else IMAGE_AXES
    reductions = [told["reduction"]] if "reduction" in told else ["none", "keep"]
    for s, where, more in product(spaces, layouts, axes):
        own = SPACES[s].target or encoding
        others = [e for e in task.encodings if ENCODINGS[own].plain and ENCODINGS[e].plain and e is not own]
        encodings = [Encoding(told["encoding"])] if "encoding" in told else [own, *others]
        for e, reduction in product(encodings, reductions):
            way = _unusual(space=s, encoding=e, layout=where, axes=more, reduction=reduction)
            yield {n: str(v) if n in ("space", "encoding") else v for n, v in way.items()}


def _spaces(usual: Space, task: Task, loss: External) -> list[Space]:
    """What its first argument is called may say that it takes probabilities; else they come last."""
    normed = [s for s, facts in SPACES.items() if facts.argument and s in task.spaces]
    names = " ".join(p.name for p in loss.signature()[:2])
    first = [s for s in reversed(normed) if SPACES[s].argument in names][:1]
    return list(dict.fromkeys([*first, usual, *normed]))


def _found(way: Fields, task: Task, adapter: type[External]) -> dict[str, Any] | None:
    """What a call tells: whether the loss is batch-level, and which entry of its result it is; None if it fails."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # of broadcasting, say: such results have too many values
        torch.default_generator.manual_seed(0)
        try:
            return _called(adapter(**way, batch_level=False), *trial_batch(adapter(**way), task))
        except Exception:  # a stranger's loss may raise anything on what it does not take
            return None


def _called(loss: External, prediction: Tensor, target: Tensor) -> dict[str, Any] | None:
    if loss.reduction == "each":
        return {} if _learns(loss(prediction, target)) else None
    entries = outcome.entries_of(loss.result(prediction, target))
    value = loss.value(prediction, target)
    if not _learns(value):
        return None
    entry = _unusual(entry=loss.entry or outcome.likely(entries)) if entries else {}
    if value.numel() == 1:
        return entry | {"batch_level": True}
    outcome.check_examples(loss.target, value, prediction)
    return entry | ({} if _independent(loss, prediction, target, value) else {"batch_level": True})


def _learns(value: Tensor) -> bool:
    return value.requires_grad and bool(value.isfinite().all())


def _independent(loss: External, prediction: Tensor, target: Tensor, value: Tensor) -> bool:
    """Whether half of the batch has the values that it has in the whole."""
    half = len(prediction) // 2
    alone = loss.value(prediction[:half], target[:half])
    return alone.shape[0] == half and torch.allclose(alone, value[:half], rtol=1e-4, atol=1e-5)
