"""Lines of predictions past one target: along what a loss is drawn, and what is held fixed on the way."""

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
COUNT = 3.0
"""The target of counts and of other positive values."""
ZERO_LOGIT = -2.0
"""Of the zeros that no rate explains."""
TEACHER = 3.0
"""The teacher's logit of its class, the others being 0."""
LENGTH = 20.0
"""Of an embedding beside class vectors."""
ALIGNMENT = (1, BLANK, 2)
TEXT = (1, 2, 3, 1)
ABOVE_ZERO = (0.0, math.inf)

At = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From places `[N]` to predictions and targets `[N, ...]`."""


@dataclass(frozen=True)
class Path:
    """A line of predictions past one target.

    at: predictions and targets at the places u; `[N, B, ...]` for a batch-level loss, of which one example moves.
    place: from what the axis shows to u, in which slopes are taken.
    limits: between which, themselves excluded, the axis has a meaning.
    held: what is held fixed. variant: which of several lines it is.
    n_outputs, parameters: what the loss is made for, and trainable tensors that are not as at the start.
    """

    at: At
    place: Callable[[Tensor], Tensor] = lambda x: x
    limits: tuple[float, float] = (-math.inf, math.inf)
    held: tuple[str, ...] = ()
    variant: str = ""
    n_outputs: int = 1
    parameters: Mapping[str, Tensor] = field(default_factory=dict)


Paths = dict[str, tuple[Path, ...]]
"""Lines by axis, the usual axis first."""


def paths(label: str, loss: Loss) -> Paths:
    """Return the lines of a loss that errors call `label`. Raises `Incompatible` where none is known."""
    space, kind = SPACES[loss.space], ENCODINGS[loss.encoding].kind
    if kind not in space.kinds or kind not in LINES:
        told = f"no line is known through {loss.space} predictions past {loss.encoding} targets"
        raise Incompatible(f"{label} cannot be drawn: {told}.", label, told)
    if space.scored_by_loss and not loss.batch_level and not _has_class_vectors(loss):
        told = "it takes embeddings one by one and has no class vectors to turn them from"
        raise Incompatible(f"{label} cannot be drawn: {told}.", label, told)
    return LINES[kind](loss)


def _path(loss: Loss, at: At, mates: Sequence[tuple[At, float]] | None = None, **facts: Any) -> Path:
    """A line; for a batch-level loss the others of its batch stay at their places on theirs."""
    path = Path(at, **facts)
    if not loss.batch_level:
        return path
    mates = [(at, -1.0), (at, 0.5)] if mates is None else mates
    held = f"one example of a batch of {len(mates) + 1} moves"
    return replace(path, at=partial(_batch, at, mates), held=(*path.held, held))


def _batch(at: At, mates: Sequence[tuple[At, float]], u: Tensor) -> tuple[Tensor, Tensor]:
    parts = [at(u), *(mate(torch.full_like(u, place)) for mate, place in mates)]
    return torch.stack([p for p, _ in parts], 1), torch.stack([t for _, t in parts], 1)


def _point(u: Tensor, *columns: Tensor | float) -> Tensor:
    return torch.stack([c if isinstance(c, Tensor) else torch.full_like(u, c) for c in columns], -1)


# values


def _values(loss: Loss) -> Paths:
    return _distributions(loss) if SPACES[loss.space].head is Head.MEAN_SCALE else _errors(loss)


def _errors(loss: Loss) -> Paths:
    if isinstance(loss, CosineSimilarity):  # a single value has no direction
        held = ("vectors of length 1 in the plane",)
        return {"angle": (_path(loss, _turned, place=torch.deg2rad, held=held, n_outputs=2),)}
    width = 4 if loss.tasks == ("boxes",) else 1  # it takes nothing but boxes: all coordinates are off alike

    def at(u: Tensor) -> tuple[Tensor, Tensor]:
        return _point(u, *[u] * width), _point(u, *[0] * width)

    found: Paths = {"error": (_path(loss, at, n_outputs=width),)}
    return found | (_coordinates(loss) if "boxes" in loss.tasks else {})


def _turned(u: Tensor) -> tuple[Tensor, Tensor]:
    return _point(u, u.cos(), u.sin()), _point(u, 1, 0)


def _coordinates(loss: Loss) -> Paths:
    """Boxes by centre and log size, in units of the target's width."""
    facts: dict[str, Any] = {"held": ("given centre and log size in box widths",), "n_outputs": 4}
    moved = _path(loss, lambda u: (_point(u, u, 0, 0, 0), _point(u, 0, 0, 0, 0)), **facts)
    scaled = _path(loss, lambda u: (_point(u, 0, 0, u, u), _point(u, 0, 0, 0, 0)), **facts)
    return {
        "offset": (replace(moved, limits=ABOVE_ZERO),),
        "scale": (replace(scaled, place=torch.log, limits=ABOVE_ZERO),),
    }


