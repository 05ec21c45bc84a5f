"""`lossbench explain`: what a table's headings mean, without torch."""

import json

import pytest

from lossbench.report.tables.terms import TERMS


def test_without_arguments_all_terms_are_listed_one_line_each(lossbench, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, err = lossbench("explain")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[1:]] == sorted(term.slug for term in TERMS.values())


def test_a_term_has_a_meaning_a_definition_and_a_way_to_read_it(lossbench):
    code, out, _ = lossbench("explain", "aulc", "overfitting", "gap", "✓")
    assert code == 0
    assert [line for line in out.splitlines() if line in TERMS] == ["AULC", "overfitting gap", "recommended"]
    assert out.count("Meaning ") == out.count("Definition ") == out.count("How to read ") == 3


def test_json_and_quiet(lossbench):
    (found,) = json.loads(lossbench("explain", "rope", "--json").out)
    assert (found["name"], found["slug"]) == ("ROPE", "rope")
    assert len(json.loads(lossbench("explain", "--json").out)) == len(TERMS)
    assert lossbench("explain", "--quiet") == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["alc"], "Unknown term 'alc'. Did you mean 'aulc'? Terms: aulc, "),
        (["aulc", "verdit"], "Unknown term 'verdit'. Did you mean 'verdict'?"),
        (["--all"], "Write lossbench explain [TERM ...]. Got '--all' instead."),
    ],
)
def test_one_message_for_what_is_wrong(lossbench, arguments, message):
    code, out, err = lossbench("explain", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"lossbench: {message}")
    assert err.count("\n") == 1


def test_terms_are_explained_without_torch(process):
    code = "import sys; from lossbench.cli import main; code = main(['explain', '--quiet']); "
    done = process("-c", code + "sys.exit(code or bool({'torch', 'pandas'} & sys.modules.keys()))")
    assert (done.returncode, done.stderr) == (0, "")
