"""Formulas for a terminal: LaTeX converted to lines of Unicode."""

import re
from functools import cache

from pylatexenc.latex2text import (
    EnvironmentTextSpec,
    LatexNodes2Text,
    MacroTextSpec,
    SpecialsTextSpec,
    get_default_latex_context_db,
)
from pylatexenc.latexwalker import LatexMacroNode, LatexWalker
from pylatexenc.latexwalker import get_default_latex_context_db as get_parser_context
from pylatexenc.macrospec import MacroSpec

FUNCTIONS = ("arcsin", "arctan", "cos", "cosh", "exp", "log", "max", "min", "sin")
SIZES = ("left", "right", "big", "Big", "textstyle")
# marks that the writer leaves where spaces depend on what comes before and after, and braces that are to stay
NAME, NAME_END, FRACTION, FRACTION_END, BRACE, BRACE_END = "\ue000\ue001\ue002\ue003\ue004\ue005"
DIGITS = "0123456789"
SCRIPTS = {"^": dict(zip(DIGITS, "⁰¹²³⁴⁵⁶⁷⁸⁹", strict=True)), "_": dict(zip(DIGITS, "₀₁₂₃₄₅₆₇₈₉", strict=True))}
SPACES = (
    (f"{NAME_END}{FRACTION}([^{FRACTION_END}]*){FRACTION_END}", r"(\1)"),  # log(y/m), where log y/m says another thing
    # a space before a name or a fraction that follows a sign; one behind either before a sign
    (f"(?<=[^\\W_]|[)|‖⌋²³{BRACE_END}{NAME_END}{FRACTION_END}])[{NAME}{FRACTION}]", " "),
    (f"{NAME_END}(?=[^\\W₀-₉⁰-⁹²³_]|[√∑⌊[{BRACE}])", " "),
    (f"{FRACTION_END}(?=[\\w√∑|‖⌊([{BRACE}])", " "),
    (f"[{NAME}{NAME_END}{FRACTION}{FRACTION_END}]", ""),
    (f"(?<=[\\w)]){BRACE}", f" {BRACE}"),
    # around sums, relations and products
    (r"(?<=[\w)])(?=[∑∏∫])", " "),
    (r"([∑∏]_\((?:[^()]|\([^()]*\))*\))(?=[^\s^_,)])", r"\1 "),
    (r" *([=≤≥≠←∝∼∪∩∈∖]) *", r" \1 "),
    (r"(?<=\w) ?· ?(?=\w)", " · "),
    (r": =", ":="),
    (BRACE, "{ "),
    (BRACE_END, " }"),
    (r"\s+", " "),
)
"""Replacements, in this order."""


def split_formula(latex: str) -> list[str]:
    r"""Return a displayed formula, a line for each part that `\quad` separates.

    >>> split_formula(r"\ell = \frac{1 - p_y^q}{q}, \quad p = \text{softmax}(z)")
    ['ℓ = (1 - p_y^q)/q,', 'p = softmax(z)']
    """
    return [to_unicode(part) for part in latex.split(r"\quad") if part.strip()]


def to_unicode(latex: str) -> str:
    r"""Return a formula in one line.

    >>> to_unicode(r"\sum_{i < j} e^{-r^2 / 2}")
    '∑_(i < j) e^(-r² / 2)'
    """
    parser_context, writer = _build_converter()
    nodes = LatexWalker(latex, latex_context=parser_context).get_latex_nodes()[0]
    return _fix_spaces(_replace_braces(writer.nodelist_to_text(nodes)))


@cache
def _build_converter() -> tuple[object, LatexNodes2Text]:
    """Return pylatexenc's context to parse formulas with, and its writer, both with the macros of our docstrings."""
    parser_context = get_parser_context()
    parser_context.add_context_category("ours", macros=[MacroSpec("tfrac", "{{")], prepend=True)

    names = {name: f"{NAME}{name}{NAME_END}" for name in FUNCTIONS}
    texts = {name: f"{NAME}%s{NAME_END}" for name in ("text", "mathrm")}
    signs = {"{": BRACE, "}": BRACE_END, "\\": ", ", "|": "‖", "mid": "|", "ne": "≠", **dict.fromkeys(SIZES, "")}
    macros = [MacroTextSpec(name, text) for name, text in (names | texts | signs).items()]
    fractions = [MacroTextSpec(name, _convert_fraction) for name in ("frac", "tfrac")]
    context = get_default_latex_context_db()
    context.add_context_category(
        "ours",
        macros=[*macros, *fractions, MacroTextSpec("sqrt", _convert_root)],
        environments=[EnvironmentTextSpec("cases", f"{BRACE}%s{BRACE_END}")],
        specials=[SpecialsTextSpec("&", " for ")],
        prepend=True,
    )
    writer = LatexNodes2Text(
        context, keep_braced_groups=True, keep_braced_groups_minlen=0, strict_latex_spaces="based-on-source"
    )
    return parser_context, writer


# pylatexenc passes the writer by the name `l2tobj`
def _convert_fraction(node: LatexMacroNode, l2tobj: LatexNodes2Text) -> str:
    above, below = (_convert_argument(node, l2tobj, place) for place in (0, 1))
    outside = above  # the numerator's text that stands in no brackets or bars
    while (shorter := re.sub(r"\([^()]*\)|\|[^|]*\||‖[^‖]*‖", "", outside)) != outside:
        outside = shorter
    numerator = f"({above})" if re.search(r"[\s+/·-]", outside) else above
    return f"{FRACTION}{numerator}/{_bracket(below)}{FRACTION_END}"


def _convert_root(node: LatexMacroNode, l2tobj: LatexNodes2Text) -> str:
    return f"{NAME}√{_bracket(_convert_argument(node, l2tobj, 0))}{NAME_END}"


def _convert_argument(node: LatexMacroNode, writer: LatexNodes2Text, place: int) -> str:
    argument = [a for a in node.nodeargd.argnlist if a is not None][place]
    text = writer.nodelist_to_text([argument])
    return _fix_spaces(_replace_braces(text[1:-1] if text.startswith("{") else text))


def _bracket(text: str) -> str:
    """Add brackets unless it is one number, one sign with what is written above and below it, or one absolute value."""
    is_single = re.fullmatch(r"\d+|[A-Z]+|[^\W\d](_\w)?[²³]?|\|[^|]*\|", text)
    return text if is_single else f"({text})"


def _replace_braces(text: str) -> str:
    """Replace the braces of LaTeX: none around one sign, brackets around more; digits are raised or lowered."""
    text = re.sub(
        r"([\^_])(?:([0-9])|\{([0-9])\})(?![A-Za-z0-9.])", lambda match: SCRIPTS[match[1]][match[2] or match[3]], text
    )

    def replace_group(match: "re.Match[str]") -> str:
        hat, inner = match[1], match[2].strip(f"{NAME}{NAME_END} ")
        one_sign = r"." if hat else r"[^\W_]+|."  # a subscript may also be a word: p_ij
        is_bare = re.fullmatch(one_sign, inner) or re.fullmatch(r"\([^()]*\)", inner)
        return hat + (inner if is_bare else f"({inner})")

    while (replaced := re.sub(r"(\^?)\{([^{}]*)\}", replace_group, text)) != text:  # from the innermost outwards
        text = replaced
    return text


def _fix_spaces(text: str) -> str:
    for pattern, replacement in SPACES:
        text = re.sub(pattern, replacement, text)
    return text.strip()
