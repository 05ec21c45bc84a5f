"""The table of spaces and encodings: one entry for each, with all that differs between them.

To add a `Space` or an `Encoding`, write its member in `lossbench.types`, its entry here, and the task or loss that uses
it. No other module names single members: it reads `SPACES` and `ENCODINGS`, and a test sees to that.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.interfaces import guards, samples
from lossbench.interfaces.guards import Guard
from lossbench.interfaces.samples import B, C, T
from lossbench.types import BLANK, EMBEDDING_WIDTH, PADDING, Encoding, Head, Space

DEFAULT_SPACE, DEFAULT_ENCODING = Space.VALUE, Encoding.VALUE
"""What a loss of other people takes that declares nothing."""
SURE = 4.0
"""A logit, or a score, of a prediction that is rather sure."""
SHIFT = 0.1
"""How far a wrong box lies from the right one, which it overlaps."""


class Kind(StrEnum):
    """What is predicted. A space and an encoding of one kind are meant for each other."""

    VALUE = "value"  # any number
    AMOUNT = "amount"  # a number from 0 on
    CLASS = "class"  # which one of C
    LABELS = "labels"  # which of L
    TEACHER = "teacher"  # what a teacher predicts
    BOX = "box"
    TRANSCRIPT = "transcript"  # tokens, somewhere along the steps
    TEXT = "text"  # the next token at each step
    RANKING = "ranking"  # the order of a list
    ORDER = "order"  # the order of two


NUMBERS = frozenset({Kind.VALUE, Kind.AMOUNT})
CHOICES = frozenset({Kind.CLASS, Kind.LABELS})


# encodings


@dataclass(frozen=True)
class EncodingFacts:
    """All that an encoding is, beyond its definition in `Encoding`.

    words: for people. kind: what is predicted. guard: of targets' values.

    sample: a random batch of targets, from a generator, class indices `[B]` and normal values `[B, C]`.
    hot: targets as 0 and 1, `[..., C]`, of classes and labels only. of_hot: the reverse, and of other encodings the
    targets that mean the same by their extreme predictions.
    answers: right and wrong predictions of targets, as scores, or as the targets are (boxes).
    edges: the smallest and a usual target of numbers. holds: which targets are still such after rounding. misshapen:
    targets of a shape that must be refused.
    raw: from examples, outputs, the head's width and a generator, such targets as data sets have; None for encodings
    that only tasks make.

    exclusive: one of C classes is right, so that the probabilities of a prediction add up to 1.
    whole: targets are whole numbers, which keep their type.
    plain: classes by number or by 0 and 1; losses of other libraries take one of these for another.
    single: in which encoding a class of two is drawn where a loss takes a single output; None if it cannot be.
    logits: the space of the logits of which a prediction per step is made.
    example: Python for a random batch, where no task gives one.
    """

    words: str
    kind: Kind
    sample: Callable[[torch.Generator, Tensor, Tensor], Tensor]
    guard: Guard = guards.guard_nothing
    hot: Callable[[Tensor], Tensor] | None = None
    of_hot: Callable[[Tensor], Tensor] = lambda hot: hot
    answers: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    edges: tuple[float, float] = (0.0, 1.0)
    holds: Callable[[Tensor], Tensor] | None = None
    misshapen: Callable[[Tensor], Tensor] = lambda target: target[..., :1]
    raw: Callable[[int, int, int, torch.Generator], Tensor] | None = None
    exclusive: bool = False
    whole: bool = False
    plain: bool = False
    single: Encoding | None = None
    logits: Space | None = None
    example: str = ""

    @property
    def per_label(self) -> bool:
        """Targets are one per label, each of which may be weighed."""
        return self.kind is Kind.LABELS

    def draw(self, generator: torch.Generator) -> Tensor:
        """Draw the targets of one batch, `[B, ...]`."""
        index = torch.randint(C, (B,), generator=generator)
        return self.sample(generator, index, torch.randn(B, C, generator=generator, dtype=torch.float64))


def _hot(index: Tensor, n: int = C) -> Tensor:
    return functional.one_hot(index, n).double()


def _answer_transcripts(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Logits `[B, T, C]` that are sure of a blank at every other step, and of a transcript in between."""

    def align(transcript: Tensor) -> Tensor:
        path = torch.full((len(transcript), T), BLANK)
        path[:, 1 : 2 * transcript.shape[1] : 2] = transcript.clamp_min(BLANK)
        return 2 * SURE * _hot(path)

    return align(tokens), align(torch.where(tokens > BLANK, tokens % (C - 1) + 1, tokens))


