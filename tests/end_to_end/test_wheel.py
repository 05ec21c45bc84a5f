"""The wheel holds all that is needed: packages, configurations, py.typed. A plug-in's wheel adds to it."""

import json
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.end_to_end.conftest import ONCE

ROOT = Path(__file__).parents[2]


EXAMPLE = ROOT / "plugins" / "lossbench-example"


def built(folder: Path, source: Path, out: Path, *names: str) -> Path:
    """A wheel from a copy of what is named in a folder, so that no build folder is left in the checkout."""
    for name in names:
        subprocess.run(["cp", "-r", folder / name, source], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--wheel-dir", out, source], check=True, capture_output=True)
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """lossbench's own."""
    names = ("pyproject.toml", "README.md", "LICENSE", "lossbench", "configs", "plugins")
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
        (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
        return python, packages

    return install


@pytest.mark.slow
def test_it_holds_every_module_and_configuration(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "lossbench").rglob("*.py")}
    configs = {f"lossbench/{p.relative_to(ROOT)}" for p in (ROOT / "configs").rglob("*.yaml")}
    others = {"lossbench/py.typed", "lossbench/configs/__init__.py", "lossbench/advice/rules.yaml"}
    assert modules | configs | others <= held
    assert [name for name in held if name.endswith(".dist-info/licenses/LICENSE")]
    # a package of several distributions: an __init__.py would hide the others' plugins
    hydras = {name for name in held if name.startswith("hydra_plugins")}
    assert hydras == {"hydra_plugins/lossbench_launcher.py", "hydra_plugins/lossbench_search_path.py"}


@pytest.mark.slow
def test_the_example_is_found_listed_and_trained(wheel, example, installed, process):
    """Both from wheels, so that nothing but what these hold is used."""
    python, packages = installed(wheel, example)
    code = "import lossbench_example, lossbench; print(lossbench_example.__file__, lossbench.__file__)"
    folders = [Path(file).parents[1] for file in process("-c", code, python=python).stdout.split()]
    assert folders == [packages, packages]
    told = json.loads(process("-m", "lossbench", "plugins", "--json", python=python).stdout)
    offers = {plugin["name"]: plugin["offers"] for plugin in told["plugins"]}
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
    parts = ["task=counts", "data=poisson_counts", "model=normed_mlp", "loss=trimmed_mae,mse", "weighting=tilted"]
    settings = ["corruption=underreporting", "metric=within_one", "epochs=1", "seeds=1", "rates=[0.4]"]
    done = process("-m", "lossbench", "-m", *parts, *settings, python=python)
    assert done.returncode == 0, done.stderr
    assert "1 seed, 2 trials" in done.stdout
    assert "counts · poisson_counts · normed_mlp · corruption underreporting" in done.stdout
    study = process("-m", "lossbench", "experiment=example_study", *ONCE, python=python)
    assert study.returncode == 0, study.stderr
    assert "trimmed_mae (cut=6.0)" in study.stdout
