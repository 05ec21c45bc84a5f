"""The pictures of the documentation can be drawn again, and there is one of everything that is built in."""

import runpy
from pathlib import Path

import pytest
from PIL import Image
from registered import built_in

from lossbench import registry

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder, script = tmp_path_factory.mktemp("pictures"), str(ROOT / "scripts" / "pictures.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [script, str(folder)])
        assert runpy.run_path(script)["main"]() == 0
    return {path.name: path for path in folder.iterdir()}


def test_every_task_has_its_pages(drawn):
    assert {name for name in drawn if "corruptions" in name} == {
        f"{t}-corruptions.png" for t in built_in(registry.tasks)
    }
    assert {path.name for path in (ROOT / "docs" / "pictures").glob("*-*.png")} >= set(drawn)


def test_pages_are_small_and_as_large_as_those_in_the_documentation(drawn):
    for name, path in drawn.items():
        assert path.stat().st_size < 150_000
        # a page grows with each corruption: one that was not drawn anew differs in size
        assert size(path) == size(ROOT / "docs" / "pictures" / name)


def size(path):
    with Image.open(path) as image:
        return image.size
