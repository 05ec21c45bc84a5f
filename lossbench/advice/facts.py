"""Facts about data: the closed vocabulary of the rules, and conditions on its facts."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real

from lossbench.errors import InvalidValue, make_unknown

RELATIONS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True)
class Fact:
    """A property of the data, or of what is wanted from the model.

    kind: "number", "switch" (true or false) or "word".
    words: the values that a word may have; empty where the registry lists them (metrics).
    """

    meaning: str
    kind: str = "switch"
    words: tuple[str, ...] = ()


FACTS: Mapping[str, Fact] = {
    "label_noise": Fact("share of labels that are wrong, 0 to 1", "number"),
    "noise_kind": Fact("how labels go wrong", "word", ("symmetric", "asymmetric", "missing_positives")),
    "transition_known": Fact("it is known how often each class is taken for each other"),
    "n_classes": Fact("classes", "number"),
    "class_ratio": Fact("examples of the largest class, over those of the smallest", "number"),
    "positive_share": Fact("share of positives, in a binary task or of a typical label", "number"),
    "outlier_share": Fact("share of targets (transcripts, boxes) that are grossly wrong, 0 to 1", "number"),
    "outlier_sides": Fact("whether gross errors point both ways or one way", "word", ("both", "one")),
    "input_outliers": Fact("some inputs are grossly wrong, and their targets right"),
    "heavy_tails": Fact("the noise is mostly small and now and then enormous, in both directions"),
    "noise_varies": Fact("the noise differs between examples, or an error bar is wanted with each prediction"),
    "counts": Fact("targets are counts"),
    "overdispersed": Fact("the variance of the counts is far above their mean, for equal inputs"),
    "many_zeros": Fact("there are more zeros than the other counts (amounts) explain"),
    "positive": Fact("targets are above 0, and being 10% off costs the same whatever their size"),
    "quantile": Fact("the quantile that is wanted, between 0 and 1", "number"),
    "n_outputs": Fact("numbers that are predicted per example", "number"),
    "direction_only": Fact("the outputs of an example are one vector, of which only the direction counts"),
    "disjoint_boxes": Fact("first guesses lie apart from their boxes, as those of an untrained model do"),
    "small_boxes": Fact("boxes are a few pixels wide"),
    "rare_tokens": Fact("some tokens or transcripts are rare, and the frequent ones are read well"),
    "calibrated": Fact("probabilities are used as such"),
    "metric": Fact("what is measured in the end: the name of a metric", "word"),
    "pairs_known": Fact("known are pairs that belong together, and no classes"),
    "top_only": Fact("only the top of a list counts"),
    "graded": Fact("items have grades, and not only an order"),
    "strong_teacher": Fact("the teacher is far larger than the student"),
}
"""Every fact by its name. Leave out a fact that is not known: it meets no condition."""


@dataclass(frozen=True)
class Condition:
    """A requirement on the value of one fact.

    relation: one of `RELATIONS` for a number, "is" for a switch or a word.
    """

    fact: str
    relation: str
    value: float | bool | str

    @staticmethod
    def parse(fact: str, text: object) -> "Condition":
        """Return the condition that a rule writes as `">= 0.3"`, `true` or `one`.

        Raises `LossbenchError` for anything else, and for an unknown fact.
        """
        if get_fact(fact).kind != "number":
            return Condition(fact, "is", _check_value(fact, text))
        match = re.fullmatch(r"(>=|<=|>|<) *([\d.]+)", str(text))
        if not match:
            raise InvalidValue(f"{fact} is a number: write for example '>= 0.3'. Got {text!r} instead.")
        return Condition(fact, match[1], float(match[2]))

    def holds(self, facts: Mapping[str, object]) -> bool:
        """Return whether `facts` meet the condition; a fact that is not known meets none."""
        value = facts.get(self.fact)
        if value is None:
            return False
        if self.relation == "is":
            return value == self.value
        return RELATIONS[self.relation](float(value), float(self.value))  # type: ignore[arg-type]

    def __str__(self) -> str:
        if self.relation != "is":
            return f"{self.fact} {self.relation} {self.value:g}"
        return self.fact if self.value is True else f"{self.fact} = {str(self.value).lower()}"


def get_fact(name: str) -> Fact:
    """Return the fact of that name; raises `UnknownName` with the nearest name."""
    if name not in FACTS:
        raise make_unknown("fact", name, FACTS, "Facts")
    return FACTS[name]


def check_facts(facts: Mapping[str, object]) -> None:
    """Raise `LossbenchError` for an unknown fact and for a value of the wrong type; None stands for "not known"."""
    for name, value in facts.items():
        get_fact(name)
        if value is not None:
            _check_value(name, value)


def _check_value(name: str, value: object) -> bool | str:
    fact = get_fact(name)
    if fact.words and value not in fact.words:
        raise make_unknown(f"value of {name!r}:", value, fact.words, "Its values")
    types = {"number": Real, "switch": bool, "word": str}
    # True is a number for Python, but no number of classes
    if not isinstance(value, types[fact.kind]) or (fact.kind == "number" and isinstance(value, bool)):
        expected = {"number": "a number", "switch": "true or false", "word": "a word"}[fact.kind]
        raise InvalidValue(f"The fact {name!r} must be {expected}. Got {value!r} instead.")
    return value  # type: ignore[return-value]
