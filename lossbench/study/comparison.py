"""A comparison of losses: sentences, tables in several formats, and data frames."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from lossbench.analysis.comparison import Comparison as ComparisonPart
from lossbench.errors import make_unknown
from lossbench.report.tables import comparison as comparison_tables
from lossbench.report.tables import markup, rows
from lossbench.report.tables.comparison import group_verdicts
from lossbench.report.tables.html import render_html
from lossbench.report.tables.text import render_text


@dataclass(frozen=True)
class Comparison:
    """A comparison of losses, in several parts where data, model, settings or corruption differ.

    `str` and notebooks show tables.
    """

    parts: tuple[ComparisonPart, ...]

    @property
    def verdicts(self) -> list[str]:
        """A sentence per part and corruption rate; rates with the same verdict share one."""
        return [f"Corruption rate {rates}: {text}" for part in self.parts for rates, text in group_verdicts(part)]

    def to_frame(self, sort: str = "metric") -> pd.DataFrame:
        """Return a row per part, corruption rate and loss, with all that tables show and more."""
        return pd.DataFrame(rows.flatten(self.parts, _check_order(sort)))

    def to_dict(self, sort: str = "metric") -> list[dict[str, Any]]:
        """Return the content of `lossbench compare --json`, nested."""
        return rows.convert_comparisons(self.parts, _check_order(sort))

    def to_latex(self, sort: str = "metric") -> str:
        """Return a LaTeX `tabular` with the rules of booktabs."""
        return markup.format_latex(rows.select_main_columns(self.parts, _check_order(sort)))

    def to_markdown(self, sort: str = "metric") -> str:
        """Return a Markdown table, as GitHub renders it."""
        return markup.format_markdown(rows.select_main_columns(self.parts, _check_order(sort)))

    def __str__(self) -> str:
        return render_text(comparison_tables.render_comparisons(self.parts))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return render_html(self.parts)


def _check_order(sort: str) -> str:
    if sort not in comparison_tables.SORTS:
        raise make_unknown("order", sort, comparison_tables.SORTS, "There are")
    return sort
