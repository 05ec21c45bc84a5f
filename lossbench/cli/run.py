"""Run experiments: plan, train what is missing, record, and show."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from lossbench import records
from lossbench.analysis import summarise
from lossbench.cli.progress import Bar
from lossbench.config.experiment import Experiment
from lossbench.plan import stacks, trial_id
from lossbench.records import Record, Results
from lossbench.report import table, tensorboard
from lossbench.types import Trial


def run(experiments: Sequence[Experiment], progress: bool = True) -> int:
    """Train the missing trials of the experiments and print their table; 1 if a trial failed, else 0."""
    console = Console()
    wanted = {trial_id(t): t for e in experiments for t in e.trials()}
    for experiment in experiments:
        records.check_writable(experiment.folder)
    done = {i for e in experiments for i in records.finished(e.folder)} & wanted.keys()
    missing = [t for i, t in wanted.items() if i not in done]
    if done:
        console.print(_already(len(done), len(missing)), highlight=False)
    train(experiments, missing, console, progress)
    return show(experiments, console)


def _already(done: int, missing: int) -> str:
    if missing:
        return f"{done} trials are on record already; training the other {missing}."
    return f"All {done} trials are on record already: nothing to train. (Delete the folder below to train them again.)"


def train(experiments: Sequence[Experiment], missing: Sequence[Trial], console: Console, progress: bool) -> None:
    """Train stack by stack; each one's records are saved as soon as it is done."""
    if not missing:
        return
    from lossbench.training.run import run_stack  # torch and Lightning load only when there is something to train

    planned = stacks(missing)
    with Bar(planned, console, progress) as bar:
        for stack in planned:
            save(experiments, run_stack(stack, bar.update))


def save(experiments: Sequence[Experiment], new: Sequence[Record]) -> None:
    """Sort records into their experiments' folders."""
    for experiment in experiments:
        own = {trial_id(t) for t in experiment.trials()}
        mine = [r for r in new if r.trial in own]
        if mine:
            records.save(experiment.folder, mine, experiment.config())
            tensorboard.write(experiment.folder, records.load(experiment.folder))


def show(experiments: Sequence[Experiment], console: Console) -> int:
    """Print the table of just these trials, where they are, and how to see their curves."""
    loaded = [_asked(records.load(e.folder), e) for e in experiments]
    console.print(table.table(summarise(loaded)))
    for experiment in experiments:
        console.print(f"Records: {experiment.folder}", highlight=False, soft_wrap=True)
    console.print(f"Curves:  tensorboard --logdir {_common(experiments)}", highlight=False, soft_wrap=True)
    return int(any((r.trials["status"] == "failed").any() for r in loaded))


def _asked(results: Results, experiment: Experiment) -> Results:
    """Only the trials of this command: a folder may hold more seeds and rates."""
    asked = {trial_id(t) for t in experiment.trials()}
    kept = {n: frame[frame["trial"].isin(asked)] for n, frame in vars(results).items() if n != "config"}
    return replace(results, **kept)


def _common(experiments: Sequence[Experiment]) -> Path:
    folders = [e.folder for e in experiments]
    return folders[0] if len(folders) == 1 else folders[0].parents[1]
