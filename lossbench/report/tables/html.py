"""Comparisons as a fragment of HTML for notebooks and pages: no script, and the colours of the page around it."""

from collections.abc import Iterator, Sequence
from html import escape

from rich.console import Group

from lossbench.analysis.comparison import Comparison
from lossbench.report.tables.comparison import build_verdicts, compose_heading, describe_subject, group_verdicts
from lossbench.report.tables.comparison_footnotes import explain_comparison
from lossbench.report.tables.grid import Column, Grid
from lossbench.report.tables.rankings import render_rankings
from lossbench.report.tables.scope import describe_scope
from lossbench.report.tables.terms import TERMS
from lossbench.report.tables.text import render_text

LEFT = ("loss", "verdict", "tuned fields")
"""Terms whose columns are aligned left."""
# colours are inherited and lines half transparent: readable on light and on dark
CELL = "padding: 0.2em 0.7em; border: none; white-space: nowrap; vertical-align: top; background: transparent"
RULE = "border-bottom: 1px solid rgba(128, 128, 128, 0.6)"
THIN = "border-top: 1px solid rgba(128, 128, 128, 0.35)"


def wrap_in_pre(text: str) -> str:
    """Return text as an element that keeps its columns, escaped."""
    return f'<pre style="background: transparent; color: inherit">{escape(text)}</pre>'


def render_html(comparisons: Sequence[Comparison], sort: str = "metric") -> str:
    """Return one fragment: of each comparison the verdicts in sentences, the table, and what its terms mean.

    Every text is escaped.
    """
    parts = [part for comparison in comparisons for part in _render_comparison(comparison, sort)]
    if across := render_text(Group(*render_rankings(comparisons))):
        parts.append(wrap_in_pre(across))
    return "\n".join(['<div class="lossbench" style="color: inherit; max-width: 75em">', *parts, "</div>"])


def _render_comparison(comparison: Comparison, sort: str) -> Iterator[str]:
    # 1. verdicts in sentences, and their scope
    yield f"<h4>{escape(compose_heading(comparison))}</h4>"
    yield f"<p>{escape(describe_subject(comparison))}</p>"
    verdicts = [f"<li><b>Corruption rate {escape(r)}:</b> {escape(t)}</li>" for r, t in group_verdicts(comparison)]
    yield f"<ul>{''.join(verdicts)}</ul>"
    yield from (f"<p>{escape(line)}</p>" for line in describe_scope(comparison))
    # 2. the table
    grid = build_verdicts(comparison, sort)
    yield _render_grid(grid)
    n_shown, total = len(grid.columns[0].cells), sum(len(level.rows) for level in comparison.levels)
    if n_shown < total:
        yield f"<p>{n_shown} of {total} rows: the first of each corruption rate.</p>"
    # 3. footnotes, and the terms of the columns
    notes = "".join(f"<li>{escape(line)}</li>" for line in explain_comparison(comparison))
    yield f"<ul>{notes}</ul>"
    terms = [TERMS[name] for name in dict.fromkeys(column.term for column in grid.columns)]
    meanings = "".join(f"<li><b>{escape(t.name)}</b>: {escape(t.meaning.replace('`', ''))}</li>" for t in terms)
    yield f"<details><summary>What the terms mean</summary><ul>{meanings}</ul></details>"


def _render_grid(grid: Grid) -> str:
    """Return the table, with a line below the rows at which a corruption rate ends."""
    heads = [_render_cell("th", column, column.heading, 'scope="col"', RULE) for column in grid.columns]
    lines = [f"<thead><tr>{''.join(heads)}</tr></thead>", "<tbody>"]
    for number, row in enumerate(zip(*(column.cells for column in grid.columns), strict=True)):
        rule = THIN if number - 1 in grid.ends else ""
        cells = [
            _render_cell("th", column, text, 'scope="row"', "font-weight: normal", rule) if column.is_name
            else _render_cell("td", column, text, "", rule)
            for column, text in zip(grid.columns, row, strict=True)
        ]  # fmt: skip
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join(['<table style="border-collapse: collapse; color: inherit">', *lines, "</tbody>", "</table>"])


def _render_cell(kind: str, column: Column, text: str, attribute: str, *styles: str) -> str:
    align = f"text-align: {'left' if column.term in LEFT else 'right'}"
    style = "; ".join(filter(None, (CELL, align, *styles)))
    opening = " ".join(filter(None, (kind, attribute, f'style="{style}"')))
    return f"<{opening}>{escape(text.replace(chr(10), ' '))}</{kind}>"
