"""The wheel holds all that is needed: packages, configurations, py.typed. A plug-in's wheel adds to it."""

import json
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.end_to_end.conftest import ONCE, trials

ROOT = Path(__file__).parents[2]


LOSSBENCH, CONFIGS = ROOT / "lossbench", ROOT / "configs"
EXAMPLE = ROOT / "plugins" / "lossbench-example"


def built(folder: Path, source: Path, out: Path, *names: str) -> Path:
    """A wheel from a copy of what is named in a folder, so that no build folder is left in the checkout."""
    for name in names:
        subprocess.run(["cp", "-r", folder / name, source], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--no-build-isolation", "--wheel-dir", out, source], check=True, capture_output=True)
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """lossbench's own."""
    names = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "lossbench", "configs", "plugins")
    return built(ROOT, tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel"), *names)


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The example plug-in's."""
    names = ("pyproject.toml", "README.md", "lossbench_example")
    return built(EXAMPLE, tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel"), *names)


@pytest.fixture
def installed(tmp_path):
    """`installed(*wheels)`: the Python of a new environment with them, and its packages' folder.

    Dependencies are this environment's, made visible by a .pth file that comes after the wheels' own folder.
    """

    def install(*wheels: Path) -> tuple[str, Path]:
        place = tmp_path / "venv"
        venv.create(place, with_pip=False, symlinks=True)
        python = str(place / "bin" / "python")
        (packages,) = (place / "lib").glob("python3*/site-packages")
        command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*command, "--no-deps", *wheels], check=True, capture_output=True)
        (packages / "dependencies.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")))
        return python, packages

    return install


@pytest.mark.slow
def test_it_holds_every_module_and_configuration(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    held = {name for name in names if ".dist-info/" not in name}
    modules = {str(p.relative_to(ROOT)) for kind in ("*.py", "*.yaml", "py.typed") for p in LOSSBENCH.rglob(kind)}
    configs = {f"lossbench/{p.relative_to(ROOT)}" for kind in ("*.py", "*.yaml") for p in CONFIGS.rglob(kind)}
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
    # a package of several distributions: an __init__.py would hide the others' plugins
    hydras = {"hydra_plugins/lossbench_launcher.py", "hydra_plugins/lossbench_search_path.py"}
    assert held == modules | configs | hydras


CALL = """
import lossbench
r = lossbench.run(task='regression', losses=['mse', 'huber'], seeds=3, rates=[0, 0.2], epochs=5, output='by_python')
print(r.compare())
"""


@pytest.mark.slow
def test_an_empty_environment_trains_and_compares(wheel, installed, process, tmp_path):
    """By the installed command, from another folder, and by the Python call."""
    python, _ = installed(wheel)
    command = str(Path(python).with_name("lossbench"))
    done = process("losses=[mse,huber]", *ONCE, python=command)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"Trained 2 trials in [\d.]+ s; peak memory [\d.]+ GB\.\n", done.stderr)
    assert set(trials(tmp_path / "results")["loss"]) == {"mse", "huber"}
    compared = process("compare", "results", python=command)
    assert compared.returncode == 0, compared.stderr
    assert {"mse", "huber"} <= {line.split()[0] for line in compared.stdout.splitlines() if line}
    called = process("-c", CALL, python=python)
    assert called.returncode == 0, called.stderr
    assert "test mae ↓, lower is better; 2 losses, 3 seeds; baseline mse" in called.stdout


SCRIPT = """
import json, sys
from pathlib import Path
import lossbench, lossbench_example
from lossbench.cli import main

print(json.dumps([str(Path(module.__file__).parents[1]) for module in (lossbench, lossbench_example)]))
for arguments in json.loads(sys.argv[1]):
    print("\f")
    code = main(arguments)
    assert code == 0 or arguments[0] == "plugins", code
"""
"""Several commands in one process. `plugins` ends with 1: it lists this environment's editable plug-ins, too, whose
modules cannot be imported from there."""


@pytest.mark.slow
def test_the_example_is_found_listed_and_trained(wheel, example, installed, process):
    """Both from wheels, so that nothing but what these hold is used."""
    python, packages = installed(wheel, example)
    parts = ["task=counts", "data=poisson_counts", "model=normed_mlp", "loss=trimmed_mae,mse", "weighting=tilted"]
    settings = ["corruption=underreporting", "metric=within_one", "epochs=1", "seeds=1", "rates=[0.4]"]
    commands = [["plugins", "--json"], ["-m", *parts, *settings], ["experiment=example_study", *ONCE]]
    done = process("-c", SCRIPT, json.dumps(commands), python=python)
    assert done.returncode == 0, done.stderr
    folders, plugins, sweep, study = done.stdout.split("\f")
    assert json.loads(folders) == [str(packages)] * 2
    offers = {plugin["name"]: plugin["offers"] for plugin in json.loads(plugins)["plugins"]}
    assert offers["lossbench-example"] == {
        "losses": ["trimmed_mae"],
        "weightings": ["tilted"],
        "corruptions": ["underreporting"],
        "tasks": ["counts"],
        "datasets": ["poisson_counts"],
        "models": ["normed_mlp"],
        "metrics": ["within_one"],
        "presets": ["experiment/example_study", "loss/gentle_trim"],
    }
    assert "1 seed, 2 trials" in sweep
    assert "counts · poisson_counts · normed_mlp · corruption underreporting" in sweep
    assert "trimmed_mae (cut=6.0)" in study
