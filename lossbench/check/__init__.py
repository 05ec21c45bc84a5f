"""The contract of losses, run over any of them: by `lossbench check huber`, and by a test suite.

>>> from lossbench import check, losses
>>> for each in check.CHECKS:
...     _ = each.verify(losses.get("huber"))  # raises CheckFailed with what was found and what was wanted
"""

from lossbench.check.contract import Check, CheckFailed, NotApplicable, Result, Status
from lossbench.check.run import CHECKS, check_loss

__all__ = ["CHECKS", "Check", "CheckFailed", "NotApplicable", "Result", "Status", "check_loss"]
