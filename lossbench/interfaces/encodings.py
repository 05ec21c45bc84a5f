"""The table of encodings: one entry for each, with all that differs between them. See `lossbench.interfaces.spaces`."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.interfaces import guards, samples
from lossbench.interfaces.guards import Guard
from lossbench.interfaces.samples import B, C, T
from lossbench.types import BLANK, PADDING, Encoding

DEFAULT_ENCODING = Encoding.VALUE
"""The encoding of a loss that declares none."""
SURE = 4.0
"""A logit, or a score, of a prediction that is rather sure."""
SHIFT = 0.1
"""Offset of a wrong box from the right one, which it overlaps."""


class Kind(StrEnum):
    """The kind of quantity that is predicted. A space and an encoding of one kind fit each other."""

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
STEPS = frozenset({Kind.TRANSCRIPT, Kind.TEXT})


@dataclass(frozen=True)
class EncodingFacts:
    """All facts of an encoding, beyond its definition in `Encoding`.

    words: for people. kind: what is predicted. guard: of targets' values.

    sample: a random batch of targets, from a generator, class indices `[B]` and normal values `[B, C]`.
    hot: targets as 0 and 1, `[..., C]`, of classes and labels only. from_hot: the reverse, and of other encodings the
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
    example: Python for a random batch, where no task gives one.
    """

    words: str
    kind: Kind
    sample: Callable[[torch.Generator, Tensor, Tensor], Tensor]
    guard: Guard = guards.check_nothing
    hot: Callable[[Tensor], Tensor] | None = None
    from_hot: Callable[[Tensor], Tensor] = lambda hot: hot
    answers: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    edges: tuple[float, float] = (0.0, 1.0)
    holds: Callable[[Tensor], Tensor] | None = None
    misshapen: Callable[[Tensor], Tensor] = lambda target: target[..., :1]
    raw: Callable[[int, int, int, torch.Generator], Tensor] | None = None
    exclusive: bool = False
    whole: bool = False
    plain: bool = False
    single: Encoding | None = None
    example: str = ""

    @property
    def per_label(self) -> bool:
        """Targets are one per label, each of which may be weighed."""
        return self.kind is Kind.LABELS

    @property
    def per_step(self) -> bool:
        """Predictions are of tokens, one per time step."""
        return self.kind in STEPS

    def draw(self, generator: torch.Generator) -> Tensor:
        """Draw the targets of one batch, `[B, ...]`."""
        index = torch.randint(C, (B,), generator=generator)
        return self.sample(generator, index, torch.randn(B, C, generator=generator, dtype=torch.float64))


def _one_hot(index: Tensor, n: int = C) -> Tensor:
    return functional.one_hot(index, n).double()


def _answer_transcripts(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits `[B, T, C]` that are sure of the right transcript and of a wrong one, between blanks."""

    def align(transcript: Tensor) -> Tensor:
        path = torch.full((len(transcript), T), BLANK)
        path[:, 1 : 2 * transcript.shape[1] : 2] = transcript.clamp_min(BLANK)
        return 2 * SURE * _one_hot(path)

    return align(tokens), align(torch.where(tokens > BLANK, tokens % (C - 1) + 1, tokens))


def _answer_texts(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits `[B, T, C]` that are sure of the next token, and of a wrong one."""
    following = tokens.roll(-1, -1)
    right, wrong = (torch.where(following != PADDING, (following + by) % C, 0) for by in (0, 1))
    return SURE * _one_hot(right), SURE * _one_hot(wrong)


def _answer_orders(order: Tensor) -> tuple[Tensor, Tensor]:
    right = SURE * torch.stack([order, -order], -1)
    return right, -right


def _draw_raw_values(n: int, n_outputs: int, width: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, width, generator=generator).exp()


def _draw_raw_boxes(n: int, n_outputs: int, width: int, generator: torch.Generator) -> Tensor:
    values = _draw_raw_values(n, n_outputs, width, generator)
    return torch.cat([values[:, :2], values[:, :2] + values[:, 2:]], 1)


def _draw_raw_transcripts(n: int, n_outputs: int, width: int, generator: torch.Generator) -> Tensor:
    # lengths from 1 to S in turn
    lengths, longest = 1 + torch.arange(n).view(-1, 1) % samples.S, samples.S
    tokens = torch.randint(BLANK + 1, n_outputs, (n, longest), generator=generator)
    return torch.where(torch.arange(longest) < lengths, tokens, PADDING)


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
        guard=guards.check_not_negative,
        edges=(0.0, 1e4),
    ),
    Encoding.ABOVE_ZERO: EncodingFacts(
        words="values above 0",
        kind=Kind.AMOUNT,
        sample=lambda draw, index, value: value.exp(),
        guard=guards.check_above_zero,
        edges=(1e-6, 1e4),
    ),
    Encoding.INDEX: EncodingFacts(
        words="class indices",
        kind=Kind.CLASS,
        sample=lambda draw, index, value: index,
        guard=guards.check_indices,
        hot=_one_hot,
        from_hot=lambda hot: hot.argmax(-1),
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
        sample=lambda draw, index, value: _one_hot(index),
        guard=guards.check_one_hot,
        hot=lambda target: target,
        exclusive=True,
        plain=True,
    ),
    Encoding.MULTI_HOT: EncodingFacts(
        words="0 or 1 each",
        kind=Kind.LABELS,
        sample=lambda draw, index, value: (value > 0).double(),
        guard=guards.check_multi_hot,
        hot=lambda target: target,
        raw=lambda n, n_outputs, width, draw: torch.randint(2, (n, n_outputs), generator=draw),
        plain=True,
        single=Encoding.MULTI_HOT,
    ),
    Encoding.SIGNED: EncodingFacts(
        words="-1 or 1 each",
        kind=Kind.LABELS,
        sample=lambda draw, index, value: value.sign(),
        guard=guards.check_signed,
        hot=lambda target: (target + 1) / 2,
        from_hot=lambda hot: 2 * hot - 1,
        single=Encoding.SIGNED,
    ),
    Encoding.BOX_XYXY: EncodingFacts(
        words="box corners",
        kind=Kind.BOX,
        sample=lambda draw, index, value: samples.make_boxes(value),
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
    ),
    Encoding.SEQUENCE: EncodingFacts(
        words="the sequence itself",
        kind=Kind.TEXT,
        sample=lambda draw, index, value: samples.draw_texts(draw),
        answers=_answer_texts,
        exclusive=True,
        whole=True,
        example="torch.randint(30, (8, 12))",
    ),
    Encoding.RELEVANCE: EncodingFacts(
        words="grades of a list",
        kind=Kind.RANKING,
        sample=lambda draw, index, value: samples.draw_grades(draw),
        from_hot=lambda hot: 2 * hot - hot.roll(1, -1),  # one item of grade 2 and one that is not there
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
        sample=lambda draw, index, value: torch.stack([value, _one_hot(index)], -2),
        guard=guards.check_teacher,
        from_hot=lambda hot: torch.stack([200 * hot.flip(-1) - 100, hot], -2),
        answers=lambda teacher: (teacher[:, 0], -teacher[:, 0]),
        example="torch.stack([torch.randn(8, 5), torch.eye(5)[torch.randint(5, (8,))]], -2)",
    ),
}


def draw_raw(encodings: Iterable[Encoding], n: int, n_outputs: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw targets as the data sets of a task with these encodings have them; values if nothing else is known."""
    known = [ENCODINGS[e].raw for e in encodings]
    draw = next((raw for raw in known if raw is not None), _draw_raw_values)
    return draw(n, n_outputs, width, generator)
