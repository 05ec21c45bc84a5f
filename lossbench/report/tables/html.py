"""Comparisons as a fragment of HTML for notebooks and pages: no script, and the colours of what is around it."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from rich.console import Group

from lossbench.analysis.comparison import Comparison
from lossbench.report.tables.comparison import describe_subject, group_verdicts, list_verdicts, title
from lossbench.report.tables.comparison_footnotes import explain_comparison
from lossbench.report.tables.rankings import render_rankings
from lossbench.report.tables.scope import describe_scope
from lossbench.report.tables.text import render_text

NAME = "loss"
LEFT = (NAME, "verdict", "fields")
# colours are inherited and lines half transparent: readable on light and on dark
CELL = "padding: 0.2em 0.7em; border: none; white-space: nowrap; vertical-align: top; background: transparent"
RULE = "border-bottom: 1px solid rgba(128, 128, 128, 0.6)"
THIN = "border-top: 1px solid rgba(128, 128, 128, 0.35)"


def preformat(text: str) -> str:
    """Return text as an element that keeps its columns, escaped."""
    return f'<pre style="background: transparent; color: inherit">{escape(text)}</pre>'


def render_html(comparisons: Sequence[Comparison], sort: str = "metric") -> str:
    """Return one fragment: of each comparison the verdicts in words, the table, and what its terms mean.

    Every text is escaped.
    """
    parts = [part for comparison in comparisons for part in _parts(comparison, sort)]
    if across := render_text(Group(*render_rankings(comparisons))):
        parts.append(preformat(across))
    return "\n".join(['<div class="lossbench" style="color: inherit; max-width: 75em">', *parts, "</div>"])


def _parts(comparison: Comparison, sort: str) -> Iterator[str]:
    yield f"<h4>{escape(title(comparison))}</h4>"
    yield f"<p>{escape(describe_subject(comparison))}</p>"
    verdicts = [f"<li><b>Rate {escape(r)}:</b> {escape(text)}</li>" for r, text in group_verdicts(comparison)]
    yield f"<ul>{''.join(verdicts)}</ul>"
    yield from (f"<p>{escape(line)}</p>" for line in describe_scope(comparison))
    columns, ends = list_verdicts(comparison, sort)
    yield _table(columns, ends)
    shown, total = len(columns[NAME]), sum(len(level.rows) for level in comparison.levels)
    if shown < total:
        yield f"<p>{shown} of {total} rows: the first of each rate.</p>"
    notes = "".join(f"<li>{escape(line)}</li>" for line in explain_comparison(comparison))
    yield f"<details><summary>What the terms mean</summary><ul>{notes}</ul></details>"


def _table(columns: Mapping[str, Sequence[str]], ends: set[int]) -> str:
    """The table; ends: rows below which there is a line."""
    heads = [_cell("th", name, name, 'scope="col"', RULE) for name in columns]
    lines = [f"<thead><tr>{''.join(heads)}</tr></thead>", "<tbody>"]
    for number, row in enumerate(zip(*columns.values(), strict=True)):
        rule = THIN if number - 1 in ends else ""
        cells = [
            _cell("th", name, text, 'scope="row"', "font-weight: normal", rule) if name == NAME
            else _cell("td", name, text, "", rule)
            for name, text in zip(columns, row, strict=True)
        ]  # fmt: skip
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join(['<table style="border-collapse: collapse; color: inherit">', *lines, "</tbody>", "</table>"])


def _cell(kind: str, name: str, text: str, attribute: str, *styles: str) -> str:
    align = f"text-align: {'left' if name.split(chr(10), maxsplit=1)[0] in LEFT else 'right'}"
    style = "; ".join(filter(None, (CELL, align, *styles)))
    opening = " ".join(filter(None, (kind, attribute, f'style="{style}"')))
    return f"<{opening}>{escape(text.replace(chr(10), ' '))}</{kind}>"
