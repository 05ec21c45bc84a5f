"""Writes docs/reference.md, docs/losses/*.md and docs/terms.md from the code. `--check` only compares."""

import re
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from lossbench.config.schema import SETTINGS
from lossbench.registry import ALL, Entry, Registry
from lossbench.report.describe.descriptions import describe_class
from lossbench.report.describe.docstrings import parse_docstring, to_markdown
from lossbench.report.describe.pages import format_facts, format_field
from lossbench.report.tables.terms import TERMS

DOCS = Path(__file__).parents[1] / "docs"
FAMILIES = "losses/families.yaml"
INTRODUCTION = """\
# Reference

Everything that is built in, written by `scripts/reference.py` from the code. `lossbench losses`, `lossbench tasks` and
so on print the same with what is installed beside it, and `lossbench describe NAME` all that is known of a name.
Fields are set as `loss.delta=2`, `model.width=128`.
"""
TERMS_INTRODUCTION = """\
# Terms

The headings and words of tables and verdicts, written by `scripts/reference.py` from the code. In a terminal
`lossbench explain TERM` shows the same, and `lossbench explain` lists all. [How losses are compared](method.md) gives
the reasons.
"""
WRITTEN = "Written by `scripts/reference.py` from the code; `lossbench describe NAME` shows the same in a terminal.\n"


def pages() -> dict[str, str]:
    """The pages by their path under docs."""
    openings = yaml.safe_load((DOCS / FAMILIES).read_text())
    found = {"reference.md": _page(reference(openings)), "terms.md": _page(terms_page())}
    for family, entries in by_family().items():
        found[page_of(family)] = _page(family_page(family, openings[family], entries))
    return found


def by_family() -> dict[str, list[Entry[Any]]]:
    """The built-in losses, by family and by name."""
    losses = sorted(built_in(ALL["losses"]), key=lambda e: e.kind.family)
    return {family: list(members) for family, members in groupby(losses, key=lambda e: e.kind.family)}


def built_in(names: Registry[Any]) -> list[Entry[Any]]:
    return [e for e in names.entries().values() if e.kind.__module__.startswith("lossbench.")]


def page_of(family: str) -> str:
    return f"losses/{family.replace(' ', '-')}.md"


def reference(openings: dict[str, str]) -> Iterator[str]:
    """An index of everything: losses by family with links to their pages, a table for each other kind."""
    yield INTRODUCTION
    yield "## Losses\n"
    for family, entries in by_family().items():
        yield f"**[{family.capitalize()}]({page_of(family)})**. {openings[family]}\n"
        yield f"{', '.join(f'[{e.name}]({page_of(family)}#{e.name})' for e in entries)}\n"
    yield "## Settings of a trial\n"
    yield from settings_table()
    for group, names in ALL.items():
        if group != "losses":
            yield f"## {group.capitalize()}\n"
            yield from table(names)


def settings_table() -> Iterator[str]:
    """The settings, with their defaults and what they may be."""
    yield "| setting | default | what it is |\n| --- | --- | --- |"
    for one in SETTINGS.values():
        default = "the loss's own" if one.path == "head" else "the task's own" if one.default is None else one.default
        options = f": {', '.join(one.options)}" if one.options else "; takes a list" if one.per_replica else ""
        yield f"| `{one.path}` | {default} | {one.text}{options} |"
    yield ""


def table(names: Registry[Any]) -> Iterator[str]:
    """Name and fields, what it is, when to use it, what to pitfall of."""
    yield "| name | what it is | use when | pitfall |\n| --- | --- | --- | --- |"
    for entry in built_in(names):
        own = [f"`{_cell(format_field(f))}`" for f in describe_class(names, entry)["fields"]]
        name = "<br>".join([f"**{entry.name}**", *own])
        texts = (parse_docstring(entry.kind).summary, *(getattr(entry.kind, n, "") for n in ("use_when", "pitfall")))
        yield f"| {name} | {' | '.join(_cell(to_markdown(text)) for text in texts)} |"
    yield ""


