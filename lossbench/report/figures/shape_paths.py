"""Paths of predictions past one target, along which a loss is drawn, and what is held fixed on the way."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.errors import Incompatible
from lossbench.interfaces.encodings import ENCODINGS, Kind
from lossbench.interfaces.loss import Loss
from lossbench.interfaces.spaces import SPACES
from lossbench.losses.regression import CosineSimilarity
from lossbench.types import BLANK, EMBEDDING_WIDTH, Head, Problem

N_CLASSES = 4
COUNT = 3.0  # the target of counts and of other positive values
ZERO_LOGIT = -2.0  # of the zeros that no Poisson rate explains
TEACHER = 3.0  # the teacher's logit of its class, the others being 0
LENGTH = 20.0  # of an embedding beside class vectors
ALIGNMENT = (1, BLANK, 2)  # of the transcript 1 2
TEXT = (1, 2, 3, 1)
ABOVE_ZERO = (0.0, math.inf)

At = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From places ``[N]`` to predictions and targets ``[N, ...]``."""


@dataclass(frozen=True)
class PredictionPath:
    """A path of predictions past one target.

    at: predictions and targets at the places u; ``[N, B, ...]`` for a batch-level loss, of which one example moves.
    place: from what the axis shows to u, in which slopes are taken.
    limits: between which, themselves excluded, the axis has a meaning.
    fixed: what is held fixed. variant: which of several paths it is.
    n_outputs, parameters: what the loss is made for, and trainable tensors that are not as at the start.
    """

    at: At
    place: Callable[[Tensor], Tensor] = lambda x: x
    limits: tuple[float, float] = (-math.inf, math.inf)
    fixed: tuple[str, ...] = ()
    variant: str = ""
    n_outputs: int = 1
    parameters: Mapping[str, Tensor] = field(default_factory=dict)


PathsByAxis = dict[str, tuple[PredictionPath, ...]]
"""Paths by axis, the usual axis first."""


def build_paths(label: str, loss: Loss) -> PathsByAxis:
    """Return the paths of a loss that errors call `label`. Raises `Incompatible` where none is known."""
    space, kind = SPACES[loss.space], ENCODINGS[loss.encoding].kind
    if kind not in space.kinds or kind not in PATH_BUILDERS:
        reason = f"no path is known for {loss.space} predictions and {loss.encoding} targets"
        raise Incompatible(f"{label} cannot be drawn: {reason}.", label, reason)
    if space.scored_by_loss and not loss.batch_level:
        parameters = loss.init_parameters(Problem((1,), N_CLASSES, 1), torch.Generator().manual_seed(0))
        if "weight" not in parameters:
            reason = "it takes embeddings one by one and has no class vectors from which to turn them"
            raise Incompatible(f"{label} cannot be drawn: {reason}.", label, reason)
    return PATH_BUILDERS[kind](loss)


def _build_path(loss: Loss, at: At, mates: Sequence[tuple[At, float]] | None = None, **facts: Any) -> PredictionPath:
    """Return a path; for a batch-level loss the other examples of its batch stay at their places.

    mates: those examples, each with its place; by default two on the same path.
    """
    path = PredictionPath(at, **facts)
    if not loss.batch_level:
        return path
    mates = [(at, -1.0), (at, 0.5)] if mates is None else mates

    def at_in_batch(u: Tensor) -> tuple[Tensor, Tensor]:
        parts = [at(u), *(mate(torch.full_like(u, place)) for mate, place in mates)]
        return torch.stack([p for p, _ in parts], 1), torch.stack([t for _, t in parts], 1)  # [N, B, ...]

    moving = f"one example of a batch of {len(mates) + 1} moves"
    return replace(path, at=at_in_batch, fixed=(*path.fixed, moving))


def _stack_columns(u: Tensor, *columns: Tensor | float) -> Tensor:
    """Return the columns side by side, ``[N, n columns]``; a number is a column of it."""
    return torch.stack([c if isinstance(c, Tensor) else torch.full_like(u, c) for c in columns], -1)


# values


