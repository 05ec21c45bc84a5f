"""Writes docs/which-loss.md from lossbench/advice/rules.yaml. `--check` only compares."""

import sys
from collections.abc import Iterator
from pathlib import Path

from lossbench.advice import FACTS, Rule, list_rules
from lossbench.types import Choice

TARGET = Path(__file__).parents[1] / "docs" / "which-loss.md"
INTRODUCTION = """\
# Which loss when

What to try first, by what is known of the data; written by `scripts/which_loss.py` from
`lossbench/advice/rules.yaml`. Losses are in order of preference; a weighting is tried with the task's default loss
instead. Where several rows hold, take the one that says most about your data.

It is advice, and no result: each rule ends with a command that compares its losses with the default. Run it on your
own data ([how](public-data.md)). Numbers under "measured" are what that command printed, with 5 seeds, on the clean
test split after the last epoch, for data that come along; where they are close, its intervals overlap. They say nothing
about other data.

Two remarks on all of it. The choice of the metric comes first: a loss can only be judged by it. And early stopping on
a validation split brings cross-entropy near the losses made for wrong labels, so look at both epochs in the table.

## In short
"""
FACTS_TITLE = "## Conditions"
FACTS_TEXT = """\
Programs read the same rules (`lossbench.advice.matching("regression", {"outlier_share": 0.2})`). These are all the
facts that a rule may ask for:
"""


def names(choices: tuple[Choice, ...]) -> str:
    return ", ".join(f"`{choice.label}`" for choice in choices)


def condition(rule: Rule) -> str:
    return ", ".join(f"`{c}`" for c in rule.when)


def decision_table(task: str) -> Iterator[str]:
    yield f"**{task}**"
    yield ""
    yield "| what is known | losses | or, with the default loss |"
    yield "| --- | --- | --- |"
    for rule in list_rules(task):
        yield f"| [{rule.title}](#{rule.id}) | {names(rule.losses)} | {names(rule.weightings)} |"
    yield ""


def lines_of(rule: Rule) -> Iterator[str]:
    """One rule. The heading is its id, which the table links to."""
    yield f"### {rule.id}"
    yield ""
    yield f"**{rule.title}.** {rule.because}"
    yield ""
    yield f"- losses: {names(rule.losses)}"
    if rule.weightings:
        yield f"- weightings: {names(rule.weightings)}"
    if rule.when:
        yield f"- when: {condition(rule)}"
    if rule.pitfall:
        yield f"- pitfall: {rule.pitfall}"
    yield f"- source: {rule.source}"
    yield f"- try: `{rule.command}`"
    if rule.measured:
        yield f"- measured: {rule.measured}"
    yield ""


def facts() -> Iterator[str]:
    yield FACTS_TITLE
    yield ""
    yield FACTS_TEXT
    for name, fact in FACTS.items():
        words = f" ({', '.join(fact.words)})" if fact.words else ""
        yield f"- `{name}`: {fact.meaning}{words}"


def page() -> str:
    tasks = tuple(dict.fromkeys(rule.task for rule in list_rules()))
    found = [INTRODUCTION]
    found += [line for task in tasks for line in decision_table(task)]
    for task in tasks:
        found += [f"## {task.capitalize()}", ""]
        found += [line for rule in list_rules(task) for line in lines_of(rule)]
    return "\n".join([*found, *facts()]).rstrip() + "\n"


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        return int(TARGET.read_text() != page())
    TARGET.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
