"""Errors that are a message to the user: what was given, what was expected, the nearest valid choice."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class LossbenchError(Exception):
    """An error that the user can repair; the command line prints it without a traceback and exits with 2."""


class UnknownName(LossbenchError):
    """A name that nothing is registered under."""


class InvalidValue(LossbenchError):
    """A value outside of its range, or of the wrong type."""


class Unavailable(LossbenchError):
    """Data that are missing and cannot be fetched, or that are damaged."""


class Incompatible(LossbenchError):
    """Parts that are valid by themselves and do not fit together; in a list of combinations, they are skipped.

    parts, reason: the parts, and the reason in words that all similar cases share, so that one line can report them.
    """

    def __init__(self, message: str, parts: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.parts, self.reason = parts, reason


def group_skipped(skipped: Iterable[Incompatible]) -> dict[str, list[str]]:
    """Return the skipped parts, by reason."""
    groups: dict[str, dict[str, None]] = {}  # dictionaries as ordered sets
    for error in skipped:
        groups.setdefault(error.reason or str(error), {})[error.parts] = None
    return {reason: [part for part in parts if part] for reason, parts in groups.items()}


def describe_skipped(skipped: Iterable[Incompatible]) -> list[str]:
    """Return one line per reason, with the names of all that is skipped for it."""
    return [
        f"Skipped, {reason}: {join_names(parts)}." if parts else f"Skipped: {reason}"
        for reason, parts in group_skipped(skipped).items()
    ]


MAX_NAMES = 60
"""The number of names that a message lists."""


def join_names(names: Sequence[str]) -> str:
    """Join names by commas, up to `MAX_NAMES`, and say how many more there are."""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def make_unknown(kind: str, name: object, choices: Iterable[str], label: str = "Known") -> UnknownName:
    """Make the error for an unknown `name`, with the nearest valid one and a list of all."""
    choices = sorted(choices)
    near = get_close_matches(str(name), choices, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UnknownName(f"Unknown {kind} {str(name)!r}.{hint} {label}: {join_names(choices) or 'none'}.")


MAX_CHARACTERS = 300
"""The number of characters of a third party's error that a message quotes."""


def describe_error(error: BaseException) -> str:
    """Describe any exception in one line, with its type."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:MAX_CHARACTERS]}{'…' if len(text) > MAX_CHARACTERS else ''}"
