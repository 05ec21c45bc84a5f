"""The page on writing a loss is followed: its files are written, its commands run, and they say what it says."""

import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from commands import run_command

from lossbench.check import CHECKS
from lossbench.cli import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "write-your-own-loss.md").read_text()
QUICK = ["epochs=1"]


class Block(NamedTuple):
    language: str
    text: str


BLOCKS = [Block(*found) for found in re.findall(r"```(\w+)\n(.*?)```", PAGE, re.S)]


class Step(NamedTuple):
    """What is typed, and what it says after that; nothing where the page does not tell."""

    commands: tuple[str, ...]
    said: tuple[str, ...]


def steps() -> Iterator[Step]:
    for block, after in zip(BLOCKS, [*BLOCKS[1:], Block("", "")], strict=True):
        if block.language == "console":
            said = after.text.splitlines() if after.language == "text" else ()
            yield Step(tuple(line.removeprefix("$ ") for line in block.text.splitlines()), tuple(said))


STEPS = list(steps())
ALONE = [step for step in STEPS if not any("power" in c and "power.py" not in c for c in step.commands)]
INSTALLED = [step for step in STEPS if step not in ALONE]


@pytest.fixture
def files(tmp_path, monkeypatch, forgotten):
    """The files of the page, in an empty folder."""
    for block in BLOCKS:
        name = re.match(r"# (\S+\.\w+)\n", block.text)
        if name:
            (tmp_path / name[1]).write_text(block.text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(text: str) -> str:
    return " ".join(text.split())


def follow(step, capsys):
    for command in step.commands:
        program, *arguments = shlex.split(command)
        assert program == "lossbench"
        trains = arguments[0] not in ("check", "describe")
        code = main([*arguments, *(QUICK if trains else [])])
        out = words(capsys.readouterr().out)
        assert code == (1 if "wrong.py" in command else 0), out
        for line in step.said:
            assert words(line) in out


@pytest.mark.slow
@pytest.mark.parametrize("step", ALONE, ids=lambda step: step.commands[0].removeprefix("lossbench "))
def test_every_command_says_what_the_page_says(step, files, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    follow(step, capsys)


@pytest.mark.slow
def test_what_the_wrong_ones_want(files, capsys, monkeypatch):
    """With the mends that the page names all three pass, but for the guard against broadcasting."""
    text = (files / "wrong.py").read_text()
    for wrong, right in (
        ("square().mean()", "square().mean(-1)"),
        ("(prediction - target).square().sum(-1).sqrt()", "torch.linalg.vector_norm(prediction - target, dim=-1)"),
        ("target -= prediction", "target = target - prediction"),
        ("from lossbench import", "import torch\nfrom lossbench import"),
    ):
        assert wrong in text
        text = text.replace(wrong, right)
    (files / "right.py").write_text(text)
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["check", "right.py"]) == 1
    failed = re.findall(r"(\w+): ", capsys.readouterr().out)
    assert set(failed) & {check.name for check in CHECKS} == {"broadcasting_is_refused"}


def test_the_table_names_every_check():
    table = PAGE.split("### The checks")[1].split("### Three losses that fail")[0]
    named = set(re.findall(r"`(\w+)`", table))
    told = {"extremes_are_finite_in_bfloat16"}  # "in bfloat16 too"
    told |= {"bounded_as_claimed", "robust_as_claimed", "symmetric_as_claimed"}  # "and the like"
    assert {check.name for check in CHECKS} <= named | told


def run(folder: Path, *arguments: str) -> str:
    """In a process of its own, which finds what is in the folder as if it were installed."""
    done = run_command(folder, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return words(done.stdout)


@pytest.mark.slow
def test_the_script(files):
    said = next(b for b in reversed(BLOCKS) if b.language == "text").text
    assert words(said) in run(files, "script.py")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Builds a wheel of a copy of a folder."""

    def build(folder: Path, *names: str) -> Path:
        source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
        for name in names:
            (source / name).write_bytes((folder / name).read_bytes())
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*command, "--no-build-isolation", "--wheel-dir", out, source], check=True, capture_output=True)
        (found,) = out.glob("*.whl")
        return found

    return build


@pytest.mark.slow
def test_the_package(files, wheel, tmp_path_factory):
    """Its wheel, unpacked on the path as pip leaves it, makes `power` a choice, and its own tests pass."""
    place = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel(files, "pyproject.toml", "power.py")) as packed:
        packed.extractall(place)
    (place / "test_power.py").write_bytes((files / "test_power.py").read_bytes())
    (step,) = INSTALLED
    for command in step.commands:
        program, *arguments = shlex.split(command)
        out = run(place, "-m", program, *arguments, *([] if arguments[0] == "check" else QUICK))
    assert "power (exponent=1.2)" in out
    out = run(place, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_power.py")
    assert f"{len(CHECKS)} passed" in out
