"""The rules of `rules.yaml`, validated."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from lossbench.advice.facts import Condition, check_facts
from lossbench.errors import InvalidValue, UnknownName, make_unknown
from lossbench.types import Choice

KEYS = ("id", "task", "title", "when", "losses", "weightings", "because", "pitfall", "source", "try", "measured")
NEEDED = ("id", "task", "title", "losses", "because", "source", "try")


@dataclass(frozen=True)
class Rule:
    """One piece of advice.

    id, title: for programs, and for people. task: of which its losses are; some are of no registered task.
    when: all of which must hold; none for what to take where nothing is known.
    losses: in order of preference. weightings: what to try with the task's default loss instead.
    because, pitfall, source: the reason, the trap, and where to read on. command: `lossbench ...`, to compare them.
    measured: what that command has shown, if it was run; on its data, not on others.
    """

    id: str
    task: str
    title: str
    when: tuple[Condition, ...]
    losses: tuple[Choice, ...]
    weightings: tuple[Choice, ...]
    because: str
    pitfall: str
    source: str
    command: str
    measured: str


def rules(task: str | None = None) -> tuple[Rule, ...]:
    """All rules in their order, or those of one task; raises `UnknownName` for a task without any."""
    found = _read()
    if task is None:
        return found
    tasks = {rule.task for rule in found}
    if task not in tasks:
        raise make_unknown("task", task, tasks, "Tasks with advice")
    return tuple(rule for rule in found if rule.task == task)


def matching(task: str, facts: Mapping[str, object]) -> tuple[Rule, ...]:
    """The rules of a task whose conditions all hold, those with the most conditions first.

    facts: by the names in `FACTS`; what is not known is left out, or None. Raises `LossbenchError` for any other.
    """
    check_facts(facts)
    found = [rule for rule in rules(task) if all(condition.holds(facts) for condition in rule.when)]
    return tuple(sorted(found, key=lambda rule: -len(rule.when)))


@cache
def _read() -> tuple[Rule, ...]:
    import yaml

    text = (files("lossbench.advice") / "rules.yaml").read_text(encoding="utf-8")
    found = tuple(rule_from(plain) for plain in yaml.safe_load(text))
    twice = {rule.id for rule in found if sum(other.id == rule.id for other in found) > 1}
    if twice:
        raise InvalidValue(f"Several rules are called {', '.join(sorted(twice))}.")
    return found


def rule_from(plain: Mapping[str, Any]) -> Rule:
    """A rule from a mapping with the keys of `rules.yaml`.

    Raises `LossbenchError` for a key, fact, loss, weighting or field that does not exist, and for a loss or weighting
    of another task.
    """
    for key in plain.keys() - set(KEYS):
        raise make_unknown("key of a rule:", key, KEYS, "Its keys")
    if missing := [key for key in NEEDED if not plain.get(key)]:
        raise InvalidValue(f"The rule {plain.get('id')!r} needs {', '.join(missing)}.")
    texts = {key: " ".join(str(plain.get(key, "")).split()) for key in ("title", "because", "pitfall", "source")}
    return Rule(
        id=plain["id"],
        task=plain["task"],
        when=tuple(_conditions(plain.get("when", {}))),
        losses=_choices("loss", plain["losses"], plain["task"]),
        weightings=_choices("weighting", plain.get("weightings", ()), plain["task"]),
        command=plain["try"],
        measured=" ".join(plain.get("measured", "").split()),
        **texts,
    )


def _conditions(given: Mapping[str, Any]) -> Iterator[Condition]:
    for fact, texts in given.items():  # a list where a number has two bounds
        yield from (Condition.read(fact, text) for text in (texts if isinstance(texts, list) else [texts]))


def _choices(word: str, given: Iterable[Any], task: str) -> tuple[Choice, ...]:
    return tuple(_choice(word, one, task) for one in given)


def _choice(word: str, given: Any, task: str) -> Choice:
    """`huber`, or `{huber: {delta: 2}}`: made once, so that names and fields are right, and of the right task."""
    from lossbench import registry

    name, fields = next(iter(given.items())) if isinstance(given, Mapping) else (given, {})
    part = (registry.losses if word == "loss" else registry.weightings).get(name, **fields)
    if not {task, "*"} & set(part.tasks):
        raise UnknownName(f"The {word} {name!r} is for {' and '.join(part.tasks)}, not for {task}.")
    return Choice.from_fields(name, fields)