def _build_value_paths(loss: Loss) -> PathsByAxis:
    if SPACES[loss.space].head is Head.MEAN_SCALE:
        error = _build_path(
            loss, lambda u: (_stack_columns(u, u, 0), _stack_columns(u, 0)), fixed=("predicted scale 1",)
        )
        sigma = _build_path(loss, lambda u: (_stack_columns(u, 1, u), _stack_columns(u, 0)), fixed=("error 1",))
        return {"error": (error,), "sigma": (replace(sigma, place=torch.log, limits=ABOVE_ZERO),)}

    if isinstance(loss, CosineSimilarity):  # a single value has no direction

        def turn(u: Tensor) -> tuple[Tensor, Tensor]:
            return _stack_columns(u, u.cos(), u.sin()), _stack_columns(u, 1, 0)

        fixed = ("vectors of length 1 in the plane",)
        return {"angle": (_build_path(loss, turn, place=torch.deg2rad, fixed=fixed, n_outputs=2),)}

    width = 4 if loss.tasks == ("boxes",) else 1  # it takes nothing but boxes: all coordinates are off alike

    def at(u: Tensor) -> tuple[Tensor, Tensor]:
        return _stack_columns(u, *[u] * width), _stack_columns(u, *[0] * width)

    paths: PathsByAxis = {"error": (_build_path(loss, at, n_outputs=width),)}
    if "boxes" in loss.tasks:  # by centre and log size, in units of the target's width
        facts: dict[str, Any] = {"fixed": ("given centre and log size in box widths",), "n_outputs": 4}
        moved = _build_path(loss, lambda u: (_stack_columns(u, u, 0, 0, 0), _stack_columns(u, 0, 0, 0, 0)), **facts)
        scaled = _build_path(loss, lambda u: (_stack_columns(u, 0, 0, u, u), _stack_columns(u, 0, 0, 0, 0)), **facts)
        paths["offset"] = (replace(moved, limits=ABOVE_ZERO),)
        paths["scale"] = (replace(scaled, place=torch.log, limits=ABOVE_ZERO),)
    return paths


def _build_amount_paths(loss: Loss) -> PathsByAxis:
    """Return paths of positive values: first on the scale of logarithms, then by how much they are off."""
    space = SPACES[loss.space]
    fixed = (f"target {COUNT:g}", *([f"zero logit {ZERO_LOGIT:g}"] if space.inflated else []))

    def at(value: Tensor) -> tuple[Tensor, Tensor]:
        raw, zero_logit = _stack_columns(value, value), _stack_columns(value, ZERO_LOGIT)
        return space.predict(raw, zero_logit), _stack_columns(value, COUNT)

    rate = _build_path(loss, lambda u: at(u.exp()), place=torch.log, limits=ABOVE_ZERO, fixed=fixed)
    error = _build_path(loss, lambda u: at(COUNT + u), limits=(-COUNT, math.inf), fixed=fixed)
    return {"rate": (rate,), "error": (error,)}


# scores


def _add_probability(paths: Sequence[PredictionPath], n_others: int) -> PathsByAxis:
    """Return paths of a score whose rivals are at 0: by the score itself, and by the probability that it gives.

    n_others: number of those rivals. p = e^s / (e^s + n) is s = logit(p) + log(n).
    """

    def place(p: Tensor) -> Tensor:
        return p.logit() + math.log(n_others)

    by_probability = tuple(replace(path, place=place, limits=(0.0, 1.0)) for path in paths)
    return {"margin": tuple(paths), "probability": by_probability}


def _build_class_paths(loss: Loss) -> PathsByAxis:
    space, encoding = SPACES[loss.space], ENCODINGS[loss.encoding]
    if space.scored_by_loss:
        return _build_neighbour_paths(loss) if loss.batch_level else _build_class_vector_paths(loss)
    # a loss of classes that no task of several classes fits has two, of which one output is enough
    if not encoding.whole and not {"multiclass", "*"} & set(loss.tasks):
        return _build_label_paths(loss)

    def at(u: Tensor, label: int = 0) -> tuple[Tensor, Tensor]:
        hot = functional.one_hot(torch.full(u.shape, label), N_CLASSES).to(u)  # [N, C]
        return space.apply_link(u.unsqueeze(-1) * hot, exclusive=True), encoding.from_hot(hot)

    mates = [(partial(at, label=label), 1.0) for label in range(1, N_CLASSES)]  # an example of each other class
    fixed = (f"{N_CLASSES} classes, the others alike",)
    return _add_probability([_build_path(loss, at, mates, fixed=fixed, n_outputs=N_CLASSES)], N_CLASSES - 1)


