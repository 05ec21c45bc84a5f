"""Tables as plain text."""

from io import StringIO

from rich.console import Console, RenderableType

WIDTH = 100


def render_text(table: RenderableType, width: int = WIDTH) -> str:
    """Return what a terminal of `width` columns would show, without colours, wherever this runs."""
    console = Console(
        file=StringIO(),
        width=width,
        color_system=None,
        force_terminal=False,
        force_jupyter=False,  # in a notebook rich would display instead of write
        highlight=False,
        legacy_windows=False,
    )
    with console.capture() as written:
        console.print(table)
    return "\n".join(line.rstrip() for line in written.get().splitlines()).strip("\n")