def _amounts(loss: Loss) -> Paths:
    """Positive values: first on the scale of logarithms, then by how much they are off."""
    space = SPACES[loss.space]
    held = (f"target {COUNT:g}", *([f"zero logit {ZERO_LOGIT:g}"] if space.inflated else []))

    def at(value: Tensor) -> tuple[Tensor, Tensor]:
        return space.predict(_point(value, value), _point(value, ZERO_LOGIT)), _point(value, COUNT)

    rate = _path(loss, lambda u: at(u.exp()), place=torch.log, limits=ABOVE_ZERO, held=held)
    error = _path(loss, lambda u: at(COUNT + u), limits=(-COUNT, math.inf), held=held)
    return {"rate": (rate,), "error": (error,)}


def _distributions(loss: Loss) -> Paths:
    error = _path(loss, lambda u: (_point(u, u, 0), _point(u, 0)), held=("predicted scale 1",))
    sigma = _path(loss, lambda u: (_point(u, 1, u), _point(u, 0)), held=("error 1",))
    return {"error": (error,), "sigma": (replace(sigma, place=torch.log, limits=ABOVE_ZERO),)}


# scores


def _by_margin(lines: Sequence[Path], n_others: int) -> Paths:
    """Lines of a score that the others' are 0 to: by the score itself, and by the probability that it gives."""

    def place(p: Tensor) -> Tensor:
        return p.logit() + math.log(n_others)

    by_probability = tuple(replace(line, place=place, limits=(0.0, 1.0)) for line in lines)
    return {"margin": tuple(lines), "probability": by_probability}


def _classes(loss: Loss) -> Paths:
    space, encoding = SPACES[loss.space], ENCODINGS[loss.encoding]
    if space.scored_by_loss:
        return _neighbours(loss) if loss.batch_level else _class_vectors(loss)
    # a loss of classes that no task of several classes fits has two, of which one output is enough
    if not encoding.whole and not {"multiclass", "*"} & set(loss.tasks):
        return _labels(loss)

    def at(u: Tensor, own: int = 0) -> tuple[Tensor, Tensor]:
        hot = functional.one_hot(torch.full(u.shape, own), N_CLASSES).to(u)
        return space.apply_link(u.unsqueeze(-1) * hot, exclusive=True), encoding.of_hot(hot)

    mates = [(partial(at, own=own), 1.0) for own in range(1, N_CLASSES)]
    held = (f"{N_CLASSES} classes, the others alike",)
    return _by_margin([_path(loss, at, mates, held=held, n_outputs=N_CLASSES)], N_CLASSES - 1)


def _labels(loss: Loss) -> Paths:
    """Two classes; a loss for several labels only is given a second label, of the other side, at a score of 0."""
    alone = bool({"binary", "*"} & set(loss.tasks))
    space, encoding = SPACES[loss.space], ENCODINGS[loss.encoding]
    held = () if alone else ("two labels, the other one at score 0",)

    def at(u: Tensor, side: int) -> tuple[Tensor, Tensor]:
        score = _point(u, side * u) if alone else _point(u, side * u, 0)
        signed = _point(u, side) if alone else _point(u, side, -side)
        return space.apply_link(score, exclusive=False), encoding.of_hot((signed + 1) / 2)

    def line(side: int, variant: str) -> Path:
        mates = [(partial(at, side=s), 1.0) for s in (side, -side, -side)]
        told = held + (("the rest of its batch at margin 1",) if loss.batch_level else ())
        return _path(loss, partial(at, side=side), mates, held=told, variant=variant, n_outputs=2 - alone)

    return _by_margin([line(1, "y = 1"), line(-1, "y = 0")], 1)


def _students(loss: Loss) -> Paths:
    def at(u: Tensor, own: int = 0) -> tuple[Tensor, Tensor]:
        hot = functional.one_hot(torch.full(u.shape, own), N_CLASSES).to(u)
        return u.unsqueeze(-1) * hot, torch.stack([TEACHER * hot, hot], -2)

    sure = math.exp(TEACHER) / (math.exp(TEACHER) + N_CLASSES - 1)
    held = (f"{N_CLASSES} classes, the others alike", f"the teacher's margin {TEACHER:g} (probability {sure:.2f})")
    mates = [(partial(at, own=own), TEACHER) for own in range(1, N_CLASSES)]
    return _by_margin([_path(loss, at, mates, held=held, n_outputs=N_CLASSES)], N_CLASSES - 1)


def _alignments(loss: Loss) -> Paths:
    """Each step's right token as sure as the others', along one of a transcript's alignments."""
    target = [token for token in ALIGNMENT if token != BLANK]
    held = f"transcript {target[0]} {target[1]} of {N_CLASSES} tokens in {len(ALIGNMENT)} steps, all steps alike"
    return _steps(loss, ALIGNMENT, target, held)


def _texts(loss: Loss) -> Paths:
    """Each position's right next token as sure as the others'."""
    following = [*TEXT[1:], TEXT[0]]  # the last position's is never looked at
    held = f"text {' '.join(map(str, TEXT))} of {N_CLASSES} tokens, all positions alike"
    return _steps(loss, following, TEXT, held)


