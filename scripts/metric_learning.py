"""Prints the table of pytorch-metric-learning's losses for docs/metric-learning.md, from trials on record.

    python scripts/metric_learning.py results/embedding

The trials are those of the command in docs/metric-learning.md; what fails `lossbench check` is told below the table.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from lossbench_metric_learning import KINDS, UNUSABLE

from lossbench.check import Status, check_loss


def rows(folder: Path) -> Iterator[str]:
    """A line for each loss: its name here, how it goes through a stack, what came out, and whether it keeps it all."""
    trials = pd.concat(map(pd.read_parquet, folder.glob("*/*/trials.parquet"))).set_index("loss")
    yield "| class | `loss=` | route | recall@1 | check |"
    yield "| --- | --- | --- | --- | --- |"
    for origin, kind in sorted(KINDS.items()):
        trial = trials.loc[kind.name]
        value = f"{trial['test/recall_at_1/last']:.2f}" if trial.status == "finished" else trial.status
        route = trial.route.rpartition(" ")[2] if isinstance(trial.route, str) else "loop"
        yield f"| `{origin}` | `{kind.name}` | {route} | {value} | {failures(kind)} |"
    for origin, reason in sorted(UNUSABLE.items()):
        yield f"| `{origin}` | – | – | left out | {reason} |"


BAD = {Status.FAILED, Status.KNOWN}


def failures(kind: type) -> str:
    """The names of the checks that it fails."""
    names = [result.check for result in check_loss(kind()) if result.status in BAD]
    return ", ".join(f"`{name}`" for name in names) or "passes"


if __name__ == "__main__":
    print("\n".join(rows(Path(sys.argv[1]))))
