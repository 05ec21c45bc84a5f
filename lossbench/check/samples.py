"""What losses are called with in checks: predictions in every space, targets in every encoding, random or extreme."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lossbench.interfaces.loss import Loss
from lossbench.types import BLANK, EMBEDDING_WIDTH, PADDING, Encoding, Need, Problem, Space

B, C, N = 6, 4, 20
"""Examples of a batch, classes (or targets, or labels), and training examples."""
T, S = 9, 3
"""Time steps, and tokens of the longest transcript."""
PAIRS = (Space.MEAN_LOG_SCALE, Space.ZERO_INFLATED)
"""Spaces of two outputs per target."""
RATES = (Space.LOG_RATE, Space.ZERO_INFLATED)
"""Spaces of logarithms."""
VALUES = (Space.VALUE, Space.ORIGINAL, Space.POSITIVE, Space.MEAN_LOG_SCALE, *RATES)
"""Spaces of values to be met, each by itself."""
CLASS_NAMES = ("a", "b", "c", "d")
PROBLEM = Problem(input_shape=(3,), n_outputs=C, n_examples=N, class_names=CLASS_NAMES)


class Call(NamedTuple):
    """What one call of a loss is given."""

    prediction: Tensor
    target: Tensor
    needs: dict[str, Any]

    def of(self, loss: Loss) -> Tensor:
        """The losses; what a loss returns beside them is left out."""
        result = loss(self.prediction, self.target, **self.needs)
        return result[0] if Need.STATE in loss.needs else result

    def to(self, dtype: torch.dtype) -> "Call":
        """The same in another type of floats."""

        def cast(value: Any) -> Any:
            if isinstance(value, dict):
                return {k: cast(v) for k, v in value.items()}
            if not isinstance(value, Tensor):
                return value
            return value.to(dtype) if value.is_floating_point() else value

        return Call(cast(self.prediction), cast(self.target), cast(self.needs))

    def tensors(self) -> dict[str, Tensor]:
        """All tensors that are given, by name."""
        parameters: dict[str, Tensor] = self.needs.get("parameters", {})
        needs = {n: v for n, v in self.needs.items() if isinstance(v, Tensor)}
        return {"prediction": self.prediction, "target": self.target, **needs, **parameters}

    def rows(self, rows: slice | Tensor) -> "Call":
        """Some of the examples of one batch."""
        needs = self.needs | ({"index": self.needs["index"][rows]} if "index" in self.needs else {})
        return Call(self.prediction[rows], self.target[rows], needs)


def stack(calls: Sequence[Call]) -> Call:
    """Calls as the rows of one on a stack."""

    def together(values: Sequence[Any]) -> Any:
        if isinstance(values[0], dict):
            return {k: together([v[k] for v in values]) for k in values[0]}
        if not isinstance(values[0], Tensor):  # shared by all rows
            return values[0]
        return torch.stack(list(values))

    return Call(*(together(part) for part in zip(*calls, strict=True)))


def call_for(loss: Loss, seed: int = 0) -> Call:
    """One random batch of `B` examples in float64, in the loss's space and encoding, with all that it needs."""
    draw = torch.Generator().manual_seed(seed)
    prediction = in_space(raw_prediction(loss.space, draw), loss)
    return Call(prediction, random_target(loss.encoding, draw), needs_of(loss, draw))


def raw_prediction(space: Space, draw: torch.Generator) -> Tensor:
    """Unbounded numbers in the shape that `space` has: `[B, ...]`."""
    shapes = {Space.EMBEDDING: (EMBEDDING_WIDTH,), Space.SEQUENCE_LOGIT: (T, C)} | dict.fromkeys(PAIRS, (2 * C,))
    shapes |= {Space.NEXT_TOKEN: (T, C), Space.PAIR_SCORE: (2,)}
    return torch.randn(B, *shapes.get(space, (C,)), generator=draw, dtype=torch.float64)


def in_space(raw: Tensor, loss: Loss) -> Tensor:
    """Unbounded numbers as predictions that the loss's space allows; probabilities of one of C classes add up to 1."""
    if loss.space == Space.PROBABILITY:
        return raw.softmax(-1) if loss.encoding in {Encoding.INDEX, Encoding.ONE_HOT} else raw.sigmoid()
    if loss.space == Space.LOG_PROBABILITY:
        one = loss.encoding in {Encoding.INDEX, Encoding.ONE_HOT}
        return raw.log_softmax(-1) if one else nn.functional.logsigmoid(raw)
    if loss.space == Space.BOX_XYXY:
        return boxes(raw)
    return nn.functional.softplus(raw) if loss.space == Space.POSITIVE else raw


