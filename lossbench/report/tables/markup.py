"""Rows as text for documents: Markdown and LaTeX, in which no cell can be taken for markup."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

# in Markdown also what begins HTML; _ and [ do nothing inside words and numbers
IN_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\`*|~"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"})
IN_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "_%&#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
    | {"✓": r"\checkmark{}", "–": "--", "↑": r"$\uparrow$", "↓": r"$\downarrow$"}
)


def format_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    r"""Return a table that GitHub renders; the rows have the same keys.

    >>> print(format_markdown([{"name": "a|b", "value": 0.25}]))
    | name | value |
    | --- | --- |
    | a\|b | 0.25 |
    """
    lines = [[cell.translate(IN_MARKDOWN) for cell in line] for line in _write_cells(rows)]
    lines.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def format_latex(rows: Sequence[Mapping[str, Any]]) -> str:
    r"""Return a `tabular` with the rules of booktabs; the rows have the same keys.

    >>> print(format_latex([{"a_b": "50%"}]))
    \begin{tabular}{l}
    \toprule
    a\_b \\
    \midrule
    50\% \\
    \bottomrule
    \end{tabular}
    """
    # a row that begins with a bracket would be taken for the length of the line break before it
    lines = [" & ".join(cell.translate(IN_LATEX) for cell in line) + r" \\" for line in _write_cells(rows)]
    lines = [f"{{}}{line}" if line.startswith(("[", "*")) else line for line in lines]
    body = "\n".join([lines[0], r"\midrule", *lines[1:]])
    return f"\\begin{{tabular}}{{{'l' * len(rows[0])}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}"


def _write_cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the headings, and each row's cells, as text of one line."""
    lines = []
    for line in ([*rows[0]], *(list(row.values()) for row in rows)):
        texts = []
        for value in line:
            if isinstance(value, float):
                text = f"{value:.4g}" if math.isfinite(value) else ""
            else:
                text = "" if value is None else str(value)
            texts.append(re.sub(r"\s+", " ", text))
        lines.append(texts)
    return lines