def _answer_texts(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Logits `[B, T, C]` that are sure of the next token, and of one that it is not."""
    following = tokens.roll(-1, -1)
    right, wrong = (torch.where(following != PADDING, (following + by) % C, 0) for by in (0, 1))
    return SURE * _hot(right), SURE * _hot(wrong)


def _answer_orders(order: Tensor) -> tuple[Tensor, Tensor]:
    right = SURE * torch.stack([order, -order], -1)
    return right, -right


def _draw_raw_values(n: int, n_outputs: int, width: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, width, generator=generator).exp()


def _draw_raw_boxes(n: int, n_outputs: int, width: int, generator: torch.Generator) -> Tensor:
    values = _draw_raw_values(n, n_outputs, width, generator)
    return torch.cat([values[:, :2], values[:, :2] + values[:, 2:]], 1)


def _draw_raw_transcripts(n: int, n_outputs: int, width: int, generator: torch.Generator) -> Tensor:
    lengths, longest = 1 + torch.arange(n).view(-1, 1) % samples.S, samples.S
    drawn = torch.randint(BLANK + 1, n_outputs, (n, longest), generator=generator)
    return torch.where(torch.arange(longest) < lengths, drawn, PADDING)


ENCODINGS: Mapping[Encoding, EncodingFacts] = {
    Encoding.VALUE: EncodingFacts(
        words="standardised values",
        kind=Kind.VALUE,
        sample=lambda draw, index, value: value,
    ),
    Encoding.ORIGINAL: EncodingFacts(
        words="values in original units",
        kind=Kind.VALUE,
        sample=lambda draw, index, value: value,
        raw=_draw_raw_values,
    ),
    Encoding.POSITIVE: EncodingFacts(
        words="values from 0 on",
        kind=Kind.AMOUNT,
        sample=lambda draw, index, value: value.exp() * (value > -0.5),
        guard=guards.guard_not_negative,
        edges=(0.0, 1e4),
    ),
    Encoding.ABOVE_ZERO: EncodingFacts(
        words="values above 0",
        kind=Kind.AMOUNT,
        sample=lambda draw, index, value: value.exp(),
        guard=guards.guard_above_zero,
        edges=(1e-6, 1e4),
    ),
    Encoding.INDEX: EncodingFacts(
        words="class indices",
        kind=Kind.CLASS,
        sample=lambda draw, index, value: index,
        guard=guards.guard_indices,
        hot=_hot,
        of_hot=lambda hot: hot.argmax(-1),
        misshapen=lambda target: target[..., None],
        raw=lambda n, n_outputs, width, draw: torch.arange(n) % (2 if width == 1 else n_outputs),
        exclusive=True,
        whole=True,
        plain=True,
        single=Encoding.MULTI_HOT,
        example="torch.randint(3, (8,))",
    ),
    Encoding.ONE_HOT: EncodingFacts(
        words="one-hot classes",
        kind=Kind.CLASS,
        sample=lambda draw, index, value: _hot(index),
        guard=guards.guard_one_hot,
        hot=lambda target: target,
        exclusive=True,
        plain=True,
    ),
    Encoding.MULTI_HOT: EncodingFacts(
        words="0 or 1 each",
        kind=Kind.LABELS,
        sample=lambda draw, index, value: (value > 0).double(),
        guard=guards.guard_multi_hot,
        hot=lambda target: target,
        raw=lambda n, n_outputs, width, draw: torch.randint(2, (n, n_outputs), generator=draw),
        plain=True,
        single=Encoding.MULTI_HOT,
    ),
    Encoding.SIGNED: EncodingFacts(
        words="-1 or 1 each",
        kind=Kind.LABELS,
        sample=lambda draw, index, value: value.sign(),
        guard=guards.guard_signed,
        hot=lambda target: (target + 1) / 2,
        of_hot=lambda hot: 2 * hot - 1,
        single=Encoding.SIGNED,
    ),
    Encoding.BOX_XYXY: EncodingFacts(
        words="box corners",
        kind=Kind.BOX,
        sample=lambda draw, index, value: samples.boxes(value),
        answers=lambda corners: (corners, corners + SHIFT),
        holds=lambda corners: (corners[:, 2:] > corners[:, :2]).all(-1),
        raw=_draw_raw_boxes,
    ),
    Encoding.TOKENS: EncodingFacts(
        words="transcripts",
        kind=Kind.TRANSCRIPT,
        sample=lambda draw, index, value: samples.draw_tokens(draw),
        answers=_answer_transcripts,
        misshapen=lambda target: target[:1],  # one transcript for all examples
        raw=_draw_raw_transcripts,
        exclusive=True,
        whole=True,
        logits=Space.SEQUENCE_LOGIT,
    ),
    Encoding.SEQUENCE: EncodingFacts(
        words="the sequence itself",
        kind=Kind.TEXT,
        sample=lambda draw, index, value: samples.draw_texts(draw),
        answers=_answer_texts,
        exclusive=True,
        whole=True,
        logits=Space.NEXT_TOKEN,
        example="torch.randint(30, (8, 12))",
    ),
    Encoding.RELEVANCE: EncodingFacts(
        words="grades of a list",
        kind=Kind.RANKING,
        sample=lambda draw, index, value: samples.draw_grades(draw),
        of_hot=lambda hot: 2 * hot - hot.roll(1, -1),  # one item of grade 2 and one that is not there
        answers=lambda grades: (grades, -grades),
        example="torch.randint(4, (8, 5))",
    ),
    Encoding.ORDER: EncodingFacts(
        words="1 or -1, which comes first",
        kind=Kind.ORDER,
        sample=lambda draw, index, value: value[:, 0].sign(),
        answers=_answer_orders,
        example="2 * torch.randint(2, (8,)) - 1",
    ),
    Encoding.TEACHER: EncodingFacts(
        words="a teacher's logits and the class",
        kind=Kind.TEACHER,
        sample=lambda draw, index, value: torch.stack([value, _hot(index)], -2),
        guard=guards.guard_teacher,
        of_hot=lambda hot: torch.stack([200 * hot.flip(-1) - 100, hot], -2),
        answers=lambda teacher: (teacher[:, 0], -teacher[:, 0]),
        example="torch.stack([torch.randn(8, 5), torch.eye(5)[torch.randint(5, (8,))]], -2)",
    ),
}


def draw_raw(encodings: Iterable[Encoding], n: int, n_outputs: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw targets as the data sets of a task with these encodings have them; values if nothing else is known."""
    known = [ENCODINGS[e].raw for e in encodings]
    draw = next((raw for raw in known if raw is not None), _draw_raw_values)
    return draw(n, n_outputs, width, generator)


# spaces


@dataclass(frozen=True)
class SpaceFacts:
    """All that a space is, beyond its definition in `Space`.

    words: for people. kinds: what its predictions are of. guard: of predictions' values.

    shape: of an example's prediction in checks. link: from unbounded numbers `[..., K]` to predictions, told whether
    one of the classes is right. ends: the smallest and largest prediction that float32 meets; extremes: from the
    entries of space and encoding, predictions as wrong and as right as they get, each against each target.
    predict: from numbers `[..., D]`, and the logits of an excess of zeros, to predictions of them.

    head: that gives such predictions, and no others if it is not linear.
    standardised: in units of the targets' spread. holds_targets: targets are of this space, too, so a prediction can
    hit one. logarithmic: predictions are logarithms. inflated: predictions know of an excess of zeros.
    per_class: a number per class or label. unbounded: which may grow without bound as a prediction gets surer.
    scored_by_loss: an embedding, from which only the loss makes scores of classes.
    reading: spaces of equal readings take the same number for the same thing; none is a reading of its own.
    argument: what names of such arguments hold. target: the encoding that goes with it, whatever the task's usual one.
    example: Python for a random batch, where no task gives one.
    """

    words: str
    kinds: frozenset[Kind]
    guard: Guard = guards.guard_nothing
    shape: tuple[int, ...] = (C,)
    link: Callable[[Tensor, bool], Tensor] | None = None
    ends: tuple[float, float] = (-100.0, 100.0)
    extremes: "Callable[[SpaceFacts, EncodingFacts], tuple[Tensor, Tensor]] | None" = None
    predict: Callable[[Tensor, Tensor], Tensor] = lambda value, zero: value
    head: Head = Head.LINEAR
    standardised: bool = False
    holds_targets: bool = False
    logarithmic: bool = False
    inflated: bool = False
    per_class: bool = False
    unbounded: bool = False
    scored_by_loss: bool = False
    reading: str = ""
    argument: str = ""
    target: Encoding | None = None
    example: str = ""

    def draw(self, generator: torch.Generator) -> Tensor:
        """Draw unbounded numbers in the shape of one batch of predictions, `[B, ...]`."""
        return torch.randn(B, *self.shape, generator=generator, dtype=torch.float64)

    def apply_link(self, raw: Tensor, exclusive: bool) -> Tensor:
        """Return unbounded numbers as predictions that the space allows."""
        return raw if self.link is None else self.link(raw, exclusive)

    @property
    def of_numbers(self) -> bool:
        """Predictions are of numbers, each of which is met by itself."""
        return not self.kinds.isdisjoint(NUMBERS)


def _pair_with_scale(value: Tensor, zero: Tensor) -> Tensor:
    return torch.cat([value, torch.zeros_like(value)], -1)  # log scales of 0


def _normalise(raw: Tensor, exclusive: bool) -> Tensor:
    return raw.softmax(-1) if exclusive else raw.sigmoid()


def _log_normalise(raw: Tensor, exclusive: bool) -> Tensor:
    return raw.log_softmax(-1) if exclusive else functional.logsigmoid(raw)


def _extreme_scores(space: SpaceFacts, encoding: EncodingFacts) -> tuple[Tensor, Tensor]:
    return samples.pair_up(samples.spikes(*space.ends, space.shape[-1]), encoding.of_hot(torch.eye(C)))


def _extreme_numbers(space: SpaceFacts, encoding: EncodingFacts) -> tuple[Tensor, Tensor]:
    """Predictions next to their targets and far from them; targets of 0 where the encoding has them."""
    low, high = space.ends
    places = [0.0, 1e-6, 1.0, high] if low == 0 else [0.0, 1e-6, -1e-6, high, low]
    prediction, target = (x.view(-1, 1).expand(-1, C) for x in _cross(places, encoding.edges))
    if space.head is Head.MEAN_SCALE:
        prediction = torch.cat([prediction, torch.tensor([-10.0, -1.0, 0.0, 10.0]).expand_as(prediction)], -1)
    return prediction, target


def _cross(places: Iterable[float], edges: Iterable[float]) -> tuple[Tensor, ...]:
    return torch.cartesian_prod(torch.tensor(places), torch.tensor(edges)).unbind(-1)


def _extreme_steps(space: SpaceFacts, encoding: EncodingFacts) -> tuple[Tensor, Tensor]:
    """Every step sure of one token, rightly or wrongly, or undecided; targets of all lengths."""
    draw = torch.Generator().manual_seed(0)
    return samples.pair_up(samples.extreme_steps(draw), encoding.draw(draw))


SPACES: Mapping[Space, SpaceFacts] = {
    Space.VALUE: SpaceFacts(
        words="standardised values",
        kinds=frozenset({Kind.VALUE}),
        ends=(-1e4, 1e4),
        extremes=_extreme_numbers,
        standardised=True,
        holds_targets=True,
        reading="value",
    ),
    Space.ORIGINAL: SpaceFacts(
        words="values in original units",
        kinds=NUMBERS,
        ends=(-1e4, 1e4),
        extremes=_extreme_numbers,
        holds_targets=True,
        reading="value",
        target=Encoding.ORIGINAL,
    ),
    Space.POSITIVE: SpaceFacts(
        words="positive values",
        kinds=frozenset({Kind.AMOUNT}),
        guard=guards.guard_positive,
        link=lambda raw, exclusive: functional.softplus(raw),
        ends=(0.0, 1e4),
        extremes=_extreme_numbers,
        holds_targets=True,
        target=Encoding.POSITIVE,
    ),
    Space.LOG_RATE: SpaceFacts(
        words="log rates",
        kinds=frozenset({Kind.AMOUNT}),
        ends=(-20.0, 20.0),  # rates of 2e-9 and 5e8
        extremes=_extreme_numbers,
        predict=lambda value, zero: value.log(),
        logarithmic=True,
        target=Encoding.POSITIVE,
    ),
    Space.MEAN_LOG_SCALE: SpaceFacts(
        words="means and log scales",
        kinds=frozenset({Kind.VALUE}),
        shape=(2 * C,),
        ends=(-1e4, 1e4),
        extremes=_extreme_numbers,
        predict=_pair_with_scale,
        head=Head.MEAN_SCALE,
        standardised=True,
        reading="value",
    ),
    Space.ZERO_INFLATED: SpaceFacts(
        words="log rates and logits of 0",
        kinds=frozenset({Kind.AMOUNT}),
        shape=(2 * C,),
        ends=(-20.0, 20.0),
        extremes=_extreme_numbers,
        predict=lambda value, zero: torch.cat([value.log(), zero], -1),
        head=Head.MEAN_SCALE,
        logarithmic=True,
        inflated=True,
        target=Encoding.POSITIVE,
    ),
    Space.LOGIT: SpaceFacts(
        words="logits",
        kinds=CHOICES | {Kind.TEACHER},
        guard=guards.guard_logits,
        per_class=True,
        unbounded=True,
        reading="score",
        example="torch.randn(8, 5)",
    ),
    Space.PROBABILITY: SpaceFacts(
        words="probabilities",
        kinds=CHOICES,
        guard=guards.guard_probabilities,
        link=_normalise,
        ends=(0.0, 1.0),
        per_class=True,
        reading="score",
        argument="prob",
    ),
    Space.LOG_PROBABILITY: SpaceFacts(
        words="log probabilities",
        kinds=CHOICES,
        guard=guards.guard_log_probabilities,
        link=_log_normalise,
        ends=(-200.0, 0.0),
        per_class=True,
        reading="score",
        argument="log_prob",
    ),
    Space.SCORE: SpaceFacts(
        words="scores",
        kinds=CHOICES,
        per_class=True,
        unbounded=True,
        reading="score",
    ),
    Space.EMBEDDING: SpaceFacts(
        words="embeddings",
        kinds=frozenset({Kind.CLASS}),
        shape=(EMBEDDING_WIDTH,),
        ends=(-1e4, 1e4),
        head=Head.EMBEDDING,
        scored_by_loss=True,
        example="torch.randn(8, 32)",
    ),
    Space.BOX_XYXY: SpaceFacts(
        words="box corners",
        kinds=frozenset({Kind.BOX}),
        shape=(4,),
        link=lambda raw, exclusive: samples.boxes(raw),
        extremes=lambda space, encoding: samples.extreme_boxes(),
        holds_targets=True,
    ),
    Space.SEQUENCE_LOGIT: SpaceFacts(
        words="logits per step",
        kinds=frozenset({Kind.TRANSCRIPT}),
        shape=(T, C),
        extremes=_extreme_steps,
    ),
    Space.NEXT_TOKEN: SpaceFacts(
        words="next-token logits",
        kinds=frozenset({Kind.TEXT}),
        shape=(T, C),
        extremes=_extreme_steps,
        example="torch.randn(8, 12, 30)",
    ),
    Space.LIST_SCORE: SpaceFacts(
        words="scores of a list",
        kinds=frozenset({Kind.RANKING}),
        example="torch.randn(8, 5)",
    ),
    Space.PAIR_SCORE: SpaceFacts(
        words="scores of a pair",
        kinds=frozenset({Kind.ORDER}),
        shape=(2,),
        ends=(-1e4, 1e4),
        extremes=lambda space, encoding: samples.extreme_pairs(space.ends[1]),
        example="torch.randn(8, 2)",
    ),
}


def draw_extremes(space: Space, encoding: Encoding) -> tuple[Tensor, Tensor]:
    """Return predictions as wrong and as right as float32 meets them, each against each target: `[P, ...]`."""
    own = SPACES[space]
    return (own.extremes or _extreme_scores)(own, ENCODINGS[encoding])


def get_reading(space: Space) -> str:
    """Return what tells spaces apart that take the same number for different things."""
    return SPACES[space].reading or str(space)
