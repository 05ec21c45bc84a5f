"""The error of a task for a space, encoding or head that it does not offer."""

from collections.abc import Iterable

from lossbench.errors import Incompatible
from lossbench.types import Encoding, Head, Space

_WORDS: dict[type, str] = {Space: "predictions as", Encoding: "targets as", Head: "a head of kind"}


def make_refusal(
    task: str, requested: Space | Encoding | Head, options: Iterable[Space | Encoding | Head]
) -> Incompatible:
    """Return the error for a space, encoding or head that `task` does not offer; it lists the options."""
    return Incompatible(
        f"The {task} task cannot give {_WORDS[type(requested)]} {str(requested)!r}; it can give: {', '.join(options)}."
    )
