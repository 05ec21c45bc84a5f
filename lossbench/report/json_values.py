"""Values that JSON has words for."""

import math
from typing import Any


def replace_nonfinite(value: Any) -> Any:
    """Return `value` with None for every number in it that JSON has no word for."""
    if isinstance(value, dict):
        return {key: replace_nonfinite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nonfinite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
