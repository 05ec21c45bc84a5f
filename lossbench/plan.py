"""From experiments to stacks."""

from collections.abc import Iterable
from functools import cache

from lossbench.seeds import stable_hash
from lossbench.types import Stack, Trial


@cache
def trial_id(trial: Trial) -> str:
    """Sixteen hex digits from all that the trial's numbers depend on; finished trials are found by it."""
    return stable_hash("trial", trial)[:16]


def stacks(trials: Iterable[Trial]) -> tuple[Stack, ...]:
    """Trials that can train together, together; in the order in which their kinds first appear."""
    groups: dict[tuple[object, ...], list[Trial]] = {}
    for trial in dict.fromkeys(trials):
        groups.setdefault(trial.stack_key, []).append(trial)
    return tuple(Stack(tuple(group)) for group in groups.values())
