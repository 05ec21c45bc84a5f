"""Formulas in a terminal. What is expected was written by hand from the LaTeX."""

import re

import pytest

from lossbench import registry
from lossbench.report.describe.docstrings import parse_docstring, to_plain_text
from lossbench.report.describe.formulas import split_formula, to_unicode

BY_HAND = {
    r"r^2/2": "r²/2",
    r"x_{t+1}^{10}": "x_(t+1)^(10)",
    r"\frac{1}{2}\left(\frac{y - \mu}{\sigma}\right)^2": "1/2 ((y - μ)/σ)²",
    r"\frac{1}{K - 1}": "1/(K - 1)",
    r"\frac{r^2}{2\beta}": "r²/(2β)",
    r"\frac{|\hat y - y|}{|y|}": "|ŷ - y|/|y|",
    r"\log\frac{y}{\mu}": "log(y/μ)",
    r"s\cos\theta_c": "s cos θ_c",
    r"\frac{|\alpha - 2|}{\alpha}\left(x + 1\right)": "|α - 2|/α (x + 1)",
    r"2\sum_i p_i": "2 ∑_i p_i",
    r"\sum_{j: y_j = 0} e^{z_j}": "∑_(j: y_j = 0) e^(z_j)",
    r"\max_{c \ne y} z_c": "max_(c ≠ y) z_c",
    r"e^{-p_y / a}": "e^(-p_y / a)",
    r"\sqrt{1 + x^2} - 1": "√(1 + x²) - 1",
    r"\|x_i - x_j\|^2": "‖x_i - x_j‖²",
    r"a \;\text{if}\; |r| \le \delta": "a if |r| ≤ δ",
    r"\{x_1, \dots, x_t\} \setminus \{y\}": "{ x₁, …, x_t } ∖ { y }",
    r"\begin{cases}d & \text{one}\\ \max(0, m - d) & \text{two}\end{cases}": "{ d for one, max(0, m - d) for two }",
    r"\mathcal{B}(\pi) = y": "ℬ(π) = y",
    r"\log_2(1 + r_i)": "log₂(1 + r_i)",
}


@pytest.mark.parametrize(("latex", "expected"), BY_HAND.items())
def test_a_formula_says_the_same_in_one_line(latex, expected):
    assert to_unicode(latex) == expected


def test_parts_have_lines_of_their_own():
    assert split_formula(r"a = b, \quad b = \frac{1}{c}") == ["a = b,", "b = 1/c"]
    assert split_formula("") == []


@pytest.mark.parametrize("group", registry.ALL)
def test_nothing_of_the_markup_is_left(group):
    for name, entry in registry.ALL[group].entries().items():
        said = parse_docstring(entry.kind)
        text = "\n".join(
            [to_plain_text(t) for t in (said.summary, *said.notes, said.shapes, said.raises)]
            + split_formula(said.formula)
        )
        assert re.findall(r"\\|``|:math:|[\ue000-\uf8ff]", text) == [], name
        assert text.count("{") == text.count("}"), name
