"""What the documentation says about the code's structure is so: files that it names exist, floors are those checked."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "lossbench"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ARCHITECTURE,
    ROOT / "docs" / "python.md",
    *sorted((ROOT / "docs" / "decisions").glob("*.md")),
]
INDEXED = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}


def named_files(text: str) -> list[str]:
    """Return Python files with a folder, and folders, that stand between backticks."""
    quoted = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    return [word for word in quoted if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/([\w.-]+\.py)?", word)]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_that_a_page_names_exist(page):
    missing = [name for name in named_files(page.read_text()) if not any((r / name).exists() for r in (ROOT, PACKAGE))]
    assert missing == []


def test_the_floors_are_those_that_are_checked():
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    (block,) = re.findall(r"```text\n(.*?)```", ARCHITECTURE.read_text(), re.S)
    told = [re.split(r" {2,}", line)[0] for line in block.splitlines()]
    assert told == contract["layers"]


def test_the_index_lists_every_page():
    """A decision is listed by its folder."""
    page = ROOT / "docs" / "index.md"
    links = {Path(link) for link in re.findall(r"\]\(([^)#]+)\)", page.read_text())}
    assert {path for path in INDEXED - links - {Path("index.md")} if path.parts[0] != "decisions"} == set()
    assert Path("decisions") in links
