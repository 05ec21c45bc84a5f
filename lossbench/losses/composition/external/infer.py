"""For a third-party loss, lossbench probes how to call it and reports what it inferred.

The story: build the loss from its import path; guess the order of its arguments from their names; then try ways to
call it on random data of the task, and take the first that works. The order of the ways is fixed: as the task's default
loss is called, with other encodings, with two more axes as images have, and then with probabilities and their
logarithms. `External.describe` reports the result in one line.
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
from lossbench.losses.composition.external import results, roles
from lossbench.losses.composition.external.adapter import OPEN, External
from lossbench.losses.composition.external.probe import draw_probe
from lossbench.types import Encoding, Space

IMAGE_AXES = (0, 2)
"""`[N, C]`, and the same as images of one pixel, `[N, C, 1, 1]`."""

Fields = Mapping[str, Any]


def infer_fields(fields: Fields, task: str, adapter: type[External] = External) -> dict[str, Any]:
    """Return the fields of an External on `task`, with inferred values for those that are open (left out or None).

    adapter: the class of an object in place of an import path.

    Only values that differ from the usual ones are added. With `batch_level` set, nothing is called. If no call works,
    the fields stay as usual, so that the training says what fails. Raises `InvalidValue` for fields that do not make a
    loss and for arguments whose names do not tell their roles; `Incompatible` for an embedding where classes need
    scores.
    """
    fixed = {n: v for n, v in fields.items() if v is not None}
    kind = registry.tasks.get(task)
    usual = registry.losses.find(kind.defaults["loss"])

    # 1. build the loss and guess the roles of its arguments
    loss = _build(fixed, adapter)
    if "arguments" not in fixed:
        fixed |= _keep_unusual(arguments=roles.guess_arguments(loss.target, loss.signature()))
    if loss.space_facts.scored_by_loss and not SPACES[usual.space].scored_by_loss:
        why = "trains an embedding, and what scores it gives to classes is not known"
        raise Incompatible(f"{loss.target} {why}: use task=embedding.", loss.target, why)

    # 2. try the ways to call it, the likeliest first
    ways = [fixed | way for way in _list_ways(fixed, usual.space, usual.encoding, kind, loss)]
    for way in ways if "batch_level" not in fixed else ():
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # of broadcasting, say: such results have too many values
            torch.default_generator.manual_seed(0)
            try:
                inferred = _probe(adapter(**way, batch_level=False), *draw_probe(adapter(**way), kind))
            except (Exception, SystemExit):  # a third-party loss may raise anything on input that it does not take
                continue
        if inferred is not None:
            return way | inferred

    # 3. no way works: leave the likeliest one
    return ways[0]


def _build(fields: Fields, adapter: type[External]) -> External:
    try:
        return adapter(**fields)
    except InvalidValue:
        if fields.get("reduction") is not None:
            raise
    try:
        return adapter(**fields, reduction="keep")  # its reduction may have no "none"
    except InvalidValue:
        return adapter(**fields)  # raises the first error again: the reduction was not the reason


def _keep_unusual(**fields: Any) -> dict[str, Any]:
    return {n: v for n, v in fields.items() if v != OPEN[n]}


def _list_ways(fixed: Fields, space: Space, encoding: Encoding, task: Task, loss: External) -> Iterator[dict[str, Any]]:
    """List the ways to call a loss, the likeliest first; each as the fields that are neither fixed nor usual."""
    # spaces: the usual one first, unless the name of an argument says that it takes probabilities or their logarithms
    normalised = [s for s, facts in SPACES.items() if facts.argument and s in task.spaces]
    names = " ".join(p.name for p in loss.signature()[:2])
    named = [s for s in reversed(normalised) if SPACES[s].argument in names][:1]
    spaces = [Space(fixed["space"])] if "space" in fixed else list(dict.fromkeys([*named, space, *normalised]))
    layouts = [fixed["layout"]] if "layout" in fixed else ["last", "first", "steps"] if task.sequence else ["last"]
    axes = [fixed["axes"]] if "axes" in fixed else IMAGE_AXES
    reductions = [fixed["reduction"]] if "reduction" in fixed else ["none", "keep"]
    for s, layout, n_axes in product(spaces, layouts, axes):
        # plain encodings (indices, 0 and 1) are easily taken for each other, so all of them are tried
        first = SPACES[s].target or encoding
        others = [e for e in task.encodings if ENCODINGS[first].plain and ENCODINGS[e].plain and e is not first]
        encodings = [Encoding(fixed["encoding"])] if "encoding" in fixed else [first, *others]
        for e, reduction in product(encodings, reductions):
            way = _keep_unusual(space=s, encoding=e, layout=layout, axes=n_axes, reduction=reduction)
            yield {n: str(v) if n in ("space", "encoding") else v for n, v in way.items()}


def _probe(loss: External, prediction: Tensor, target: Tensor) -> dict[str, Any] | None:
    """Call a loss and return what the call tells, `batch_level` and `entry`; None if it cannot be trained with."""
    if loss.reduction == "each":
        return {} if _is_trainable(loss(prediction, target)) else None
    # 1. find the loss among the entries of its result
    entries = results.list_entries(loss.result(prediction, target))
    value = loss.value(prediction, target)
    if not _is_trainable(value):
        return None
    inferred = _keep_unusual(entry=loss.entry or results.guess_entry(entries)) if entries else {}
    # 2. one number for the whole batch
    if value.numel() == 1:
        return inferred | {"batch_level": True}
    # 3. values per example are independent if half of the batch has the values that it has in the whole
    results.check_examples(loss.target, value, prediction)
    half = len(prediction) // 2
    alone = loss.value(prediction[:half], target[:half])
    independent = alone.shape[0] == half and torch.allclose(alone, value[:half], rtol=1e-4, atol=1e-5)
    return inferred if independent else inferred | {"batch_level": True}


def _is_trainable(value: Tensor) -> bool:
    return value.requires_grad and bool(value.isfinite().all())
