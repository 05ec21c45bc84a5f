"""Tables as text, Markdown, LaTeX and HTML: no cell can be taken for markup."""

import re
from html import unescape
from html.parser import HTMLParser

import pytest
from rich.text import Text

from lossbench.analysis import study
from lossbench.analysis.comparison import ComparisonOptions, compare
from lossbench.records import save
from lossbench.report.tables.comparison import render_comparisons
from lossbench.report.tables.html import render_html
from lossbench.report.tables.markup import format_latex, format_markdown
from lossbench.report.tables.rows import flatten, select_main_columns
from lossbench.report.tables.text import render_text

NASTY = "<b>a|b</b> & 'c' \"d\"\\e"


@pytest.fixture
def compared(tmp_path, made_up):
    """A function that saves made-up trials and compares them."""

    def make(losses=("huber", "mae", "mse"), **changes):
        for place, loss in enumerate(losses):
            some = [
                made_up(**{"loss": loss, "corruption_rate": r, "seed": s} | changes)
                for r in (0.0, 0.4)
                for s in range(4)
            ]
            save(tmp_path / str(changes.get("data")) / str(place), some, {})
        return compare(study.read_study([tmp_path]), ComparisonOptions())

    return make


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("a|b", r"a\|b"),
        ("two\nlines", "two lines"),
        ("back\\slash", r"back\\slash"),
        ("back\\|both", r"back\\\|both"),  # no bar ends the cell, whatever comes before it
        ("*bold* ~~gone~~ `code`", r"\*bold\* \~\~gone\~\~ \`code\`"),
        ("<script>", "&lt;script&gt;"),
        ("student_t_nll", "student_t_nll"),
        (0.123456, "0.1235"),
        (float("nan"), ""),
        (None, ""),
        (True, "True"),
    ],
)
def test_a_cell_in_markdown(cell, expected):
    assert format_markdown([{"name": cell}]).splitlines()[2] == f"| {expected} |"


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("a_b & 50% #1 $", r"a\_b \& 50\% \#1 \$"),
        ("{x}", r"\{x\}"),
        ("a\\b", r"a\textbackslash{}b"),
        ("~^", r"\textasciitilde{}\textasciicircum{}"),
        ("<|>", r"\textless{}\textbar{}\textgreater{}"),
        ("two\nlines", "two lines"),
        ("✓", r"\checkmark{}"),
        ("[1, 2]", "{}[1, 2]"),  # LaTeX would take it for the length of the line break before it
        (0.123456, "0.1235"),
        (None, ""),
    ],
)
def test_a_cell_in_latex(cell, expected):
    lines = format_latex([{"name": cell}]).splitlines()
    assert lines[4] == f"{expected} \\\\"
    assert (lines[0], lines[-1]) == (r"\begin{tabular}{l}", r"\end{tabular}")


def test_headings_are_escaped_too():
    assert r"a\_b & 5\%" in format_latex([{"a_b": 1, "5%": 2}])
    assert format_markdown([{"a|b": 1, "two\nlines": 2}]).splitlines()[0] == r"| a\|b | two lines |"


def test_comparisons_have_as_many_lines_as_rows(compared):
    rows = select_main_columns(compared())
    assert len(rows) == len(flatten(compared())) == 6
    assert len(format_markdown(rows).splitlines()) == 2 + 6
    assert {line.count(" & ") for line in format_latex(rows).splitlines() if line.endswith(r"\\")} == {len(rows[0]) - 1}


def test_text_has_no_colours_and_the_width_asked_for(compared, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    made = compared()
    for width in (80, 120):
        text = render_text(render_comparisons(made), width)
        assert max(map(len, text.splitlines())) <= width
        assert "\x1b" not in text
        assert "Corruption rate 0.4: mae is recommended" in text
    assert render_text(Text("bold", style="bold red")) == "bold"


class Reader(HTMLParser):
    """Checks that elements are nested, and keeps cells and the elements' names."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.rows, self.names = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.names.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def test_html_holds_verdicts_and_the_table(compared):
    made = compared()
    html = render_html(made)
    found = read(html)
    assert found.rows[0][:3] == ["✓", "loss", "corruption rate"]
    assert [row[1] for row in found.rows[1:]] == [row.name for level in made[0].levels for row in level.rows]
    assert [row[found.rows[0].index("verdict")] for row in found.rows[4:]] == ["better", "baseline", "worse"]
    assert "<b>Corruption rate 0.4:</b> mae is recommended; " in html
    assert "<summary>What the terms mean</summary>" in html


def test_html_has_no_script_and_colours_of_its_own_nowhere(compared):
    found, html = read(render_html(compared())), render_html(compared())
    allowed = "div h4 p ul li b table thead tbody tr th td details summary pre"
    assert found.names == set(allowed.split())
    assert not re.search(r"\son\w+=|javascript:|url\(", html)
    assert set(re.findall(r"(?:color|background): ([^;\"]+)", html)) == {"inherit", "transparent"}


def test_whatever_a_loss_is_called_is_escaped(compared):
    html = render_html(compared(("huber", NASTY)))
    assert {NASTY} < {row[1] for row in read(html).rows}
    assert "<b>a" not in html
    assert NASTY in unescape(html)


def test_several_data_sets_have_their_ranks_in_html(compared):
    compared(data="friedman1")
    html = render_html(compared(data="friedman2"))
    assert html.count("<table") == 2
    (ranks,) = re.findall(r"<pre[^>]*>(.*?)</pre>", html, re.DOTALL)
    assert "mean rank by mae" in ranks


def test_a_line_parts_the_rates(compared):
    rows = [line for line in render_html(compared()).splitlines() if line.startswith("<tr>")]
    assert ["border-top" in row for row in rows] == [False, False, False, True, False, False]
