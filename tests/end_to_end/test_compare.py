"""`lossbench compare`: from trained records to a verdict, in every format, and one message for what is not there."""

import csv
import io
import json

import pytest

from lossbench.cli import main

STUDY = ("task=regression", "losses=[mae,mse]", "rates=[0,0.4]", "seeds=2", "epochs=2", "output=study")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Records of two losses at two rates."""
    root = tmp_path_factory.mktemp("trained")
    assert main(["--quiet", *STUDY[:-1], f"output={root / 'study'}"]) == 0
    return root


@pytest.fixture
def compare(lossbench, trained, monkeypatch):
    """`lossbench compare study ...`, beside the study."""
    monkeypatch.chdir(trained)
    return lambda *arguments: lossbench("compare", *arguments)


def test_the_table_says_what_a_reader_must_know(compare):
    said = compare("study")
    assert said.code == 0
    text = " ".join(said.out.split())
    assert "regression · diabetes · mlp · corruption one_sided_outliers" in text
    assert "Corruption rate 0.4: " in text
    assert "(untuned)" in text
    assert "baseline mse" in text  # the task's default loss, though mae comes first in the alphabet
    for term in (
        "95% CI over seeds and test examples",
        "✓ recommended:",
        "lossbench explain verdict p-better",
        "breakdown",
    ):
        assert term in text


@pytest.mark.parametrize("columns", ["80", "120"])
def test_the_table_fits(compare, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    assert max(map(len, compare("study").out.splitlines())) <= int(columns)


def test_json(compare):
    for arguments in (("study", "--format", "json"), ("study", "--json")):
        (comparison,) = json.loads(compare(*arguments).out)["comparisons"]
        assert [level["corruption_rate"] for level in comparison["rates"]] == [0, 0.4]
        first = comparison["rates"][0]
        assert (first["rope"], first["unit"], first["baseline"]) == (pytest.approx(2), "%", "mse")
        assert {loss["name"] for loss in first["losses"]} == {"mae", "mse"}
        assert {one["name"] for one in comparison["robustness"]} == {"mae", "mse"}


def test_csv(compare):
    rows = list(csv.DictReader(io.StringIO(compare("study", "--format", "csv", "--sort", "loss").out)))
    assert [(row["corruption_rate"], row["name"]) for row in rows] == [
        ("0.0", "mae"),
        ("0.0", "mse"),
        ("0.4", "mae"),
        ("0.4", "mse"),
    ]
    assert float(rows[2]["difference_low"]) < float(rows[2]["difference"]) < float(rows[2]["difference_high"])


def test_tables_for_papers_and_pages(compare):
    lines = compare("study", "--format", "markdown").out.splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[0].startswith("| name | corruption_rate |")
    latex = compare("study", "--format", "latex").out
    assert latex.startswith("\\begin{tabular}{")
    assert r"difference\_low" in latex
    assert "nan" not in latex


def test_quiet(compare):
    assert compare("study", "--quiet") == (0, "", "")


def test_options(compare):
    said = compare(
        "study", "--baseline", "mae", "--where", "corruption_rate=0.4", "--rope", "50", "--confidence", "0.9"
    )
    assert "baseline mae" in said.out
    assert "90% CI" in said.out
    assert "50%" in said.out
    assert "Corruption rate 0:" not in said.out
    assert "test r2 ↑" in compare("study", "--metric", "r2").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Write lossbench compare STUDY"),
        (("stduy",), "There is no folder 'stduy'. Did you mean 'study'?"),
        (("study", "--baseline", "maee"), "Unknown baseline 'maee'. Did you mean 'mae'?"),
        (("study", "--metric", "rsme"), "Unknown metric 'rsme'. Did you mean 'rmse'?"),
        (("study", "--where", "loss=mae"), "There is one loss only, mae: nothing to compare."),
        (("study", "--where", "corruption_rate=0.3"), "No trial has corruption_rate=0.3. On record: 0.0, 0.4."),
        (("study", "--where", "rate"), "--where takes a setting and its value"),
        (("study", "--sort", "los"), "Unknown order 'los'. Did you mean 'loss'?"),
        (("study", "--format", "jsn"), "Unknown format 'jsn'. Did you mean 'json'?"),
        (("study", "--bseline", "mae"), "Unknown option '--bseline'. Did you mean '--baseline'?"),
        (("study", "--confidence", "95"), "The --confidence must be a share from 0.5 to below 1. Got 95 instead."),
        (("study", "--rope", "0"), "The --rope must be in (0, 100)"),
        (("study", "--rope", "x"), "Argument --rope: invalid float value: 'x'."),
    ],
)
def test_one_message_for_what_is_wrong(compare, arguments, message):
    said = compare(*arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"lossbench: {message}")
    assert said.err.count("\n") == 1


@pytest.mark.slow
def test_records_are_compared_without_torch(process, trained):
    code = "import sys; from lossbench.cli import main; code = main(['compare', sys.argv[1], '--quiet']); "
    done = process("-c", code + "sys.exit(code or 'torch' in sys.modules)", str(trained / "study"))
    assert (done.returncode, done.stderr) == (0, "")


def test_tensorboard_gets_the_verdict_as_asked_and_pictures(compare, trained):
    board = trained / "study" / "tensorboard" / "regression" / "diabetes-mlp"
    assert not list(board.rglob("*.pictures"))  # the training took no time to speak of
    said = compare("study", "--tensorboard", "--baseline", "mae", "--format", "csv")
    assert said.code == 0
    assert said.err == "Curves:  tensorboard --logdir study/tensorboard/regression/diabetes-mlp\n"
    assert said.out.startswith("task,")
    assert sorted(path.name for path in board.iterdir()) == ["(overview)", "mae", "mse", "study.json"]
    assert list((board / "(overview)").glob("*.pictures"))
    (written,) = (board / "(overview)").glob("*.lossbench")
    assert b"| vs mae |" in written.read_bytes()
