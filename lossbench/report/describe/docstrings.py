"""Docstrings, parsed into sentence, formula, shapes, errors and reference."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from inspect import getdoc

from lossbench.report.describe.formulas import to_unicode

SHAPES = re.compile(r"(?:(?<=^)|(?<=[.:;] ))(?=(?:prediction|target|losses)\b[^.]*?:)")
RAISES = re.compile(r"\bRaises (.*?)(?:\.(?=\s|$)|$)")


@dataclass(frozen=True)
class Docstring:
    """The parts of a docstring, in its markup; each may be empty."""

    summary: str
    formula: str  # LaTeX
    notes: tuple[str, ...]  # paragraphs
    shapes: str  # what goes in and comes out, and in which units
    raises: str
    reference: str
    examples: str  # lines as they are typed


def parse_docstring(kind: type) -> Docstring:
    """Parse the docstring of `kind`."""
    # 1. what stands at its end: the reference, then the examples
    text = getdoc(kind) or ""
    text, _, examples = text.partition("\n\n>>> ")
    text, _, reference = text.partition("\nReference: ")
    # 2. paragraphs: the summary, formulas, and prose
    summary, *paragraphs = [" ".join(p.split()) for p in text.split("\n\n")]
    formulas = [p.removeprefix(".. math::").strip() for p in paragraphs if p.startswith(".. math::")]
    # 3. a paragraph of prose may hold notes, shapes and errors, in this order, and notes again
    notes, shapes, raises = list[str](), list[str](), list[str]()
    for paragraph in (p for p in paragraphs if not p.startswith(".. math::")):
        before, *rest = SHAPES.split(paragraph, maxsplit=1)
        described = rest[0] if rest else ""
        raises += RAISES.findall(before) + RAISES.findall(described)
        notes.append(RAISES.sub("", before))
        if described:
            shape, *after = RAISES.split(described)[::2]  # every second part is an error
            shapes.append(shape)
            notes += after
    notes = [" ".join(note.split()) for note in notes]
    return Docstring(
        summary=summary,
        formula=" ".join(formulas),
        notes=tuple(filter(None, notes)),
        shapes=" ".join(shapes).strip(),
        raises="; ".join(raises),
        reference=" ".join(reference.split()),
        examples=f">>> {examples}" if examples else "",
    )


def to_plain_text(text: str) -> str:
    r"""Return text for a terminal: without markup, formulas in Unicode.

    >>> to_plain_text(r"``delta`` is :math:`\delta`, as in `huber`")
    'delta is δ, as in huber'
    """
    return _convert_markup(text, to_unicode, str)


def to_markdown(text: str) -> str:
    r"""Return text for GitHub, whose formulas are written in dollars and backticks.

    >>> print(to_markdown(r"``delta`` is :math:`\delta`, as in `huber`"))
    `delta` is $`\delta`$, as in `huber`
    """
    marked = _convert_markup(text, "$`{}`$".format, "`{}`".format)
    # angle brackets around links, and so none in them
    return re.sub(r"https?://\S*[^\s,.;)]", lambda link: f"<{link[0].replace('<', '%3C').replace('>', '%3E')}>", marked)


def _convert_markup(text: str, convert_formula: Callable[[str], str], convert_code: Callable[[str], str]) -> str:
    def convert(match: "re.Match[str]") -> str:
        latex, doubled, single = match.groups()
        return convert_formula(latex) if latex else convert_code(doubled or single)

    return re.sub(r":math:`([^`]+)`|``([^`]+)``|`([^`]+)`", convert, text).replace("\\*", "*")
