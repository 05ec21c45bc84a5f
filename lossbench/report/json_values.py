"""Values that JSON has words for."""

import math
from typing import Any


def finite(value: Any) -> Any:
    """Return `value` with None for every number in it that JSON has no word for."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
