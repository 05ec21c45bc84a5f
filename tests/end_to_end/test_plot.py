"""`lossbench plot`: what is typed becomes a picture, or one clear message and no file."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lossbench.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "shapes.md").read_text()
COMMANDS = re.findall(r"^\$ lossbench (plot .*)$", PAGE, re.M)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def labels(capsys, *arguments):
    assert main(["plot", *arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    return [curve["loss"] for curve in found["curves"]]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_page_draws_one_file(command, elsewhere, capsys):
    assert main(shlex.split(command)) == 0
    (written,) = elsewhere.iterdir()
    assert capsys.readouterr().out == f"Picture: {written.name}\n"
    if written.suffix == ".png":
        with Image.open(written) as picture:
            assert picture.size == (2040, 860)


def test_losses_are_written_as_in_lists(capsys):
    assert labels(capsys, "huber,mse", "{huber:{delta:2}}") == ["huber", "mse", "huber(delta=2.0)"]
    assert labels(capsys, "label_smoothing") == ["cross_entropy(label_smoothing=0.1)"]
    assert labels(capsys, "{external:{target:torch.nn.L1Loss}}")[0].startswith("external(")


def test_a_loss_of_ones_own_is_drawn_from_its_file(elsewhere, capsys):
    (elsewhere / "mine.py").write_text(
        "import lossbench\n@lossbench.loss('regression')\ndef quartic(prediction, target):\n"
        "    return (prediction - target).pow(4).mean(-1)\n"
    )
    assert labels(capsys, "mine.py:quartic", "mse") == ["quartic", "mse"]


def test_quiet_prints_nothing(elsewhere, capsys):
    assert main(["plot", "huber", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert [path.name for path in elsewhere.iterdir()] == ["huber.png"]


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("", "Write lossbench plot NAME"),
        ("hubert", "Unknown loss 'hubert'. Did you mean 'huber'"),
        ("'huber(delta=2.0)'", "'{huber:{delta:2.0}}'. Got 'huber(delta=2.0)' instead"),
        ("huber huber", "huber is given twice"),
        ("huber hinge", "share no axis: huber goes with error; hinge goes with margin or probability"),
        ("huber --against margin", "huber goes with error"),
        ("huber --against eror", "Unknown axis 'eror'. Did you mean 'error'"),
        ("huber --rang 3,4", "Unknown option '--rang'. Did you mean '--range'"),
        ("huber --range 3", "must be two numbers, as -3,3. Got '3'"),
        ("huber --range 3,-3", "greater one, as -3,3. Got 3,-3"),
        ("huber --output x.pdf", "must end in .png or .svg. Got 'x.pdf'"),
        ("huber --output no/x.png", "Cannot write no/x.png: No such file or directory"),
    ],
)
def test_bad_input_gets_one_message_and_no_file(typed, told, elsewhere, capsys):
    assert main(["plot", *shlex.split(typed)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert told in captured.err
    assert len(captured.err.splitlines()) == 1
    assert list(elsewhere.iterdir()) == []


def test_matplotlib_waits_until_something_is_drawn():
    code = "import sys, lossbench.report.figures.shapes, lossbench.cli.commands; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
