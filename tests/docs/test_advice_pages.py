"""The pages of advice: one is written from the rules, the other has a test for each item, and its snippets run."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WRONG = (ROOT / "docs" / "what-tutorials-get-wrong.md").read_text()
ITEMS = WRONG.split("\n### ")[1:]
TESTS = set(re.findall(r"^def (test_\w+)", (ROOT / "tests" / "identity" / "test_tutorials.py").read_text(), re.M))


def python(text):
    return re.findall(r"```python\n(.*?)```", text, re.S)


def test_which_loss_is_what_the_rules_say(monkeypatch):
    script = str(ROOT / "scripts" / "which_loss.py")
    monkeypatch.setattr("sys.argv", [script, "--check"])
    assert runpy.run_path(script)["main"]() == 0, "run scripts/which_loss.py"


def test_every_item_has_its_test_and_every_test_its_item():
    named = [re.findall(r"^Test: `(test_\w+)`\.$", item, re.M) for item in ITEMS]
    assert all(len(names) == 1 for names in named)
    assert {names[0] for names in named} == TESTS
    assert len(named) == len(TESTS)


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.splitlines()[0].strip('"'))
def test_every_snippet_holds(item):
    names = {}
    exec(python(WRONG)[0], names)
    (snippet,) = python(item)
    assert "assert" in snippet or "raises" in snippet
    exec(snippet, names)
