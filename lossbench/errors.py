"""Errors that are a message to the user: what was given, what was wanted, the nearest valid choice."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class LossbenchError(Exception):
    """Something the user can mend; the command line prints it without a traceback and exits with 2."""


class UnknownName(LossbenchError):
    """A name that nothing is registered under."""


class InvalidValue(LossbenchError):
    """A value outside of its range, or of the wrong type."""


class Unavailable(LossbenchError):
    """Data that is not there and cannot be fetched, or that is damaged."""


class Incompatible(LossbenchError):
    """Parts that are fine by themselves and do not fit together; where there are others, they are skipped.

    what, why: the parts, and the reason in words that all like it share, so that many can be told in one line.
    """

    def __init__(self, message: str, what: str = "", why: str = "") -> None:
        super().__init__(message)
        self.what, self.why = what, why


def group_skipped(skipped: Iterable[Incompatible]) -> dict[str, list[str]]:
    """Return what is skipped, by reason."""
    groups: dict[str, dict[str, None]] = {}
    for error in skipped:
        groups.setdefault(error.why or str(error), {})[error.what] = None
    return {why: [part for part in parts if part] for why, parts in groups.items()}


def describe_skipped(skipped: Iterable[Incompatible]) -> list[str]:
    """Return one line per reason, which names all that is skipped for it."""
    return [
        f"Skipped, {why}: {join_names(parts)}." if parts else f"Skipped: {why}"
        for why, parts in group_skipped(skipped).items()
    ]


NAMED = 60
"""How many valid names a message lists."""


def join_names(names: Sequence[str]) -> str:
    """The names in a row, up to `NAMED`, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def make_unknown(kind: str, name: object, choices: Iterable[str], label: str = "Known") -> UnknownName:
    """The error for an unknown `name`, with the nearest valid one and all of them, if they are not too many."""
    choices = sorted(choices)
    near = get_close_matches(str(name), choices, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UnknownName(f"Unknown {kind} {str(name)!r}.{hint} {label}: {join_names(choices) or 'none'}.")


LONGEST = 300
"""Characters of a stranger's error that are told."""


def describe_error(error: BaseException) -> str:
    """A stranger's error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:LONGEST]}{'…' if len(text) > LONGEST else ''}"
