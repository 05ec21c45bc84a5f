"""What losses are called with in tests: predictions in every space, targets in every encoding, random or extreme."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lossbench.interfaces.loss import Loss
from lossbench.types import BLANK, PADDING, Encoding, Need, Problem, Space

B, C, N = 6, 4, 20
T, S = 9, 3
PAIRS = (Space.MEAN_LOG_SCALE, Space.ZERO_INFLATED)
"""Spaces of two outputs per target."""
RATES = (Space.LOG_RATE, Space.ZERO_INFLATED)
VALUES = (Space.VALUE, Space.ORIGINAL, Space.POSITIVE, Space.MEAN_LOG_SCALE, *RATES)
PROBLEM = Problem(input_shape=(3,), n_outputs=C, n_examples=N)


class Call(NamedTuple):
    """What one call of a loss is given."""

    prediction: Tensor
    target: Tensor
    needs: dict[str, Any]

    def of(self, loss: Loss) -> Tensor:
        result = loss(self.prediction, self.target, **self.needs)
        return result[0] if Need.STATE in loss.needs else result

    def to(self, dtype: torch.dtype) -> "Call":
        def cast(value: Any) -> Any:
            if isinstance(value, dict):
                return {k: cast(v) for k, v in value.items()}
            if not isinstance(value, Tensor):
                return value
            return value.to(dtype) if value.is_floating_point() else value

        return Call(cast(self.prediction), cast(self.target), cast(self.needs))

    def rows(self, rows: slice | Tensor) -> "Call":
        """Some of the examples of one batch."""
        needs = self.needs | ({"index": self.needs["index"][rows]} if "index" in self.needs else {})
        return Call(self.prediction[rows], self.target[rows], needs)


def stack(calls: list[Call]) -> Call:
    def together(values: list[Any]) -> Any:
        if isinstance(values[0], dict):
            return {k: together([v[k] for v in values]) for k in values[0]}
        if not isinstance(values[0], Tensor):  # shared by all rows
            return values[0]
        return torch.stack(values)

    return Call(*(together(list(part)) for part in zip(*calls, strict=True)))


def raw_prediction(space: Space, draw: torch.Generator) -> Tensor:
    shapes = {Space.EMBEDDING: (32,), Space.SEQUENCE_LOGIT: (T, C)} | dict.fromkeys(PAIRS, (2 * C,))
    return torch.randn(B, *shapes.get(space, (C,)), generator=draw, dtype=torch.float64)


def in_space(raw: Tensor, space: Space) -> Tensor:
    if space == Space.PROBABILITY:
        return raw.sigmoid()
    if space == Space.LOG_PROBABILITY:
        return nn.functional.logsigmoid(raw)
    if space == Space.BOX_XYXY:
        return boxes(raw)
    return nn.functional.softplus(raw) if space == Space.POSITIVE else raw


def boxes(raw: Tensor) -> Tensor:
    """Corners of boxes about the origin, most of which overlap."""
    centre, size = raw[..., :2] / 2, 0.3 + raw[..., 2:].abs()
    return torch.cat([centre - size / 2, centre + size / 2], -1)


def tokens(draw: torch.Generator) -> Tensor:
    """Transcripts of length 0 to S: `[B, S]`."""
    lengths = torch.arange(B).view(-1, 1) % (S + 1)
    return torch.where(torch.arange(S) < lengths, torch.randint(BLANK + 1, C, (B, S), generator=draw), PADDING)


def random_target(encoding: Encoding, draw: torch.Generator) -> Tensor:
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
    }[encoding]


def needs_of(loss: Loss, draw: torch.Generator) -> dict[str, Any]:
    def made() -> dict[str, Tensor]:
        start = loss.parameters(PROBLEM, draw)
        return {n: p.double() + 0.3 * torch.randn(p.shape, generator=draw).double() for n, p in start.items()}

    ways = {
        Need.CLASS_COUNTS: lambda: torch.randint(1, 50, (1, C), generator=draw).double(),
        Need.RESIDUAL_SCALE: lambda: torch.rand(1, C, generator=draw).double() + 0.5,
        Need.PARAMETERS: made,
        Need.STATE: lambda: torch.rand(N, C, generator=draw).double() / C,
        Need.INDEX: lambda: torch.randperm(N, generator=draw)[:B],
        Need.PROGRESS: lambda: 0.5,
    }
    return {str(n): ways[n]() for n in loss.needs}


def call_for(loss: Loss, seed: int = 0) -> Call:
    draw = torch.Generator().manual_seed(seed)
    prediction = in_space(raw_prediction(loss.space, draw), loss.space)
    return Call(prediction, random_target(loss.encoding, draw), needs_of(loss, draw))


def extremes(loss: Loss) -> Call:
    """Predictions as wrong and as right as float32 meets them, each against each target."""
    encoding = loss.encoding
    if loss.space in VALUES:
        return extreme_values(loss)
    if loss.space == Space.BOX_XYXY:
        return extreme_boxes()
    if loss.space == Space.SEQUENCE_LOGIT:
        return extreme_sequences()
    ends = {Space.PROBABILITY: (0.0, 1.0), Space.EMBEDDING: (-1e4, 1e4), Space.LOG_PROBABILITY: (-200.0, 0.0)}
    low, high = ends.get(loss.space, (-100.0, 100.0))
    width = 32 if loss.space == Space.EMBEDDING else C
    spikes = torch.full((C, width), low).fill_diagonal_(high)
    rows = torch.cat([spikes, low + high - spikes, torch.zeros(C, width)])
    index = torch.arange(C).repeat(len(rows))
    hot = nn.functional.one_hot(index, C).float()
    targets = {Encoding.INDEX: index, Encoding.SIGNED: 2 * hot - 1}
    return Call(rows.repeat_interleave(C, 0), targets.get(encoding, hot), {})


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


def extreme_sequences() -> Call:
    """Every step sure of one token, rightly or wrongly, or undecided; transcripts of all lengths."""
    draw = torch.Generator().manual_seed(0)
    sure = torch.where(torch.arange(C) == torch.arange(C).view(-1, 1, 1), 100.0, -100.0).expand(C, T, C)
    mixed = 200 * torch.rand(2, T, C, generator=draw) - 100
    predictions = torch.cat([sure, -sure, mixed, torch.zeros(1, T, C)])
    targets = tokens(draw)
    return Call(predictions.repeat_interleave(len(targets), 0), targets.repeat(len(predictions), 1), {})
