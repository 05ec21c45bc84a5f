"""Write settings in messages as the reader types them: for the command line, or for a call of `lossbench.run`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_python: ContextVar[bool] = ContextVar("_python", default=False)
"""True within a call from Python."""
LONGEST = 60
"""Characters of a value."""


@contextmanager
def use_python() -> Iterator[None]:
    """Write settings as keyword arguments within this context."""
    token = _python.set(True)
    try:
        yield
    finally:
        _python.reset(token)


def format_setting(path: str, value: Any) -> str:
    """Return a setting with a value, ready to be copied; `...` stands for a value that the reader fills in.

    >>> format_setting("losses", ["mse", "huber"])
    "'losses=[mse,huber]'"
    >>> with use_python():
    ...     print(format_setting("losses", ["mse", "huber"]), format_setting("protocol.search", 20))
    losses=["mse", "huber"] protocol={"search": 20}
    """
    if not _python.get():
        text = f"{path}={format_value(value)}"
        return f"'{text}'" if isinstance(value, list | Mapping) else text  # brackets mean something to a shell
    name, *inside = path.split(".")
    for key in reversed(inside):
        value = {key: value}
    return f"{name}={format_value(value)}"


def format_paths(path: str, fields: Sequence[str]) -> str:
    """Return the fields of a setting: `clip.mode=, clip.threshold=`, or `clip={"mode": ..., "threshold": ...}`."""
    if _python.get():
        return format_setting(path, dict.fromkeys(fields, ...))
    return ", ".join(f"{path}.{field}=" for field in fields)


def format_value(value: Any) -> str:
    """Return a value as YAML and Hydra write it, or as Python does."""
    python = _python.get()
    between = ", " if python else ","
    if value is ...:
        return "..."
    if isinstance(value, Mapping):
        pairs = (f'"{k}": {format_value(v)}' if python else f"{k}:{format_value(v)}" for k, v in value.items())
        return f"{{{between.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{between.join(map(format_value, value))}]"
    if python:
        text = f'"{value}"' if isinstance(value, str) and '"' not in value else repr(value)
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