def boxes(raw: Tensor) -> Tensor:
    """Corners of boxes about the origin, most of which overlap."""
    centre, size = raw[..., :2] / 2, 0.3 + raw[..., 2:].abs()
    return torch.cat([centre - size / 2, centre + size / 2], -1)


def tokens(draw: torch.Generator) -> Tensor:
    """Transcripts of length 0 to S: `[B, S]`."""
    lengths = torch.arange(B).view(-1, 1) % (S + 1)
    return torch.where(torch.arange(S) < lengths, torch.randint(BLANK + 1, C, (B, S), generator=draw), PADDING)


def sequences(draw: torch.Generator) -> Tensor:
    """Texts of T tokens and fewer, the shortest a single one: `[B, T]`."""
    lengths = (T - 2 * torch.arange(B).view(-1, 1)).clamp_min(1)
    return torch.where(torch.arange(T) < lengths, torch.randint(C, (B, T), generator=draw), PADDING)


def relevance(draw: torch.Generator) -> Tensor:
    """Grades from 0 to 2 of C items, the second of which every third list lacks: `[B, C]`."""
    grades = torch.randint(3, (B, C), generator=draw).double()
    absent = (torch.arange(B).view(-1, 1) % 3 == 0) & (torch.arange(C) == 1)
    return torch.where(absent, PADDING, grades)


def random_target(encoding: Encoding, draw: torch.Generator) -> Tensor:
    """Targets of one batch."""
    index = torch.randint(C, (B,), generator=draw)
    value = torch.randn(B, C, generator=draw, dtype=torch.float64)
    return {
        Encoding.VALUE: value,
        Encoding.ORIGINAL: value,
        Encoding.POSITIVE: value.exp() * (value > -0.5),
        Encoding.ABOVE_ZERO: value.exp(),
        Encoding.INDEX: index,
        Encoding.ONE_HOT: nn.functional.one_hot(index, C).double(),
        Encoding.MULTI_HOT: (value > 0).double(),
        Encoding.SIGNED: value.sign(),
        Encoding.BOX_XYXY: boxes(value),
        Encoding.TOKENS: tokens(draw),
        Encoding.SEQUENCE: sequences(draw),
        Encoding.RELEVANCE: relevance(draw),
        Encoding.ORDER: value[:, 0].sign(),
        Encoding.TEACHER: torch.stack([value, nn.functional.one_hot(index, C).double()], -2),
    }[encoding]


def needs_of(loss: Loss, draw: torch.Generator) -> dict[str, Any]:
    """What the loss needs beyond prediction and target; trainable tensors a little away from their start."""

    def made() -> dict[str, Tensor]:
        start = loss.parameters(PROBLEM, draw)
        return {n: p.double() + 0.3 * torch.randn(p.shape, generator=draw).double() for n, p in start.items()}

    ways: dict[Need, Callable[[], Any]] = {
        Need.CLASS_COUNTS: lambda: torch.randint(1, 50, (1, C), generator=draw).double(),
        Need.RESIDUAL_SCALE: lambda: torch.rand(1, C, generator=draw).double() + 0.5,
        Need.PARAMETERS: made,
        Need.STATE: lambda: torch.rand(_state_shape(loss), generator=draw).double() / C,
        Need.INDEX: lambda: torch.randperm(N, generator=draw)[:B],
        Need.PROGRESS: lambda: 0.5,
        Need.CLASS_NAMES: lambda: CLASS_NAMES,
    }
    return {str(n): ways[n]() for n in loss.needs}


def _state_shape(loss: Loss) -> torch.Size:
    state = loss.state(PROBLEM)
    return torch.Size((N, C)) if state is None else state.shape


def extreme_call(loss: Loss, dtype: torch.dtype = torch.float32) -> Call:
    """`extremes` with all that the loss needs, at its own ends: scales next to 0, embeddings along class vectors."""
    prediction, target, _ = extremes(loss)
    needs = needs_of(loss, torch.Generator().manual_seed(0))
    if "index" in needs:
        needs["index"] = torch.arange(len(prediction)) % N
    if "residual_scale" in needs:
        needs["residual_scale"] = torch.tensor([[1e-6, 1e-3, 1.0, 1e4]])
    vectors = needs.get("parameters", {}).get("weight")
    if vectors is not None and vectors.shape == prediction[::C][:C].shape:
        # embeddings along, against and across their class vectors
        needs["parameters"]["weight"] = prediction[::C][:C]
    call = Call(prediction, target, needs).to(dtype)
    return _boxes_left(call) if loss.space is Space.BOX_XYXY else call


