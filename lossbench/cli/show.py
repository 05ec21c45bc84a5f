"""What a command ends with: the table of its trials, where they are, and how to see their curves."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lossbench import records
from lossbench.analysis import summarise
from lossbench.cli import console
from lossbench.config.experiment import Experiment
from lossbench.plan import trial_id
from lossbench.records import Results
from lossbench.report import table


def show(experiments: Sequence[Experiment]) -> int:
    """Print the table of just these trials, where they are, and how to see their curves; 1 if one failed."""
    loaded = {e.folder: _asked(e) for e in experiments if (e.folder / records.TRIALS).exists()}
    found = {folder: results for folder, results in loaded.items() if len(results.trials)}
    if not found:
        return 0
    out = console.results()
    out.print(table.table(summarise(list(found.values()))))
    for folder in found:
        out.print(f"Records: {folder}", soft_wrap=True, markup=False)
    out.print(f"Curves:  tensorboard --logdir {_common(list(found))}", soft_wrap=True, markup=False)
    return int(any((r.trials["status"] == "failed").any() for r in found.values()))


def _asked(experiment: Experiment) -> Results:
    """Only the trials of this command: a folder may hold more seeds and rates."""
    results = records.load(experiment.folder)
    asked = {trial_id(t) for t in experiment.trials()}
    kept = {n: frame[frame["trial"].isin(asked)] for n, frame in vars(results).items() if n != "config"}
    return replace(results, **kept)


def _common(folders: Sequence[Path]) -> Path:
    return folders[0] if len(folders) == 1 else folders[0].parents[1]
