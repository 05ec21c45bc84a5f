"""Load losses from files and modules: `path/to/file.py:Class`, `path/to/file.py`, `package.module:Class`."""

import inspect
from typing import Any

from lossbench import plugins
from lossbench.errors import InvalidValue, make_unknown
from lossbench.interfaces.loss import Loss


def is_location(text: str) -> bool:
    """Return True if `text` is a file or module of losses, rather than a loss's name."""
    return ":" in text or text.endswith(plugins.FILE)


def load_losses(location: str) -> dict[str, type[Loss]]:
    """Return the loss classes at `location` by name: the one after the colon, or all that the file or module defines.

    Raises `InvalidValue` if there is no such file or module, if its import fails, or if the name is not that of a
    loss; `UnknownName`, with the nearest name, if the file or module has no such name.
    """
    path, _, name = location.partition(":")
    module = plugins.run_plugin(plugins.find_plugin(path))
    losses = {n: value for n, value in vars(module).items() if _is_loss(value) and value.__module__ == module.__name__}
    if not name:
        if not losses:
            raise InvalidValue(f"{path} defines no loss: no subclass of lossbench.Loss, no @lossbench.loss function.")
        return losses
    value = getattr(module, name, None)
    if value is None:
        raise make_unknown(f"loss of {path}:", name, losses, "Its losses")
    if not _is_loss(value):
        raise InvalidValue(
            f"{location} must be a subclass of lossbench.Loss, or a function decorated with @lossbench.loss. "
            f"Got {value!r:.80} instead."
        )
    return {name: value}


def _is_loss(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, Loss) and not inspect.isabstract(value)
