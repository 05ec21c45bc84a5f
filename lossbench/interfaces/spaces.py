"""The table of spaces: one entry for each, with all that differs between them; of encodings in the module beside it.

To add a `Space` or an `Encoding`, write its member in `lossbench.types`, its entry in the table, and the task or loss
that uses it. No other module names single members: it reads `SPACES` and `ENCODINGS`, and a test sees to that.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.interfaces import guards, samples
from lossbench.interfaces.encodings import CHOICES, ENCODINGS, NUMBERS, EncodingFacts, Kind
from lossbench.interfaces.guards import Guard
from lossbench.interfaces.samples import B, C, T
from lossbench.types import EMBEDDING_WIDTH, Encoding, Head, Space

DEFAULT_SPACE = Space.VALUE
"""The space of a loss that declares none."""


@dataclass(frozen=True)
class SpaceFacts:
    """All facts of a space, beyond its definition in `Space`.

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
    guard: Guard = guards.check_nothing
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


def _to_probabilities(raw: Tensor, exclusive: bool) -> Tensor:
    return raw.softmax(-1) if exclusive else raw.sigmoid()


def _to_log_probabilities(raw: Tensor, exclusive: bool) -> Tensor:
    return raw.log_softmax(-1) if exclusive else functional.logsigmoid(raw)


def _make_extreme_scores(space: SpaceFacts, encoding: EncodingFacts) -> tuple[Tensor, Tensor]:
    return samples.pair_up(samples.make_peaks(*space.ends, space.shape[-1]), encoding.from_hot(torch.eye(C)))


def _make_extreme_numbers(space: SpaceFacts, encoding: EncodingFacts) -> tuple[Tensor, Tensor]:
    """Return predictions next to their targets and far from them; targets of 0 where the encoding has them."""
    low, high = space.ends
    places = [0.0, 1e-6, 1.0, high] if low == 0 else [0.0, 1e-6, -1e-6, high, low]
    pairs = torch.cartesian_prod(torch.tensor(places), torch.tensor(encoding.edges))  # [P, 2]
    prediction, target = (x.view(-1, 1).expand(-1, C) for x in pairs.unbind(-1))
    if space.head is Head.MEAN_SCALE:
        prediction = torch.cat([prediction, torch.tensor([-10.0, -1.0, 0.0, 10.0]).expand_as(prediction)], -1)
    return prediction, target


def _make_extreme_steps(space: SpaceFacts, encoding: EncodingFacts) -> tuple[Tensor, Tensor]:
    """Return steps that are sure of one token, rightly or wrongly, or undecided; targets of all lengths."""
    draw = torch.Generator().manual_seed(0)
    return samples.pair_up(samples.make_extreme_steps(draw), encoding.draw(draw))


SPACES: Mapping[Space, SpaceFacts] = {
    Space.VALUE: SpaceFacts(
        words="standardised values",
        kinds=frozenset({Kind.VALUE}),
        ends=(-1e4, 1e4),
        extremes=_make_extreme_numbers,
        standardised=True,
        holds_targets=True,
        reading="value",
    ),
    Space.ORIGINAL: SpaceFacts(
        words="values in original units",
        kinds=NUMBERS,
        ends=(-1e4, 1e4),
        extremes=_make_extreme_numbers,
        holds_targets=True,
        reading="value",
        target=Encoding.ORIGINAL,
    ),
    Space.POSITIVE: SpaceFacts(
        words="positive values",
        kinds=frozenset({Kind.AMOUNT}),
        guard=guards.check_positive,
        link=lambda raw, exclusive: functional.softplus(raw),
        ends=(0.0, 1e4),
        extremes=_make_extreme_numbers,
        holds_targets=True,
        target=Encoding.POSITIVE,
    ),
    Space.LOG_RATE: SpaceFacts(
        words="log rates",
        kinds=frozenset({Kind.AMOUNT}),
        ends=(-20.0, 20.0),  # rates of 2e-9 and 5e8
        extremes=_make_extreme_numbers,
        predict=lambda value, zero: value.log(),
        logarithmic=True,
        target=Encoding.POSITIVE,
    ),
    Space.MEAN_LOG_SCALE: SpaceFacts(
        words="means and log scales",
        kinds=frozenset({Kind.VALUE}),
        shape=(2 * C,),
        ends=(-1e4, 1e4),
        extremes=_make_extreme_numbers,
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
        extremes=_make_extreme_numbers,
        predict=lambda value, zero: torch.cat([value.log(), zero], -1),
        head=Head.MEAN_SCALE,
        logarithmic=True,
        inflated=True,
        target=Encoding.POSITIVE,
    ),
    Space.LOGIT: SpaceFacts(
        words="logits",
        kinds=CHOICES | {Kind.TEACHER},
        guard=guards.check_logits,
        per_class=True,
        unbounded=True,
        reading="score",
        example="torch.randn(8, 5)",
    ),
    Space.PROBABILITY: SpaceFacts(
        words="probabilities",
        kinds=CHOICES,
        guard=guards.check_probabilities,
        link=_to_probabilities,
        ends=(0.0, 1.0),
        per_class=True,
        reading="score",
        argument="prob",
    ),
    Space.LOG_PROBABILITY: SpaceFacts(
        words="log probabilities",
        kinds=CHOICES,
        guard=guards.check_log_probabilities,
        link=_to_log_probabilities,
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
        link=lambda raw, exclusive: samples.make_boxes(raw),
        extremes=lambda space, encoding: samples.make_extreme_boxes(),
        holds_targets=True,
    ),
    Space.SEQUENCE_LOGIT: SpaceFacts(
        words="logits per step",
        kinds=frozenset({Kind.TRANSCRIPT}),
        shape=(T, C),
        extremes=_make_extreme_steps,
    ),
    Space.NEXT_TOKEN: SpaceFacts(
        words="next-token logits",
        kinds=frozenset({Kind.TEXT}),
        shape=(T, C),
        extremes=_make_extreme_steps,
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
        extremes=lambda space, encoding: samples.make_extreme_pairs(space.ends[1]),
        example="torch.randn(8, 2)",
    ),
}


def draw_extremes(space: Space, encoding: Encoding) -> tuple[Tensor, Tensor]:
    """Return predictions as wrong and as right as float32 meets them, each against each target: `[P, ...]`."""
    facts = SPACES[space]
    return (facts.extremes or _make_extreme_scores)(facts, ENCODINGS[encoding])


def get_reading(space: Space) -> str:
    """Return the key by which spaces differ that take the same number for different things."""
    return SPACES[space].reading or str(space)


def find_space(kind: Kind) -> Space:
    """Return the first space with predictions of a kind: one of unbounded numbers, such as logits, if there is any."""
    known = [space for space, facts in SPACES.items() if kind in facts.kinds]
    return next((space for space in known if SPACES[space].link is None), known[0])
