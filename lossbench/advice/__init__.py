"""Advice on which loss to use: rules from facts about the data to losses, with the reason, the trap and the source.

>>> from lossbench.advice import matching
>>> rule = matching("regression", {"outlier_share": 0.2, "outlier_sides": "one"})[0]
>>> [loss.name for loss in rule.losses]
['welsch', 'tukey']
"""

from lossbench.advice.facts import FACTS, Condition, Fact
from lossbench.advice.rules import Rule, list_rules, matching

__all__ = ["FACTS", "Condition", "Fact", "Rule", "list_rules", "matching"]
