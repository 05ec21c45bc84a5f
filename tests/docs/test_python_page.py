"""The blocks of docs/python.md run from top to bottom, as the cells of a notebook do."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lossbench

PATH = Path(__file__).parents[2] / "docs" / "python.md"
PAGE = PATH.read_text()
BLOCKS = [(PAGE[: found.start(1)].count("\n"), found[1]) for found in re.finditer(r"```python\n(.*?)```", PAGE, re.S)]


@pytest.fixture(scope="module")
def run_up_to(tmp_path_factory) -> Callable[[int], dict[str, Any]]:
    """Run the blocks up to the i-th that have not been run; the names that it leaves. A failed one holds up no other.

    Lines are numbered as in the page, where tracebacks and `inspect` find them.
    """
    folder = tmp_path_factory.mktemp("page")
    names: dict[str, Any] = {"__name__": "__main__"}
    left: list[dict[str, Any] | Exception] = []

    def run(last: int) -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            for line, text in BLOCKS[len(left) : last + 1]:
                try:
                    exec(compile("\n" * line + text, str(PATH), "exec"), names)
                except Exception as error:  # raised by the test of that block
                    left.append(error)
                else:
                    left.append(names.copy())
        found = left[last]
        if isinstance(found, Exception):
            raise found
        return found

    return run


@pytest.mark.parametrize("i", range(len(BLOCKS)), ids=[f"line{line}" for line, _ in BLOCKS])
def test_every_block_runs(i, run_up_to, forgotten):
    run_up_to(i)


def test_objects_are_named_by_class_and_identity(run_up_to, forgotten):
    names = run_up_to(next(i for i, (_, text) in enumerate(BLOCKS) if "class Rounded" in text))
    losses = " ".join(names["results"].table()["loss"])
    assert re.search(r"\bRounded@[0-9a-f]{4,}", losses)
    assert re.search(r"\bHuberLoss@[0-9a-f]{4,}", losses)
    assert "torch.nn.functional.smooth_l1_loss" in losses


def test_the_page_names_all_that_results_and_comparisons_offer():
    """So that what is added is also written down."""
    told = set(re.findall(r"\w+", PAGE))
    internal = {"select", "study", "summaries", "value", "is_trained"}
    offered = [*vars(lossbench.Results), *vars(lossbench.Comparison), *vars(lossbench.Recommendation)["__match_args__"]]
    assert {name for name in offered if not name.startswith("_")} - internal - told == set()
