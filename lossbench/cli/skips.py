"""What was skipped and why, in a few lines: what is skipped for the same reason is named together."""

from collections.abc import Iterable

from lossbench.errors import Incompatible

NAMED = 30
"""How many are named for one reason."""


def grouped(skipped: Iterable[Incompatible]) -> dict[str, list[str]]:
    """What was skipped, by reason."""
    groups: dict[str, dict[str, None]] = {}
    for error in skipped:
        groups.setdefault(error.why or str(error), {})[error.what] = None
    return {why: [part for part in parts if part] for why, parts in groups.items()}


def lines(skipped: Iterable[Incompatible]) -> list[str]:
    """One line per reason."""
    return [
        f"Skipped, {why}: {_named(parts)}" if parts else f"Skipped: {why}" for why, parts in grouped(skipped).items()
    ]


def _named(parts: list[str]) -> str:
    more = f" and {len(parts) - NAMED} more" if len(parts) > NAMED else ""
    return f"{', '.join(parts[:NAMED])}{more}."
