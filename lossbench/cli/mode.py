"""What a command prints."""

from collections.abc import Sequence
from enum import StrEnum

from lossbench.errors import InvalidValue


class Mode(StrEnum):
    """What goes to standard output; messages and errors go to standard error."""

    TABLE = "table"
    QUIET = "--quiet"  # nothing, and no progress or messages either; errors are told
    JSON = "--json"  # exactly one JSON document


def take_mode(given: Sequence[str]) -> tuple[Mode, list[str]]:
    """The mode that is asked for, and the other arguments."""
    asked = [mode for mode in (Mode.QUIET, Mode.JSON) if mode in given]
    if len(asked) > 1:
        raise InvalidValue("--quiet and --json do not go together: one prints nothing, the other one document.")
    return (asked or [Mode.TABLE])[0], [a for a in given if a not in asked]
