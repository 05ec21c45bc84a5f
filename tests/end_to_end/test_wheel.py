"""The wheel holds all that is needed: packages, configurations, py.typed."""

import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.end_to_end.conftest import ONCE

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that no build folder is left in the checkout."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "lossbench", "configs", "plugins"):
        subprocess.run(["cp", "-r", ROOT / name, source], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--wheel-dir", out, source], check=True, capture_output=True)
    (found,) = out.glob("*.whl")
    return found


@pytest.mark.slow
def test_it_holds_every_module_and_configuration(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "lossbench").rglob("*.py")}
    configs = {f"lossbench/{p.relative_to(ROOT)}" for p in (ROOT / "configs").rglob("*.yaml")}
    others = {"lossbench/py.typed", "lossbench/configs/__init__.py", "lossbench/advice/rules.yaml"}
    assert modules | configs | others <= held
    # a package of several distributions: an __init__.py would hide the others' plugins
    assert [name for name in held if name.startswith("hydra_plugins")] == ["hydra_plugins/lossbench_launcher.py"]


@pytest.mark.slow
def test_it_runs_from_another_folder(wheel, process, tmp_path):
    """The dependencies are this environment's, made visible by a .pth file that comes after the wheel's own folder."""
    place = tmp_path / "venv"
    venv.create(place, with_pip=False, symlinks=True)
    python = str(place / "bin" / "python")
    (packages,) = (place / "lib").glob("python3*/site-packages")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--no-deps", wheel], check=True, capture_output=True)
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    found = process("-c", "import lossbench; print(lossbench.__file__)", python=python)
    assert found.stdout.strip() == str(packages / "lossbench" / "__init__.py")
    for choices in (["task=regression", "loss=huber"], ["task=multiclass", "loss=label_smoothing"]):
        done = process("-m", "lossbench", *choices, *ONCE, python=python)
        assert done.returncode == 0, done.stderr
    assert "cross_entropy(label_smoothing=0.1)" in done.stdout
    swept = process("-m", "lossbench", "-m", "loss=mse,huber", *ONCE, python=python)
    assert swept.returncode == 0, swept.stderr
    assert "1 seed, 2 trials" in swept.stdout
