"""What the records say of the losses, to be read, shown and used."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from lossbench.analysis.comparison import Comparison as Compared
from lossbench.errors import make_unknown
from lossbench.report.tables import comparison as comparison_tables
from lossbench.report.tables import markup, rows
from lossbench.report.tables.comparison import group_verdicts
from lossbench.report.tables.html import render_html
from lossbench.report.tables.text import render_text


@dataclass(frozen=True)
class Comparison:
    """One comparison, or several where data, model, settings or corruption differ; `str` and notebooks show tables."""

    parts: tuple[Compared, ...]

    @property
    def verdicts(self) -> list[str]:
        """A sentence per corruption rate, or for several rates of which the same holds, of each part in turn."""
        return [f"Corruption rate {rates}: {text}" for part in self.parts for rates, text in group_verdicts(part)]

    def to_frame(self, sort: str = "metric") -> pd.DataFrame:
        """Return a row per part, rate and loss, with all that tables show and more."""
        return pd.DataFrame(rows.flatten(self.parts, _checked(sort)))

    def to_dict(self, sort: str = "metric") -> list[dict[str, Any]]:
        """Return the same as `lossbench compare --json`, nested."""
        return rows.convert_comparisons(self.parts, _checked(sort))

    def to_latex(self, sort: str = "metric") -> str:
        """Return a `tabular` with the rules of booktabs."""
        return markup.format_latex(rows.shorten(self.parts, _checked(sort)))

    def to_markdown(self, sort: str = "metric") -> str:
        """Return a table that GitHub renders."""
        return markup.format_markdown(rows.shorten(self.parts, _checked(sort)))

    def __str__(self) -> str:
        return render_text(comparison_tables.render_comparisons(self.parts))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return render_html(self.parts)


def _checked(sort: str) -> str:
    if sort not in comparison_tables.SORTS:
        raise make_unknown("order", sort, comparison_tables.SORTS, "There are")
    return sort