def family_page(family: str, opening: str, entries: list[Entry[Any]]) -> Iterator[str]:
    """All losses of a family."""
    yield f"# {family.capitalize()}\n"
    yield f"{opening}\n"
    yield WRITTEN
    yield from (f"![{p.stem}: value and gradient](../pictures/losses/{p.name})\n" for p in pictures(family))
    yield f"{', '.join(f'[{e.name}](#{e.name})' for e in entries)}\n"
    for entry in entries:
        yield from loss_text(entry)


def terms_page() -> Iterator[str]:
    """Yield the glossary of tables and verdicts, in alphabetical order."""
    yield TERMS_INTRODUCTION
    terms = sorted(TERMS.values(), key=lambda term: term.slug)
    yield f"{', '.join(f'[{term.name}](#{term.slug})' for term in terms)}\n"
    for term in terms:
        yield f'<a id="{term.slug}"></a>\n'
        yield f"## {term.name}\n"
        yield f"{term.meaning[:1].upper()}{term.meaning[1:]}.\n"
        yield f"- **Definition**: {term.definition}"
        yield f"- **How to read**: {term.reading}\n"


def pictures(family: str) -> list[Path]:
    """Those of a family, which are drawn by another script."""
    stem = family.replace(" ", "-")
    return sorted(
        p for p in (DOCS / "pictures" / "losses").glob(f"{stem}*.png") if re.fullmatch(f"{stem}(-.*)?", p.stem)
    )


def loss_text(entry: Entry[Any]) -> Iterator[str]:
    """One loss."""
    said, known = parse_docstring(entry.kind), describe_class(ALL["losses"], entry)
    yield f"## {entry.name}\n"
    yield f"{to_markdown(said.summary)}\n"
    yield f"```math\n{said.formula}\n```\n"
    for text in (*said.notes, said.shapes):
        yield f"{to_markdown(text)}\n"
    yield from (f"- **{label}**: {text}" for label, text in points(entry, known) if text)
    yield ""
    language = "python" if "import torch" in known["example"] else "sh"
    if known["example"]:
        yield f"```{language}\n{known['example']}\n```\n"


def points(entry: Entry[Any], known: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is said in few words."""
    said = parse_docstring(entry.kind)
    for name in ("use_when", "pitfall"):
        yield name.replace("_", " ").capitalize(), to_markdown(getattr(entry.kind, name, ""))
    yield "Fields", "; ".join(f"`{format_field(f)}`" for f in known["fields"])
    yield "Takes", f"{known['takes']}; target: {known['target']}; head: {known['head']}"
    yield "Raises", to_markdown(said.raises)
    yield "Facts", format_facts(known["facts"])
    yield "Aliases", "; ".join(map(elsewhere, entry.kind.aliases))
    yield "Same as", f"`{entry.kind.same_as}`, at the default fields" if entry.kind.same_as else ""
    yield "Tasks", ", ".join("any" if t == "*" else t for t in known["tasks"])
    yield "Reference", to_markdown(said.reference)


def elsewhere(name: str) -> str:
    """A name in another library as code, what is said of it as text."""
    return re.sub(r"^([\w.]+\.\w+(?:\([^)]*\))?)(?=$|[ ,:])", r"`\1`", to_markdown(name))


def _page(parts: Iterator[str]) -> str:
    return "\n".join(parts).rstrip() + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def stale(made: dict[str, str]) -> list[str]:
    """Pages that are not what the code says, or are no longer any family's."""
    there = {
        str(p.relative_to(DOCS)): p.read_text()
        for p in (
            *(DOCS / n for n in ("reference.md", "terms.md") if (DOCS / n).exists()),
            *(DOCS / "losses").glob("*.md"),
        )
    }
    return sorted(name for name in made.keys() | there.keys() if made.get(name) != there.get(name))


def main() -> int:
    """Write the pages; or compare, and 1 if one is not what the code says, or is no longer any loss's."""
    made = pages()
    if sys.argv[1:] == ["--check"]:
        return int(bool(stale(made)))
    for name in stale(made):
        (DOCS / name).write_text(made[name]) if name in made else (DOCS / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
