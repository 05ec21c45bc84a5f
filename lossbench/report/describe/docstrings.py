"""What a docstring says, taken apart: the sentence, the formula, shapes, what is raised, the reference."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from inspect import getdoc

from lossbench.report.describe.formulas import in_unicode

SHAPES = re.compile(r"(?:(?<=^)|(?<=[.:;] ))(?=(?:prediction|target|losses)\b[^.]*?:)")
RAISES = re.compile(r"\bRaises (.*?)(?:\.(?=\s|$)|$)")


@dataclass(frozen=True)
class Docstring:
    """The parts of a docstring, in its own markup; each may be empty."""

    summary: str
    formula: str  # LaTeX
    notes: tuple[str, ...]  # paragraphs
    shapes: str  # what goes in and comes out, and in which units
    raises: str
    reference: str
    examples: str  # lines as they are typed


def parse_docstring(kind: type) -> Docstring:
    """Take apart the docstring of `kind`."""
    text = getdoc(kind) or ""
    text, _, examples = text.partition("\n\n>>> ")
    text, _, reference = text.partition("\nReference: ")
    summary, *paragraphs = [" ".join(p.split()) for p in text.split("\n\n")]
    formulas = [p.removeprefix(".. math::").strip() for p in paragraphs if p.startswith(".. math::")]
    notes, shapes, raises = _sorted([p for p in paragraphs if not p.startswith(".. math::")])
    typed = f">>> {examples}" if examples else ""
    return Docstring(summary, " ".join(formulas), notes, shapes, raises, " ".join(reference.split()), typed)


def _sorted(paragraphs: list[str]) -> tuple[tuple[str, ...], str, str]:
    """Notes, shapes, and what is raised: a paragraph may hold all three, in this order."""
    notes, shapes, raises = [], [], []
    for paragraph in paragraphs:
        before, *rest = SHAPES.split(paragraph, maxsplit=1)
        told = rest[0] if rest else ""
        for part in (before, told):
            raises += RAISES.findall(part)
        notes.append(RAISES.sub("", before))
        if told:
            kept, *after = RAISES.split(told)[::2]
            shapes.append(kept)
            notes += after
    clean = [" ".join(n.split()) for n in notes]
    return tuple(n for n in clean if n), " ".join(shapes).strip(), "; ".join(raises)


def plain(text: str) -> str:
    r"""Return text for a terminal: without markup, formulas in Unicode.

    >>> plain(r"``delta`` is :math:`\delta`, as in `huber`")
    'delta is δ, as in huber'
    """
    return _marked(text, in_unicode, str)


def markdown(text: str) -> str:
    r"""Return text for GitHub, whose formulas are written in dollars and backticks.

    >>> print(markdown(r"``delta`` is :math:`\delta`, as in `huber`"))
    `delta` is $`\delta`$, as in `huber`
    """
    return re.sub(r"https?://\S*[^\s,.;)]", _link, _marked(text, "$`{}`$".format, "`{}`".format))


def _link(found: "re.Match[str]") -> str:
    return f"<{found[0].replace('<', '%3C').replace('>', '%3E')}>"


def _marked(text: str, formula: Callable[[str], str], code: Callable[[str], str]) -> str:
    def one(found: "re.Match[str]") -> str:
        latex, doubled, single = found.groups()
        return formula(latex) if latex else code(doubled or single)

    return re.sub(r":math:`([^`]+)`|``([^`]+)``|`([^`]+)`", one, text).replace("\\*", "*")
