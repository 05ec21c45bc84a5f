"""The pictures of what losses look like can be drawn again, each family has one, and the page shows them all."""

import re
import runpy
from pathlib import Path

import pytest
from PIL import Image
from registered import built_in

from lossbench import registry

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "shapes.py"
PAGE = (ROOT / "docs" / "shapes.md").read_text()
PICTURES = runpy.run_path(str(SCRIPT))["PICTURES"]
COMPOSED = {"composition"}
"""Families whose losses are made of others."""


def test_every_family_has_a_picture():
    families = {registry.losses.find(name).family for name in built_in(registry.losses)} - COMPOSED
    named = {family for family in families for name in PICTURES if name.startswith(family.replace(" ", "-"))}
    assert named == families


def test_no_picture_has_too_many_curves_to_tell_apart():
    for losses, _ in PICTURES.values():
        assert 1 <= len(losses.split()) <= 10


def test_the_page_shows_every_picture():
    shown = re.findall(r"\]\(pictures/losses/([\w-]+)\.png\)", PAGE)
    assert shown == list(dict.fromkeys(shown))
    assert set(shown) == set(PICTURES)
    assert {path.stem for path in (ROOT / "docs" / "pictures" / "losses").iterdir()} == set(PICTURES)


@pytest.mark.slow
def test_the_script_draws_them_small(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", [str(SCRIPT), str(tmp_path)])
    assert runpy.run_path(str(SCRIPT))["main"]() == 0
    assert {path.stem for path in tmp_path.iterdir()} == set(PICTURES)
    for path in tmp_path.iterdir():
        assert path.stat().st_size < 150_000
        with Image.open(path) as new, Image.open(ROOT / "docs" / "pictures" / "losses" / path.name) as old:
            assert new.size == old.size
