"""`lossbench.run` and `lossbench.load`: experiments from Python, without Hydra."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from lossbench.analysis.study import Study, read_study
from lossbench.config.presets import EXPERIMENT, load_experiment
from lossbench.config.resolve import ExperimentPlan, load_plugins, make_plan, to_plain
from lossbench.config.schema import refuse_ignored_choices
from lossbench.errors import InvalidValue, LossbenchError, describe_skipped
from lossbench.runner.log import keep_log
from lossbench.runner.plan_result import PlanResult
from lossbench.runner.reporter import Level, Reporter, Reporters, SilentReporter
from lossbench.runner.runner import run as run_all
from lossbench.study.objects import name_objects
from lossbench.study.reporters import BoardWriter, ProgressBar
from lossbench.study.results import Results


class _Messages(SilentReporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_message(self, text: str, level: Level = Level.INFO) -> None:
        """Keep a line."""
        self.lines.append(text)


def run(*, progress: bool | None = None, **settings: Any) -> Results:
    """Train what is not on record yet, and return the results.

    settings: those of the command line, under the same names: `task="regression"`, `losses=["mse", "huber"]`,
    `seeds=3`, `rates=[0, 0.2]`, `protocol="tuned"`, `experiment="label_noise"`, `output="results"`. Those with a dot
    are mappings, `optimizer={"name": "sgd"}`, or given as `**{"optimizer.name": "sgd"}`. Losses may also be
    `lossbench.Loss` objects, `nn.Module`s and functions of prediction and target; data a `lossbench.Dataset` or
    `lossbench.Examples`; model, weighting and corruption objects of ours.
    progress: True shows a bar and messages, None a bar where there is a terminal or a notebook, False nothing.

    Records go to `output`, as the command line's do; trials that are there already are not trained again.

    Raises `LossbenchError` for what is unknown, wrong or does not fit, and where no trial could be trained; and
    KeyboardInterrupt when stopped, after what was done is saved.

    >>> import lossbench, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> results = lossbench.run(losses=["mse", "huber"], seeds=2, rates=[0], epochs=1, output=folder, progress=False)
    >>> results.table()["loss"].tolist()
    ['huber', 'mse']
    """
    messages = _Messages()
    load_plugins(settings)  # before objects are looked up in the registry
    refuse_ignored_choices(_choices_of(settings), _lists_of(settings))
    asked = make_plan(name_objects(settings, messages.on_message))
    bar = ProgressBar(Console(stderr=True, quiet=progress is False, highlight=False), messages=progress is True)
    skipped = describe_skipped(asked.skipped)
    with bar:
        for line in skipped:
            Reporters(messages, bar).on_message(line, Level.WARNING)
        (trained,), study = run_with_boards([asked], Reporters(messages, bar), asked.workers)
    found = Results(study, skipped, messages.lines).select(trained)
    if not found.is_trained:
        raise LossbenchError(f"No trial could be trained: {'; '.join(found.failed)}")
    return found


def load(*folders: str | Path, where: Mapping[str, Any] | None = None, metric: str = "") -> Results:
    """Return what is on record at or below some folders.

    where: values of settings that are wanted, as `{"corruption_rate": [0, 0.4]}` or `{"loss": "mse"}`. metric: one of
    those on record, to judge by. Raises `RecordError` where there is nothing to read, and `LossbenchError` for
    unknown names.
    """
    if not folders or not all(isinstance(folder, str | os.PathLike) for folder in folders):
        raise InvalidValue(
            f"load takes folders, one after the other, as in load('results', 'others'). Got {folders!r}."
        )
    wanted = {} if where is None else to_plain(where)
    if not isinstance(wanted, dict):
        raise InvalidValue(f"where must map settings to values, as in {{'rate': [0, 0.4]}}. Got {where!r} instead.")
    lists = {str(key): values if isinstance(values, list) else [values] for key, values in wanted.items()}
    kept = {key: [str(value) for value in values] for key, values in lists.items()}
    study = read_study([Path(folder) for folder in folders], kept, metric)
    return Results(study, study.problems)


def _choices_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """The choices that are set, as `loss='mse'`."""
    given = {key: value for key, value in settings.items() if value is not None}
    return {key.partition(".")[0]: f"{key}={value!r:.60}" for key, value in given.items()}


def _lists_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with those of their preset."""
    preset = settings.get(EXPERIMENT)
    return {**({} if preset is None else load_experiment(str(preset))), **settings}


def run_with_boards(
    asked: Sequence[ExperimentPlan], reporter: Reporter, workers: int | None
) -> tuple[list[PlanResult], Study]:
    """Do as `lossbench.runner.runner.run`, and keep TensorBoard's files up with the records; return these, too.

    They are read once, for the boards as well: what was read may hold more than the trials of this run.
    """
    boards = BoardWriter()
    with keep_log(asked[0].experiments[0].output, reporter):
        try:
            done = run_all(asked, Reporters(boards, reporter), workers)
        except BaseException:
            boards.interrupt([e for one in asked for e in one.experiments])
            raise
        experiments = [e for one in done for e in one.experiments]
        return done, boards.finish(experiments, [e for one in done for e in one.tuning])
