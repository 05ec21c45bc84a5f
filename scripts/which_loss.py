"""Writes docs/which-loss.md from lossbench/advice/rules.yaml. `--check` only compares."""

import sys
from collections.abc import Iterator
from pathlib import Path

from lossbench.advice import FACTS, Rule, list_rules
from lossbench.types import Choice

TARGET = Path(__file__).parents[1] / "docs" / "which-loss.md"
INTRODUCTION = """\
# Which loss when

This page lists the losses to try first, by properties of the data. Losses are in order of preference; alternatively,
use the task's default loss with one of the weightings. If several lines apply, follow the most specific one.
`scripts/which_loss.py` writes the page from `lossbench/advice/rules.yaml`.

This is advice, not a result. Each rule ends with a command that compares its losses with the default. Run it on your
own data ([how](public-data.md)). The numbers under "measured" are the output of that command with 5 seeds, on the clean
test split after the last epoch, for bundled data. Where they are close, the intervals overlap. They say nothing about
other data.

Two remarks apply to all rules. Choose the metric first: a loss can only be judged by a metric. And early stopping on a
validation split brings cross-entropy close to the losses for wrong labels, so look at both epochs in the table.

## In short
"""
FACTS_TITLE = "## Conditions"
FACTS_TEXT = """\
Programs can read the same rules: `lossbench.advice.matching("regression", {"outlier_share": 0.2})`. A rule may use
these facts:
"""


def names(choices: tuple[Choice, ...]) -> str:
    return ", ".join(f"`{choice.label}`" for choice in choices)


def condition(rule: Rule) -> str:
    return ", ".join(f"`{c}`" for c in rule.when)


def decision_table(task: str) -> Iterator[str]:
    yield f"**{task}**"
    yield ""
    yield "| condition | losses | weightings with the default loss |"
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