def _build_label_paths(loss: Loss) -> PathsByAxis:
    """Return paths of two classes, on either side.

    A loss for several labels only is given a second label, of the other side, at a score of 0.
    """
    alone = bool({"binary", "*"} & set(loss.tasks))
    space, encoding = SPACES[loss.space], ENCODINGS[loss.encoding]
    fixed = [] if alone else ["two labels, the other one at score 0"]
    if loss.batch_level:
        fixed.append("the rest of its batch at margin 1")

    def at(u: Tensor, side: int) -> tuple[Tensor, Tensor]:
        score = _stack_columns(u, side * u) if alone else _stack_columns(u, side * u, 0)
        signed = _stack_columns(u, side) if alone else _stack_columns(u, side, -side)
        return space.apply_link(score, exclusive=False), encoding.from_hot((signed + 1) / 2)

    paths = []
    for side, variant in ((1, "y = 1"), (-1, "y = 0")):
        mates = [(partial(at, side=s), 1.0) for s in (side, -side, -side)]  # two examples of either side in a batch
        facts: dict[str, Any] = {"fixed": tuple(fixed), "variant": variant, "n_outputs": 2 - alone}
        paths.append(_build_path(loss, partial(at, side=side), mates, **facts))
    return _add_probability(paths, 1)


def _build_student_paths(loss: Loss) -> PathsByAxis:
    def at(u: Tensor, label: int = 0) -> tuple[Tensor, Tensor]:
        hot = functional.one_hot(torch.full(u.shape, label), N_CLASSES).to(u)  # [N, C]
        return u.unsqueeze(-1) * hot, torch.stack([TEACHER * hot, hot], -2)  # [N, C] and [N, 2, C]

    confidence = math.exp(TEACHER) / (math.exp(TEACHER) + N_CLASSES - 1)
    teacher = f"the teacher's margin {TEACHER:g} (probability {confidence:.2f})"
    fixed = (f"{N_CLASSES} classes, the others alike", teacher)
    mates = [(partial(at, label=label), TEACHER) for label in range(1, N_CLASSES)]
    return _add_probability([_build_path(loss, at, mates, fixed=fixed, n_outputs=N_CLASSES)], N_CLASSES - 1)


def _build_transcript_paths(loss: Loss) -> PathsByAxis:
    """Return paths along one of a transcript's alignments: each step's right token is as sure as the others'."""
    target = [token for token in ALIGNMENT if token != BLANK]
    fixed = f"transcript {target[0]} {target[1]} of {N_CLASSES} tokens in {len(ALIGNMENT)} steps, all steps alike"
    return _build_token_paths(loss, ALIGNMENT, target, fixed)


def _build_text_paths(loss: Loss) -> PathsByAxis:
    """Return paths along a text: each position's right next token is as sure as the others'."""
    following = [*TEXT[1:], TEXT[0]]  # the last position's is never looked at
    fixed = f"text {' '.join(map(str, TEXT))} of {N_CLASSES} tokens, all positions alike"
    return _build_token_paths(loss, following, TEXT, fixed)


def _build_token_paths(loss: Loss, right: Sequence[int], target: Sequence[int], fixed: str) -> PathsByAxis:
    def at(u: Tensor) -> tuple[Tensor, Tensor]:
        hot = functional.one_hot(torch.tensor(right), N_CLASSES).to(u)  # [T, C]
        return u.view(-1, 1, 1) * hot, torch.tensor(target).expand(len(u), -1)  # [N, T, C] and [N, S]

    return _add_probability([_build_path(loss, at, fixed=(fixed,), n_outputs=N_CLASSES)], N_CLASSES - 1)


def _build_list_paths(loss: Loss) -> PathsByAxis:
    def at(u: Tensor) -> tuple[Tensor, Tensor]:
        return _stack_columns(u, u, 0), _stack_columns(u, 1, 0)

    return {"lead": (_build_path(loss, at, fixed=("a list of two items, grades 1 and 0",), n_outputs=2),)}


