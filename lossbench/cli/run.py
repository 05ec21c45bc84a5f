"""Run experiments: plan, train what is missing, record, and show."""

from collections.abc import Sequence

from lossbench import records
from lossbench.cli import console
from lossbench.cli.progress import Bar
from lossbench.cli.show import show
from lossbench.config.experiment import Experiment
from lossbench.errors import LossbenchError
from lossbench.plan import stacks, trial_id
from lossbench.records import Record
from lossbench.report import tensorboard
from lossbench.types import Trial


def run(experiments: Sequence[Experiment], progress: bool = True) -> int:
    """Train the missing trials of the experiments and print their table; 1 if a trial failed, else 0.

    A stack that cannot be trained does not stop the others; its error is raised once their table is printed.
    """
    wanted = {trial_id(t): t for e in experiments for t in e.trials()}
    for experiment in experiments:
        records.check_writable(experiment.folder)
    done = {i for e in experiments for i in records.finished(e.folder)} & wanted.keys()
    missing = [t for i, t in wanted.items() if i not in done]
    if done:
        console.messages().print(_already(len(done), len(missing)), soft_wrap=True)
    problems = train(experiments, missing, progress)
    code = show(experiments)
    if problems:
        raise LossbenchError("; ".join(problems))
    return code


def _already(done: int, missing: int) -> str:
    count = f"{done} trial is" if done == 1 else f"{done} trials are"
    if missing:
        return f"{count} on record already; training the other {missing}."
    return f"{count} on record already: nothing to train. (Delete the records to train again.)"


def train(experiments: Sequence[Experiment], missing: Sequence[Trial], progress: bool) -> list[str]:
    """Train stack by stack; each one's records are saved as soon as it is done. Why stacks could not be trained."""
    if not missing:
        return []
    from lossbench.training.run import run_stack  # torch and Lightning load only when there is something to train

    planned, problems, done = stacks(missing), dict[str, None](), 0
    with Bar(planned, console.messages(), progress) as bar:
        for stack in planned:
            try:
                new = run_stack(stack, bar.update)
            except LossbenchError as error:
                problems[str(error)] = None
            else:
                save(experiments, new)
            done += len(stack.trials)
            bar.stack_done(done)
    return list(problems)


def save(experiments: Sequence[Experiment], new: Sequence[Record]) -> None:
    """Sort records into their experiments' folders."""
    for experiment in experiments:
        own = {trial_id(t) for t in experiment.trials()}
        mine = [r for r in new if r.trial in own]
        if mine:
            records.save(experiment.folder, mine, experiment.config())
            tensorboard.write(experiment.folder, records.load(experiment.folder))
