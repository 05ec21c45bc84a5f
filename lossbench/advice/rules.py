"""Rules that recommend losses: read from `rules.yaml`, validated, and matched with facts about the data."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from lossbench.advice.facts import Condition, check_facts
from lossbench.errors import InvalidValue, UnknownName, make_unknown
from lossbench.types import Choice

KEYS = ("id", "task", "title", "when", "losses", "weightings", "because", "pitfall", "source", "try", "measured")
REQUIRED_KEYS = ("id", "task", "title", "losses", "because", "source", "try")


@dataclass(frozen=True)
class Rule:
    """One piece of advice: under these conditions, try these losses.

    id, title: its name for programs, and for people.
    task: the task of its losses; some rules are about tasks that are not registered.
    when: conditions that must all hold; a rule without any is the default where nothing is known.
    losses: in order of preference. weightings: to try with the task's default loss instead.
    because, pitfall, source: the reason, the trap, and a link to read on.
    command: `lossbench ...`, which compares the losses.
    measured: the result of that command on its own data, if it was run.
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


def list_rules(task: str | None = None) -> tuple[Rule, ...]:
    """Return all rules in their order, or those of one task; raises `UnknownName` for a task without any."""
    every = _load_rules()
    if task is None:
        return every
    tasks = {rule.task for rule in every}
    if task not in tasks:
        raise make_unknown("task", task, tasks, "Tasks with advice")
    return tuple(rule for rule in every if rule.task == task)


def matching(task: str, facts: Mapping[str, object]) -> tuple[Rule, ...]:
    """Return the rules of a task whose conditions all hold, those with the most conditions first.

    facts: values by the names in `FACTS`; leave out what is not known, or give None.

    Raises `LossbenchError` for an unknown fact, and for a value of the wrong type.
    """
    check_facts(facts)
    rules = [rule for rule in list_rules(task) if all(condition.holds(facts) for condition in rule.when)]
    # the sort is stable: among rules with as many conditions, the first of the file stays first
    return tuple(sorted(rules, key=lambda rule: -len(rule.when)))


@cache  # every loss and weighting of the file is built for the check, which is needed once
def _load_rules() -> tuple[Rule, ...]:
    import yaml

    text = (files("lossbench.advice") / "rules.yaml").read_text(encoding="utf-8")
    rules = tuple(parse_rule(plain) for plain in yaml.safe_load(text))
    ids = [rule.id for rule in rules]
    if repeated := {name for name in ids if ids.count(name) > 1}:
        raise InvalidValue(f"Several rules are called {', '.join(sorted(repeated))}.")
    return rules


def parse_rule(plain: Mapping[str, Any]) -> Rule:
    """Return the rule that a mapping with the keys of `rules.yaml` describes.

    Raises `LossbenchError` for a key, fact, loss, weighting or field that does not exist, and for a loss or weighting
    of another task.
    """
    # 1. its keys
    for key in plain.keys() - set(KEYS):
        raise make_unknown("key of a rule:", key, KEYS, "Its keys")
    if missing := [key for key in REQUIRED_KEYS if not plain.get(key)]:
        raise InvalidValue(f"The rule {plain.get('id')!r} needs {', '.join(missing)}.")
    # 2. its conditions: one text per fact, or a list where a number has two bounds
    conditions = [
        Condition.parse(fact, text)
        for fact, texts in plain.get("when", {}).items()
        for text in (texts if isinstance(texts, list) else [texts])
    ]
    # 3. its texts, of which YAML keeps the line breaks
    texts = {key: " ".join(str(plain.get(key, "")).split()) for key in ("title", "because", "pitfall", "source")}
    return Rule(
        id=plain["id"],
        task=plain["task"],
        when=tuple(conditions),
        losses=tuple(_parse_choice("loss", choice, plain["task"]) for choice in plain["losses"]),
        weightings=tuple(_parse_choice("weighting", choice, plain["task"]) for choice in plain.get("weightings", ())),
        command=plain["try"],
        measured=" ".join(plain.get("measured", "").split()),
        **texts,
    )


def _parse_choice(kind: str, choice: Any, task: str) -> Choice:
    """Return the choice written as `huber` or `{huber: {delta: 2}}`.

    The loss or weighting is built once, so that its name, fields and tasks are checked.
    """
    from lossbench import registry

    name, fields = next(iter(choice.items())) if isinstance(choice, Mapping) else (choice, {})
    part = (registry.losses if kind == "loss" else registry.weightings).get(name, **fields)
    if not {task, "*"} & set(part.tasks):
        raise UnknownName(f"The {kind} {name!r} is for {' and '.join(part.tasks)}, not for {task}.")
    return Choice.from_fields(name, fields)
