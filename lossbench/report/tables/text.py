"""Tables as text: what a terminal would show, for notebooks, files and `print`."""

import html
import io

from rich.console import Console, RenderableType

WIDTH = 100
"""Columns where there is no terminal to ask."""


def render_text(renderable: RenderableType, width: int = WIDTH) -> str:
    """Return what a terminal of some width would show, without colours."""
    out = io.StringIO()
    Console(file=out, width=width, highlight=False, color_system=None).print(renderable)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).rstrip()


def render_html(text: str) -> str:
    """Return text as an HTML element that keeps its columns, in the colours of the page."""
    return f'<pre style="white-space:pre;line-height:1.3;overflow-x:auto">{html.escape(text)}</pre>'