def _boxes_left(call: Call) -> Call:
    """Without targets that rounding has left no width or height."""
    known = (call.target[:, 2:] > call.target[:, :2]).all(-1)
    return call.rows(known.nonzero().flatten())


def extremes(loss: Loss) -> Call:
    """Predictions as wrong and as right as float32 meets them, each against each target; without what it needs."""
    if loss.space in VALUES:
        return extreme_values(loss)
    if loss.space == Space.BOX_XYXY:
        return extreme_boxes()
    if loss.space in (Space.SEQUENCE_LOGIT, Space.NEXT_TOKEN):
        return extreme_sequences(loss.encoding)
    if loss.space == Space.PAIR_SCORE:
        scores = torch.tensor([0.0, 1e-6, 1e4, -1e4])
        pairs = torch.cartesian_prod(scores, scores, torch.tensor([-1.0, 1.0]))
        return Call(pairs[:, :2], pairs[:, 2], {})
    ends = {Space.PROBABILITY: (0.0, 1.0), Space.EMBEDDING: (-1e4, 1e4), Space.LOG_PROBABILITY: (-200.0, 0.0)}
    low, high = ends.get(loss.space, (-100.0, 100.0))
    width = EMBEDDING_WIDTH if loss.space == Space.EMBEDDING else C
    spikes = torch.full((C, width), low).fill_diagonal_(high)
    rows = torch.cat([spikes, low + high - spikes, torch.zeros(C, width)])
    index = torch.arange(C).repeat(len(rows))
    hot = nn.functional.one_hot(index, C).float()
    targets = {Encoding.INDEX: index, Encoding.SIGNED: 2 * hot - 1}
    targets |= {Encoding.RELEVANCE: 2 * hot - hot.roll(1, -1)}  # one item of grade 2 and one that is not there
    targets |= {Encoding.TEACHER: torch.stack([200 * hot.flip(-1) - 100, hot], -2)}
    return Call(rows.repeat_interleave(C, 0), targets.get(loss.encoding, hot), {})


def extreme_values(loss: Loss) -> Call:
    """Predictions next to their targets and far from them; targets of 0 where the loss takes them."""
    far = 20.0 if loss.space in RATES else 1e4  # as logarithm: rates of 5e8 and 2e-9
    edge = [0.0, 1e-6, 1.0, far] if loss.space == Space.POSITIVE else [0.0, 1e-6, -1e-6, far, -far]
    targets = {Encoding.POSITIVE: [0.0, 1e4], Encoding.ABOVE_ZERO: [1e-6, 1e4]}.get(loss.encoding, [0.0, 1.0])
    pairs = torch.cartesian_prod(torch.tensor(edge), torch.tensor(targets))
    prediction, target = (pairs[:, [i]].expand(-1, C) for i in (0, 1))
    if loss.space in PAIRS:
        prediction = torch.cat([prediction, torch.tensor([-10.0, -1.0, 0.0, 10.0]).expand_as(prediction)], -1)
    return Call(prediction, target, {})


def extreme_boxes() -> Call:
    """Boxes that coincide, touch, contain each other, lie far apart, have no width, no height or neither; all pairs."""
    corners = [[0, 0, 1, 1], [1, 0, 2, 1], [0.25, 0.25, 0.5, 0.75], [1e4, 1e4, 1e4 + 1, 1e4 + 2], [0, 0, 1e4, 1e-3]]
    empty = [[0.5, 0.5, 0.5, 0.5], [0, 0.5, 1, 0.5], [0.5, 0, 0.5, 1], [5, 5, 5, 5]]
    prediction, target = torch.tensor([*corners, *empty]), torch.tensor(corners)
    return Call(prediction.repeat_interleave(len(target), 0), target.repeat(len(prediction), 1), {})


def extreme_sequences(encoding: Encoding) -> Call:
    """Every step sure of one token, rightly or wrongly, or undecided; transcripts of all lengths."""
    draw = torch.Generator().manual_seed(0)
    sure = torch.where(torch.arange(C) == torch.arange(C).view(-1, 1, 1), 100.0, -100.0).expand(C, T, C)
    mixed = 200 * torch.rand(2, T, C, generator=draw) - 100
    predictions = torch.cat([sure, -sure, mixed, torch.zeros(1, T, C)])
    targets = tokens(draw) if encoding == Encoding.TOKENS else sequences(draw)
    return Call(predictions.repeat_interleave(len(targets), 0), targets.repeat(len(predictions), 1), {})