def _steps(loss: Loss, right: Sequence[int], target: Sequence[int], held: str) -> Paths:
    def at(u: Tensor) -> tuple[Tensor, Tensor]:
        hot = functional.one_hot(torch.tensor(right), N_CLASSES).to(u)
        return u.view(-1, 1, 1) * hot, torch.tensor(target).expand(len(u), -1)

    return _by_margin([_path(loss, at, held=(held,), n_outputs=N_CLASSES)], N_CLASSES - 1)


def _lists(loss: Loss) -> Paths:
    held = ("a list of two items, grades 1 and 0",)
    return {"lead": (_path(loss, lambda u: (_point(u, u, 0), _point(u, 1, 0)), held=held, n_outputs=2),)}


def _pairs(loss: Loss) -> Paths:
    return {"lead": (_path(loss, lambda u: (_point(u, u, 0), torch.ones_like(u)), n_outputs=2),)}


# embeddings


def _has_class_vectors(loss: Loss) -> bool:
    problem = Problem((1,), N_CLASSES, 1)
    return "weight" in loss.init_parameters(problem, torch.Generator().manual_seed(0))


def _rotated(u: Tensor) -> Tensor:
    """Vectors of length 1, turned from the first axis towards one that nothing else lies on."""
    ends = torch.eye(EMBEDDING_WIDTH).to(u)
    return u.cos().unsqueeze(-1) * ends[0] + u.sin().unsqueeze(-1) * ends[N_CLASSES]


def _class_vectors(loss: Loss) -> Paths:
    encoding = ENCODINGS[loss.encoding]

    def at(u: Tensor) -> tuple[Tensor, Tensor]:
        return LENGTH * _rotated(u), encoding.of_hot(torch.eye(N_CLASSES)[0].to(u).expand(len(u), -1))

    held = (f"{N_CLASSES} class vectors at right angles", f"embeddings of length {LENGTH:g}")
    weight = {"weight": torch.eye(N_CLASSES, EMBEDDING_WIDTH)}
    line = Path(at, torch.deg2rad, held=held)
    return {"angle": (replace(line, n_outputs=N_CLASSES, parameters=weight),)}


def _neighbours(loss: Loss) -> Paths:
    """One embedding moves away from another; a batch of two classes with two examples each."""
    encoding = ENCODINGS[loss.encoding]
    held = ("embeddings of length 1", "two classes of two, the other two at right angles to all")

    def at(u: Tensor, labels: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        fixed = torch.eye(3, EMBEDDING_WIDTH).to(u).expand(len(u), -1, -1)
        return torch.cat([_rotated(u).unsqueeze(1), fixed], 1), targets(labels, u)

    def targets(labels: tuple[int, ...], u: Tensor) -> Tensor:
        hot = functional.one_hot(torch.tensor(labels), 2).to(u)
        return encoding.of_hot(hot.expand(len(u), -1, -1))

    def by_distance(u: Tensor, labels: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        return at(2 * (u / 2).asin(), labels)

    kinds = {"from one of its class": (0, 0, 1, 1), "from one of the other class": (0, 1, 0, 1)}
    lines = [Path(partial(by_distance, labels=k), held=held, variant=n, n_outputs=2) for n, k in kinds.items()]
    turned = [
        replace(x, at=partial(at, labels=k), place=torch.deg2rad) for x, k in zip(lines, kinds.values(), strict=True)
    ]
    return {"distance": tuple(replace(x, limits=(0.0, 2.0)) for x in lines), "angle": tuple(turned)}


# boxes


def _boxes(loss: Loss) -> Paths:
    def moved(u: Tensor) -> tuple[Tensor, Tensor]:
        return _point(u, u, 0, 1 + u, 1), _point(u, 0, 0, 1, 1)

    def scaled(u: Tensor) -> tuple[Tensor, Tensor]:
        low, high = (1 - u.exp()) / 2, (1 + u.exp()) / 2
        return _point(u, low, low, high, high), _point(u, 0, 0, 1, 1)

    # without 0 itself, where the slope jumps from one side's to the other's
    offset = _path(loss, moved, limits=ABOVE_ZERO, held=("equal squares",), n_outputs=4)
    scale = _path(loss, scaled, held=("squares on one centre",), n_outputs=4)
    return {"offset": (offset,), "scale": (replace(scale, place=torch.log, limits=ABOVE_ZERO),)}


LINES: Mapping[Kind, Callable[[Loss], Paths]] = {
    Kind.VALUE: _values,
    Kind.AMOUNT: _amounts,
    Kind.CLASS: _classes,
    Kind.LABELS: _labels,
    Kind.TEACHER: _students,
    Kind.TRANSCRIPT: _alignments,
    Kind.TEXT: _texts,
    Kind.RANKING: _lists,
    Kind.ORDER: _pairs,
    Kind.BOX: _boxes,
}
"""The lines past a target, by what it is of."""
