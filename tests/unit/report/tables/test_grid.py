"""Columns laid out for the width there is."""

import io

import pytest
from rich.console import Console

from lossbench.report.tables.grid import Column, Grid

NAMES = ["symmetric_cross_entropy", "huber (delta=2.0)", "mse"]
COLUMNS = [
    Column("loss", NAMES),
    Column("metric", ["1.0\n[0.9,1.1]"] * 3, "value ↓"),
    Column("verdict", ["inconclusive"] * 3),
]


def printed(columns, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(Grid(columns))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def first_column(columns, width):
    rows = printed(columns, width)[2:]
    return [line.split("  ")[0].strip() for line in rows if not line.startswith(" " * 8)]


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (100, ["symmetric_cross_entropy", "huber (delta=2.0)", "mse"]),
        (41, ["symmetric_", "cross_entropy", "huber", "(delta=2.0)", "mse"]),
        (38, ["symmetric_", "cross_", "entropy", "huber", "(delta=2.0)", "mse"]),
    ],
)
def test_names_are_broken_where_their_words_end(width, lines):
    assert first_column(COLUMNS, width) == lines


def test_a_word_without_an_end_is_broken_anywhere():
    assert first_column([Column("loss", ["x" * 20]), Column("metric", ["1"], "value")], 20) == ["x" * 12, "x" * 8]


@pytest.mark.parametrize("width", [30, 38, 41, 60, 100])
def test_no_line_is_too_long(width):
    assert max(map(len, printed(COLUMNS, width))) <= width
