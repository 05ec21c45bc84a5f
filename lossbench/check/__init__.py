"""The contract of losses: `lossbench check huber` and test suites run it on any loss.

>>> from lossbench import check, losses
>>> for demand in check.CHECKS:
...     _ = demand.verify(losses.get("huber"))  # raises CheckFailed with the result and what was expected
"""

from lossbench.check.checks import CHECKS, check_loss
from lossbench.check.contract import Check, CheckFailed, NotApplicable, Result, Status

__all__ = ["CHECKS", "Check", "CheckFailed", "NotApplicable", "Result", "Status", "check_loss"]
