"""Rows as text for documents: Markdown and LaTeX."""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def format_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table that GitHub renders."""
    lines = [[*rows[0]], ["---"] * len(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def format_latex(rows: Sequence[Mapping[str, Any]]) -> str:
    """A `tabular` with the rules of booktabs."""
    escape = str.maketrans({c: f"\\{c}" for c in "_%&#$"} | {"✓": r"\checkmark"})
    cells = [[*rows[0]], *(list(row.values()) for row in rows)]
    lines = [" & ".join(_cell(value).translate(escape) for value in row) + r" \\" for row in cells]
    body = "\n".join([lines[0], r"\midrule", *lines[1:]])
    return f"\\begin{{tabular}}{{{'l' * len(rows[0])}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else ""
    return "" if value is None else str(value)
