"""Documentation is tested like code."""

import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from commands import run_command

from lossbench.cli import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITH_COMMANDS = [
    *sorted((ROOT / "docs" / "tasks").glob("*.md")),
    *(ROOT / "docs" / n for n in ("combined.md", "label-noise.md", "protocols.md")),
]


def commands(text):
    """What a page says to type."""
    return [line[2:] for block in re.findall(r"```console\n(.*?)```", text, re.S) for line in block.splitlines()]


COMMANDS = list(dict.fromkeys(c for text in (README, *(p.read_text() for p in WITH_COMMANDS)) for c in commands(text)))
SHORT = {"epochs": "epochs=0.1", "seeds": "seeds=2", "rates": "rates=[0,0.2]"}


def python_blocks():
    return re.findall(r"```python\n(.*?)```", README, re.S)


def shortened(words):
    """The settings that make a command end soon."""
    asked = {word.split("=")[0] for word in words}
    few = ["protocol.tuning_seeds=2", "protocol.grid_extensions=0"] if "protocol" in asked else []
    drawn = {"task=multilabel", "task=boxes", "task=ctc", "task=embedding"} & set(words)
    own = [short for name, short in SHORT.items() if name == "epochs" or name not in asked]
    return [*own, *few, *(["data.n=200"] if drawn else [])]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_readme_runs(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "lossbench.report.tensorboard.overview.MOST_PICTURED", 1
    )  # one is drawn; thirty take most of the time
    words = shlex.split(command.replace("glob(*)", "glob(h*)"))
    assert words[0] in ("lossbench", "scripts/lossbench")
    assert main([*words[1:], *shortened(words)]) == 0
    out = capsys.readouterr().out
    if "--json" in words:
        assert json.loads(out)["records"]
    else:
        assert ("Records: results/" in out) != ("--quiet" in words)


def test_the_python_call_of_the_readme_runs(tmp_path, monkeypatch, forgotten, capsys):
    monkeypatch.chdir(tmp_path)
    exec(python_blocks()[0], {"__name__": "__main__"})
    out = capsys.readouterr().out
    assert "3 losses, 3 seeds; baseline mse" in out
    assert "SmoothL1Loss@" in out
    assert (tmp_path / "differences.png").exists()


def test_the_loss_of_the_readme_is_found_once_its_package_is_installed(tmp_path):
    """As pip leaves it: the module and the entry point's metadata on the path, which begins with the folder."""
    (tmp_path / "my_losses.py").write_text(python_blocks()[1])
    toml = re.search(r"```toml\n(.*?)```", README, re.S).group(1)
    group, entry = re.search(r'entry-points\."([\w.]+)"\]\n(.*)\n', toml).groups()
    info = tmp_path / "my_losses-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-losses\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{entry.replace(chr(34), '')}\n")
    losses = "losses=[{pseudo_huber:{delta:1}},{pseudo_huber:{delta:2}},mse]"
    done = run_command(tmp_path, "-m", "lossbench", "task=regression", losses, "epochs=1", "seeds=1", "rates=[0]")
    assert done.returncode == 0, done.stderr
    assert "pseudo_huber (delta=2.0)" in done.stdout


def test_the_script_of_the_readme_runs(capsys):
    exec(python_blocks()[2], {"prediction": torch.randn(4, 1), "target": torch.randn(4, 1)})
    assert "huber" in capsys.readouterr().out


@pytest.fixture
def reference():
    """`scripts/reference.py`, in this process."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_what_the_code_says(reference):
    assert reference.stale(reference.pages()) == [], "run scripts/reference.py"


def test_what_is_written_of_losses_is_markdown_that_github_renders(reference):
    """https://docs.github.com/en/get-started/writing-on-github: formulas in ```math and $`...`$."""
    text = "".join(text for name, text in reference.pages().items() if name.startswith("losses/"))
    assert text.count("```math\n") > 100
    assert re.findall(r":\w+:`|(?<!`)``(?!`)|\.\. \w+::|[\ue000-\uf8ff]", text) == []
    assert re.findall(r"(?<![<(\[])https?://", text) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "decisions").glob("*.md")), ids=lambda p: p.name)
def test_a_decision_is_short(page):
    assert len(page.read_text().splitlines()) <= 40


def test_files_are_small():
    """But for the losses, where a file holds a family: one is found by its family, and read by itself."""
    package = ROOT / "lossbench"
    sizes = {path.relative_to(package): len(path.read_text().splitlines()) for path in package.rglob("*.py")}
    assert {str(p): n for p, n in sizes.items() if n > (1000 if p.parts[0] == "losses" else 600)} == {}
