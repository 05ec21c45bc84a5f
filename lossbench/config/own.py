"""`plugins=`: the user's own files and modules."""

from typing import Any

from lossbench.errors import InvalidValue


def places(given: Any) -> list[str]:
    """What the setting names, as a list: one text is a list of one."""
    listed = [] if given is None else [given] if isinstance(given, str) else given
    if not isinstance(listed, list) or not all(isinstance(one, str) and one for one in listed):
        raise InvalidValue(
            "plugins must be a list of files and modules, as in 'plugins=[my_losses.py,my_package.losses]'. "
            f"Got {given!r} instead."
        )
    return listed