def _build_pair_paths(loss: Loss) -> PathsByAxis:
    def at(u: Tensor) -> tuple[Tensor, Tensor]:
        return _stack_columns(u, u, 0), torch.ones_like(u)

    return {"lead": (_build_path(loss, at, n_outputs=2),)}


# embeddings


def _rotate(u: Tensor) -> Tensor:
    """Return vectors of length 1, turned by u from the first axis towards one on which nothing else lies."""
    ends = torch.eye(EMBEDDING_WIDTH).to(u)
    return u.cos().unsqueeze(-1) * ends[0] + u.sin().unsqueeze(-1) * ends[N_CLASSES]


def _build_class_vector_paths(loss: Loss) -> PathsByAxis:
    encoding = ENCODINGS[loss.encoding]

    def at(u: Tensor) -> tuple[Tensor, Tensor]:
        return LENGTH * _rotate(u), encoding.from_hot(torch.eye(N_CLASSES)[0].to(u).expand(len(u), -1))

    fixed = (f"{N_CLASSES} class vectors at right angles", f"embeddings of length {LENGTH:g}")
    weight = {"weight": torch.eye(N_CLASSES, EMBEDDING_WIDTH)}
    path = PredictionPath(at, torch.deg2rad, fixed=fixed)
    return {"angle": (replace(path, n_outputs=N_CLASSES, parameters=weight),)}


def _build_neighbour_paths(loss: Loss) -> PathsByAxis:
    """Return paths of one embedding away from another, in a batch of two classes with two examples each."""
    encoding = ENCODINGS[loss.encoding]
    fixed = ("embeddings of length 1", "two classes of two, the other two at right angles to all")

    def at_angle(u: Tensor, labels: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        others = torch.eye(3, EMBEDDING_WIDTH).to(u).expand(len(u), -1, -1)  # [N, 3, E]
        hot = functional.one_hot(torch.tensor(labels), 2).to(u)  # [4, 2]
        target = encoding.from_hot(hot.expand(len(u), -1, -1))
        return torch.cat([_rotate(u).unsqueeze(1), others], 1), target

    def at_distance(u: Tensor, labels: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        return at_angle(2 * (u / 2).asin(), labels)  # the chord of an angle a is 2 sin(a / 2)

    by_distance, by_angle = [], []
    for variant, labels in (("from one of its class", (0, 0, 1, 1)), ("from one of the other class", (0, 1, 0, 1))):
        path = PredictionPath(partial(at_distance, labels=labels), fixed=fixed, variant=variant, n_outputs=2)
        by_distance.append(replace(path, limits=(0.0, 2.0)))
        by_angle.append(replace(path, at=partial(at_angle, labels=labels), place=torch.deg2rad))
    return {"distance": tuple(by_distance), "angle": tuple(by_angle)}


# boxes


def _build_box_paths(loss: Loss) -> PathsByAxis:
    def move(u: Tensor) -> tuple[Tensor, Tensor]:
        return _stack_columns(u, u, 0, 1 + u, 1), _stack_columns(u, 0, 0, 1, 1)

    def scale(u: Tensor) -> tuple[Tensor, Tensor]:
        low, high = (1 - u.exp()) / 2, (1 + u.exp()) / 2
        return _stack_columns(u, low, low, high, high), _stack_columns(u, 0, 0, 1, 1)

    # without 0 itself, where the slope jumps from one side's to the other's
    offset = _build_path(loss, move, limits=ABOVE_ZERO, fixed=("equal squares",), n_outputs=4)
    size = _build_path(loss, scale, fixed=("squares on one centre",), n_outputs=4)
    return {"offset": (offset,), "scale": (replace(size, place=torch.log, limits=ABOVE_ZERO),)}


PATH_BUILDERS: Mapping[Kind, Callable[[Loss], PathsByAxis]] = {
    Kind.VALUE: _build_value_paths,
    Kind.AMOUNT: _build_amount_paths,
    Kind.CLASS: _build_class_paths,
    Kind.LABELS: _build_label_paths,
    Kind.TEACHER: _build_student_paths,
    Kind.TRANSCRIPT: _build_transcript_paths,
    Kind.TEXT: _build_text_paths,
    Kind.RANKING: _build_list_paths,
    Kind.ORDER: _build_pair_paths,
    Kind.BOX: _build_box_paths,
}
"""The paths of losses, by the kind of their target."""
