"""What the records say of the losses, to be read, shown and used."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lossbench.analysis.comparison import Comparison as Compared
from lossbench.report import compared, flat
from lossbench.report.verdicts import sentences


@dataclass(frozen=True)
class Comparison:
    """One comparison, or several where data, model, settings or corruption differ; `str` and notebooks show tables."""

    parts: tuple[Compared, ...]

    @property
    def verdicts(self) -> list[str]:
        """A sentence per corruption rate, of each part in turn."""
        return [text for part in self.parts for text in sentences(part)]

    def to_frame(self, sort: str = "metric") -> pd.DataFrame:
        """Return a row per part, rate and loss, with all that tables show and more."""
        return pd.DataFrame(flat.flat(self.parts, sort))

    def to_dict(self, sort: str = "metric") -> list[dict[str, Any]]:
        """Return the same as `lossbench compare --json`, nested."""
        return flat.nested(self.parts, sort)

    def to_latex(self, sort: str = "metric") -> str:
        """Return a `tabular` with the rules of booktabs."""
        return flat.latex(flat.brief(self.parts, sort))

    def to_markdown(self, sort: str = "metric") -> str:
        """Return a table that GitHub renders."""
        return flat.markdown(flat.brief(self.parts, sort))

    def __str__(self) -> str:
        return render_text(compared.tables(self.parts))

    def __repr__(self) -> str:
        return str(self)


def render_text(renderable: Any, width: int = 100) -> str:
    """Return what a terminal of some width would show, without colours."""
    import io

    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, highlight=False, color_system=None)
    console.print(renderable)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]


