"""Formulas as a terminal can show them: LaTeX to lines of Unicode."""

import re
from functools import cache, partial

from pylatexenc.latex2text import (
    EnvironmentTextSpec,
    LatexNodes2Text,
    MacroTextSpec,
    SpecialsTextSpec,
    get_default_latex_context_db,
)
from pylatexenc.latexwalker import LatexMacroNode, LatexWalker
from pylatexenc.latexwalker import get_default_latex_context_db as known_macros
from pylatexenc.macrospec import MacroSpec

FUNCTIONS = ("arcsin", "arctan", "cos", "cosh", "exp", "log", "max", "min", "sin")
SIZES = ("left", "right", "big", "Big", "textstyle")
NAME, NAME_END, FRACTION, FRACTION_END, BRACE, BRACE_END = "\ue000\ue001\ue002\ue003\ue004\ue005"
"""Marks that the writer leaves where spaces depend on what comes before and after, and braces that are to stay."""
DIGITS = "0123456789"
RAISED, LOWERED = dict(zip(DIGITS, "⁰¹²³⁴⁵⁶⁷⁸⁹", strict=True)), dict(zip(DIGITS, "₀₁₂₃₄₅₆₇₈₉", strict=True))
SPACES = (
    (f"{NAME_END}{FRACTION}([^{FRACTION_END}]*){FRACTION_END}", r"(\1)"),  # log(y/m), where log y/m says another thing
    (f"(?<=[^\\W_]|[)|‖⌋²³{BRACE_END}{NAME_END}{FRACTION_END}])[{NAME}{FRACTION}]", " "),
    (f"{NAME_END}(?=[^\\W₀-₉⁰-⁹²³_]|[√∑⌊[{BRACE}])", " "),
    (f"{FRACTION_END}(?=[\\w√∑|‖⌊([{BRACE}])", " "),
    (f"[{NAME}{NAME_END}{FRACTION}{FRACTION_END}]", ""),
    (f"(?<=[\\w)]){BRACE}", f" {BRACE}"),
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


def lines(latex: str) -> list[str]:
    r"""Return a displayed formula, a line for each part that `\quad` sets apart.

    >>> lines(r"\ell = \frac{1 - p_y^q}{q}, \quad p = \text{softmax}(z)")
    ['ℓ = (1 - p_y^q)/q,', 'p = softmax(z)']
    """
    return [in_unicode(part) for part in latex.split(r"\quad") if part.strip()]


def in_unicode(latex: str) -> str:
    r"""Return a formula in one line.

    >>> in_unicode(r"\sum_{i < j} e^{-r^2 / 2}")
    '∑_(i < j) e^(-r² / 2)'
    """
    walker = LatexWalker(latex, latex_context=_parsed())
    text = _writer().nodelist_to_text(walker.get_latex_nodes()[0])
    return _spaced(_scripts(text))


@cache
def _parsed() -> object:
    context = known_macros()
    context.add_context_category("ours", macros=[MacroSpec("tfrac", "{{")], prepend=True)
    return context


@cache
def _writer() -> LatexNodes2Text:
    context = get_default_latex_context_db()
    names = {name: f"{NAME}{name}{NAME_END}" for name in FUNCTIONS}
    texts = {name: f"{NAME}%s{NAME_END}" for name in ("text", "mathrm")}
    signs = {"{": BRACE, "}": BRACE_END, "\\": ", ", "|": "‖", "mid": "|", "ne": "≠", **dict.fromkeys(SIZES, "")}
    macros = [MacroTextSpec(name, text) for name, text in (names | texts | signs).items()]
    macros += [MacroTextSpec("frac", _fraction), MacroTextSpec("tfrac", _fraction), MacroTextSpec("sqrt", _root)]
    context.add_context_category(
        "ours",
        macros=macros,
        environments=[EnvironmentTextSpec("cases", f"{BRACE}%s{BRACE_END}")],
        specials=[SpecialsTextSpec("&", " for ")],
        prepend=True,
    )
    return LatexNodes2Text(
        context, keep_braced_groups=True, keep_braced_groups_minlen=0, strict_latex_spaces="based-on-source"
    )


def _argument(node: LatexMacroNode, writer: LatexNodes2Text, place: int) -> str:
    given = [a for a in node.nodeargd.argnlist if a is not None][place]
    text = writer.nodelist_to_text([given])
    return _spaced(_scripts(text[1:-1] if text.startswith("{") else text))


def _fraction(node: LatexMacroNode, l2tobj: LatexNodes2Text) -> str:
    above, below = (_argument(node, l2tobj, i) for i in (0, 1))
    return f"{FRACTION}{_as_factor(above)}/{_as_divisor(below)}{FRACTION_END}"


def _root(node: LatexMacroNode, l2tobj: LatexNodes2Text) -> str:
    return f"{NAME}√{_as_divisor(_argument(node, l2tobj, 0))}{NAME_END}"


def _as_factor(text: str) -> str:
    return f"({text})" if re.search(r"[\s+/·-]", _outside(text)) else text


def _as_divisor(text: str) -> str:
    """In brackets unless it is one number, one sign with what is written above and below it, or one absolute value."""
    one = re.fullmatch(r"\d+|[A-Z]+|[^\W\d](_\w)?[²³]?|\|[^|]*\|", text)
    return text if one else f"({text})"


def _outside(text: str) -> str:
    """Return what stands in no brackets or bars."""
    while (less := re.sub(r"\([^()]*\)|\|[^|]*\||‖[^‖]*‖", "", text)) != text:
        text = less
    return text


def _scripts(text: str) -> str:
    """Braces that LaTeX needs and a reader does not: gone around one sign, brackets around more."""
    for script, digits in ((r"\^", RAISED), ("_", LOWERED)):
        one = rf"{script}(?:([0-9])|{{([0-9])}})(?![A-Za-z0-9.])"
        text = re.sub(one, partial(_digit, digits), text)
    while (fewer := re.sub(r"(\^?)\{([^{}]*)\}", lambda m: m[1] + _grouped(m[2], bool(m[1])), text)) != text:
        text = fewer
    return text


def _digit(digits: dict[str, str], found: "re.Match[str]") -> str:
    return digits[found[1] or found[2]]


def _grouped(text: str, raised: bool) -> str:
    inner = text.strip(f"{NAME}{NAME_END} ")
    bare = re.fullmatch(r"." if raised else r"[^\W_]+|.", inner) or re.fullmatch(r"\([^()]*\)", inner)
    return inner if bare else f"({inner})"


def _spaced(text: str) -> str:
    for found, instead in SPACES:
        text = re.sub(found, instead, text)
    return text.strip()
