"""The messages of a task that is asked for something it does not have."""

from collections.abc import Iterable

from lossbench.errors import Incompatible
from lossbench.types import Encoding, Head, Space

_WORDS: dict[type, str] = {Space: "predictions as", Encoding: "targets as", Head: "a head of kind"}


def refusal(task: str, wanted: Space | Encoding | Head, offered: Iterable[Space | Encoding | Head]) -> Incompatible:
    """The error for a space, encoding or head that `task` does not offer, with those that it does."""
    return Incompatible(
        f"The {task} task cannot give {_WORDS[type(wanted)]} {str(wanted)!r}; it can give: {', '.join(offered)}."
    )
