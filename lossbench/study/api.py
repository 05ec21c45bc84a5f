"""`lossbench.run` and `lossbench.load`: experiments from Python, without Hydra."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from lossbench.analysis.study import Study, read_study
from lossbench.config.choices import suggest_settings
from lossbench.config.presets import EXPERIMENT, load_experiment
from lossbench.config.resolve import ExperimentPlan, explain_output, load_plugins, make_plan, to_plain
from lossbench.config.schema import refuse_ignored_choices
from lossbench.errors import InvalidValue, LossbenchError, describe_skipped
from lossbench.notation import format_setting, use_python
from lossbench.runner.log import keep_log
from lossbench.runner.plan_result import PlanResult
from lossbench.runner.reporter import Level, Reporter, Reporters, SilentReporter
from lossbench.runner.runner import run as run_all
from lossbench.study.objects import convert_objects
from lossbench.study.reporters import BoardWriter, ProgressBar
from lossbench.study.results import Results


class _MessageCollector(SilentReporter):
    """Keeps the messages of a run."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_message(self, text: str, level: Level = Level.INFO) -> None:
        """Keep a line."""
        self.lines.append(text)


def run(*unnamed: object, progress: bool | None = None, **settings: Any) -> Results:
    """Train the trials that are not on record yet, and return the results.

    settings: those of the command line, under the same names: `task="regression"`, `losses=["mse", "huber"]`,
    `seeds=3`, `rates=[0, 0.2]`, `protocol="tuned"`, `experiment="label_noise"`, `output="results"`. Settings with a
    dot are mappings, `optimizer={"name": "sgd"}`, or given as `**{"optimizer.name": "sgd"}`. Losses may also be
    `lossbench.Loss` objects, `nn.Module`s and functions of prediction and target; data a `lossbench.Dataset` or
    `lossbench.Examples`; model, weighting and corruption objects of lossbench's classes.
    progress: True shows a bar and messages, None a bar where there is a terminal or a notebook, False nothing.
    unnamed: refused, with the keyword that was probably meant.

    Records go to `output`, as the command line's do; trials that are there already are not trained again.

    Raises `LossbenchError` for settings that are unknown, wrong or do not fit together, and if no trial could be
    trained; KeyboardInterrupt when stopped, after the finished trials are saved.

    >>> import lossbench, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> results = lossbench.run(losses=["mse", "huber"], seeds=2, rates=[0], epochs=1, output=folder, progress=False)
    >>> results.table()["loss"].tolist()
    ['huber', 'mse']
    """
    if unnamed:
        raise _make_unnamed_error(unnamed[0])
    if not (progress is None or isinstance(progress, bool)):
        raise InvalidValue(f"progress must be True, False or None. Got {progress!r} instead.")
    messages = _MessageCollector()
    # 1. settings to experiments; messages write settings as Python does
    with use_python():
        load_plugins(settings)  # before objects are looked up in the registry
        choices = {path.partition(".")[0]: format_setting(path, v) for path, v in settings.items() if v is not None}
        preset = settings.get(EXPERIMENT)
        preset_settings = {} if preset is None else load_experiment(str(preset))
        refuse_ignored_choices(choices, {**preset_settings, **settings})
        plan = make_plan(convert_objects(settings, messages.on_message))
    # 2. train what is missing
    bar = ProgressBar(Console(stderr=True, quiet=progress is False, highlight=False), messages=progress is True)
    skipped = describe_skipped(plan.skipped)
    with bar:
        for line in skipped:
            Reporters(messages, bar).on_message(line, Level.WARNING)
        (result,), study = run_with_boards([plan], Reporters(messages, bar), plan.workers)
    # 3. the results of this call alone: the folders may hold more
    results = Results(study, skipped, messages.lines).select(result)
    if not results.is_trained:
        raise LossbenchError(f"No trial could be trained: {'; '.join(results.failed)}")
    return results


def _make_unnamed_error(value: object) -> InvalidValue:
    """Return the error for a setting without its name, with the call that was probably meant."""
    if isinstance(value, Mapping):
        call = "lossbench.run(**settings)"
    else:
        with use_python():
            settings = suggest_settings(value) if isinstance(value, str) else []
        call = " or ".join(f"lossbench.run({text})" for text in settings)
    hint = f"Did you mean {call}?" if call else 'Write lossbench.run(task="regression", losses=["mse", "huber"]).'
    return InvalidValue(f"lossbench.run takes settings by name. {hint} Got {value!r:.60} instead.")


def load(
    *folders: str | Path | Sequence[str | Path], where: Mapping[str, Any] | None = None, metric: str = ""
) -> Results:
    """Return the records at or below some folders.

    folders: one after the other, or as a list. where: values of settings that are kept, as
    `{"corruption_rate": [0, 0.4]}` or `{"loss": "mse"}`. metric: one of those on record, to judge by.

    Raises `RecordError` where there is nothing to read, and `LossbenchError` for unknown names.
    """
    # 1. folders
    paths: list[Any] = []
    for folder in folders:
        paths += folder if isinstance(folder, list | tuple) else [folder]
    if not paths:
        raise InvalidValue("load takes at least one folder, as in lossbench.load('results').")
    for path in paths:
        if not isinstance(path, str | os.PathLike):
            raise InvalidValue(f"load takes folders, as in lossbench.load('results', 'others'). Got {path!r} instead.")
    # 2. the filter: a single value is a list of one; records hold texts
    conditions = {} if where is None else to_plain(where)
    if not isinstance(conditions, dict):
        raise InvalidValue(f"where must map settings to values, as in {{'loss': ['mse']}}. Got {where!r} instead.")
    texts = {
        str(setting): [str(value) for value in (values if isinstance(values, list) else [values])]
        for setting, values in conditions.items()
    }
    study = read_study([Path(path) for path in paths], texts, metric)
    return Results(study, study.problems)


def run_with_boards(
    plans: Sequence[ExperimentPlan], reporter: Reporter, workers: int | None
) -> tuple[list[PlanResult], Study]:
    """Run plans as `lossbench.runner.runner.run` does, and keep TensorBoard's files up to date.

    Return the results and their records, which are read once, for the boards as well: they may hold more trials than
    those of this run.
    """
    boards = BoardWriter()
    with explain_output(), keep_log(plans[0].experiments[0].output, reporter):
        try:
            results = run_all(plans, Reporters(boards, reporter), workers)
        except BaseException:
            boards.interrupt([experiment for plan in plans for experiment in plan.experiments])
            raise
        experiments = [experiment for result in results for experiment in result.experiments]
        return results, boards.finish(experiments, [experiment for result in results for experiment in result.tuning])
