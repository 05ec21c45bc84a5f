"""How far outliers are moved."""

from lossbench.errors import InvalidValue
from lossbench.validation import check_nonnegative, check_positive


def check_range(corruption: object, low: float, high: float) -> None:
    """Raise `InvalidValue` unless 0 <= low <= high and high > 0."""
    check_nonnegative(corruption, low=low)
    check_positive(corruption, high=high)
    if low > high:
        raise InvalidValue(
            f"The 'low' parameter of {type(corruption).__name__} must not be above 'high'. "
            f"Got {low!r} and {high!r} instead."
        )
