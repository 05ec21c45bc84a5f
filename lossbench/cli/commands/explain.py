"""`lossbench explain aulc`: what a heading or a word of a table means; `lossbench explain` lists all terms."""

from collections.abc import Sequence
from dataclasses import asdict

from lossbench.cli.output import OutputMode, print_document, results_console
from lossbench.errors import InvalidValue
from lossbench.report.tables.terms import TERMS, Term, find_term, make_slug

USAGE = "lossbench explain [TERM ...]"


def run_explain(arguments: Sequence[str], mode: OutputMode) -> int:
    """Print each term with its definition and how to read it; without arguments all terms, one line each."""
    if options := [argument for argument in arguments if argument.startswith("-")]:
        raise InvalidValue(f"Write {USAGE}. Got {' '.join(options)!r} instead.")
    terms = _find_terms(arguments) if arguments else list(TERMS.values())
    if mode is OutputMode.JSON:
        print_document([{"name": term.name, "slug": term.slug} | asdict(term) for term in terms])
    elif mode is OutputMode.TABLE and arguments:
        _print_pages(terms)
    elif mode is OutputMode.TABLE:
        _print_list(terms)
    return 0


def _find_terms(words: Sequence[str]) -> list[Term]:
    """Return the terms; the words of a name may be typed without quotes: `aulc overfitting gap` are two terms."""
    slugs, terms, start = {term.slug for term in TERMS.values()}, [], 0
    while start < len(words):
        # the longest name that begins here; of a word that begins none, the error with the nearest one
        ends = range(len(words), start, -1)
        end = next((end for end in ends if make_slug(" ".join(words[start:end])) in slugs), start + 1)
        terms.append(find_term(" ".join(words[start:end])))
        start = end
    return terms


def _print_pages(terms: Sequence[Term]) -> None:
    from rich.table import Table
    from rich.text import Text

    out = results_console()
    for place, term in enumerate(terms):
        if place:
            out.print()
        out.print(Text(term.name, style="bold"))
        page = Table.grid(padding=(0, 2, 0, 0))
        page.add_column(no_wrap=True)
        page.add_column(overflow="fold")
        for label, text in (("Meaning", term.meaning), ("Definition", term.definition), ("How to read", term.reading)):
            page.add_row(Text(label), Text(text))
        out.print(page)


def _print_list(terms: Sequence[Term]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(Text("term", style="bold"), no_wrap=True)
    table.add_column(Text("what it means", style="bold"), overflow="fold")
    for term in sorted(terms, key=lambda term: term.slug):
        table.add_row(Text(term.slug), Text(term.meaning))
    results_console().print(table)
