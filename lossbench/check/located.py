"""Losses by where they are: `path/to/file.py:Class`, `path/to/file.py`, `package.module:Class`."""

import inspect
from typing import Any

from lossbench import plugins
from lossbench.errors import InvalidValue, make_unknown
from lossbench.interfaces.loss import Loss

Kind = type[Loss]


def is_place(text: str) -> bool:
    """Whether `text` says where a loss is, and not what it is called."""
    return ":" in text or text.endswith(plugins.FILE)


def load_losses(place: str) -> dict[str, Kind]:
    """The loss classes at `place`, by name: the one behind the colon, or all that the file or module defines.

    Raises `InvalidValue` if there is no such file or module, if it raises anything when it is imported, or if what is
    there is no loss; `UnknownName`, with the nearest, if the name is none of its losses.
    """
    path, _, name = place.partition(":")
    module = plugins.run(plugins.find_plugin(path))
    own = {n: kind for n, kind in vars(module).items() if _is_loss(kind) and kind.__module__ == module.__name__}
    if not name:
        if not own:
            raise InvalidValue(f"{path} defines no loss: no subclass of lossbench.Loss, no @lossbench.loss function.")
        return own
    found = getattr(module, name, None)
    if found is None:
        raise make_unknown(f"loss of {path}:", name, own, "Its losses")
    if not _is_loss(found):
        raise InvalidValue(
            f"{place} must be a subclass of lossbench.Loss, or a function decorated with @lossbench.loss. "
            f"Got {found!r:.80} instead."
        )
    return {name: found}


def _is_loss(found: Any) -> bool:
    return inspect.isclass(found) and issubclass(found, Loss) and not inspect.isabstract(found)
