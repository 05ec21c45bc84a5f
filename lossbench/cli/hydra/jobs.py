"""The jobs of a command: what each asks for, what became of it, and the value that Hydra's sweepers get."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lossbench import records
from lossbench.cli.hydra import overrides
from lossbench.cli.hydra.compat import BASIC_SWEEPER
from lossbench.cli.hydra.hydra_errors import convert_hydra_error
from lossbench.cli.output import (
    OutputMode,
    messages_console,
    print_lines,
    print_results,
    print_results_json,
)
from lossbench.config.resolve import ExperimentPlan, make_plan
from lossbench.errors import Incompatible, InvalidValue, LossbenchError, describe_skipped

if TYPE_CHECKING:  # what trains is imported when there is something to train
    from lossbench.analysis.study import Study
    from lossbench.runner.plan_result import PlanResult
    from lossbench.study import Comparison, Results

ELSEWHERE = "The jobs ran in other processes: the same command without hydra/launcher= shows what they recorded."


@dataclass
class Job:
    """One job. `error`: why it was not run; `Incompatible` means that it was skipped."""

    name: str  # its overrides
    asked: ExperimentPlan | None = None
    trained: "PlanResult | None" = None
    error: Exception | None = None

    @property
    def failed(self) -> bool:
        """Not run, and not because its parts do not fit: that is to be expected in a sweep."""
        return self.error is not None and not isinstance(self.error, Incompatible)

    @property
    def reason(self) -> str:
        """Why it failed."""
        if isinstance(self.error, LossbenchError):
            return str(self.error)
        return f"{type(self.error).__name__}: {self.error} (--debug with this job alone shows where)"


@dataclass
class Jobs:
    """All jobs of a command. Hydra calls it with a job's configuration; our launcher calls its parts.

    A launcher that runs jobs in other processes sends them copies, whose errors have to travel by Hydra.
    """

    arguments: Sequence[str]
    mode: OutputMode = OutputMode.TABLE
    jobs: list[Job] = field(default_factory=list)
    shown: bool = False  # each job has shown its own table
    sent: bool = False
    elsewhere: bool = False  # this is a copy
    results: "Results | None" = None  # of all that was trained so far, read once

    def __getstate__(self) -> dict[str, Any]:
        self.sent = True
        return vars(self) | {"jobs": [], "elsewhere": True, "results": None}

    def __call__(self, cfg: DictConfig) -> float:
        """Train one job, and show it if it is one of several; its value. For any launcher but ours."""
        job = self.resolve(cfg)
        self.train([job])
        value = self.finish_job(job)
        if _sweeping() and self.mode is OutputMode.TABLE and job.error is None:
            self.shown = True
            print_results(self._results_of([job]))
        return value

    def resolve(self, cfg: DictConfig) -> Job:
        """Return what a configuration asks for, or why it cannot be had. Never raises: there are other jobs."""
        # as typed: to read an interpolation that leads nowhere would raise
        typed = cast(list[str], OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False))
        job = Job(" ".join(typed))
        self.jobs.append(job)
        try:
            overrides.refuse_ignored_choices(typed, cast(Mapping[str, Any], cfg))
            asked = make_plan(cast(Mapping[str, Any], cfg))
            for experiment in asked.experiments:
                records.check_writable(experiment.folder)
            job.asked = asked
        except OmegaConfBaseException as error:  # an interpolation that leads nowhere is found when it is read
            job.error = convert_hydra_error(error, self.arguments)
        except Exception as error:
            job.error = error
        return job

    def train(self, jobs: Sequence[Job]) -> None:
        """Train what the jobs miss, all together. Never raises but for Ctrl-C: an error becomes that of each job."""
        ready = [job for job in jobs if job.asked]
        if not ready:
            return
        from lossbench.study.api import run_with_boards
        from lossbench.study.reporters import ProgressBar

        workers = max((job.asked.workers for job in ready if job.asked and job.asked.workers), default=None)
        console = messages_console()
        console.quiet = self.mode is OutputMode.QUIET
        try:
            with ProgressBar(console) as bar:
                done, study = run_with_boards([job.asked for job in ready if job.asked], bar, workers)
            self._add(study)
            for job, trained in zip(ready, done, strict=True):
                job.trained = trained
        except Exception as error:
            for job in jobs:
                job.error = job.error or error

    def finish_job(self, job: Job) -> float:
        """Return the job's value, for Hydra.

        Where there is none because of an error, it is raised, so that the sweeper deals with it in its way. Hydra's
        own sweeper would end the sweep: it gets NaN, unless nobody else would tell of the error.
        """
        if job.error is None:
            return self._results_of([job]).value
        basic = HydraConfig.get().sweeper._target_ == BASIC_SWEEPER
        if _sweeping() and (not basic or (self.elsewhere and job.failed)):
            raise job.error
        if self.elsewhere and isinstance(job.error, Incompatible):
            print_lines(describe_skipped([job.error]))
        return math.nan

    def finish(self) -> int:
        """Show what there is, then what was skipped and what failed. 0 if all is well.

        1 if a trial or a job failed, or all trials were skipped. Where no job could be run, all that was given
        is off: raises the error, if it is the same for all.
        """
        ran, failed = [j for j in self.jobs if j.error is None], [j for j in self.jobs if j.failed]
        skipped = [
            *(j.error for j in self.jobs if isinstance(j.error, Incompatible)),
            *(s for j in ran if j.asked for s in j.asked.skipped),
        ]
        if self.jobs and not ran:
            raise _common_error([j.error for j in self.jobs if j.error], skipped, failed)
        results = self._results_of(ran) if ran else None
        comparison = _compare(results) if results and any(j.trained and j.trained.tuning for j in ran) else None
        if self.mode is OutputMode.JSON:
            print_results_json(results, skipped, {j.name: j.reason for j in failed}, comparison)
        elif self.mode is OutputMode.TABLE and results and not self.shown:
            print_results(results, comparison)
        self._tell(skipped, failed, results.failed if results else {})
        return int(bool(failed or (results and results.failed)))

    def _add(self, study: "Study") -> None:
        """Keep what was read, beside what was read for earlier jobs."""
        from lossbench.study import Results

        self.results = Results(study if self.results is None else self.results.study.join(study))

    def _results_of(self, jobs: Sequence[Job]) -> "Results":
        """Return what is on record of some jobs, together: a trial that several ask for counts once."""
        assert self.results is not None  # something was trained
        return self.results.select(*(job.trained for job in jobs if job.trained))

    def _tell(self, skipped: Sequence[Incompatible], failed: Sequence[Job], failed_trials: Mapping[str, int]) -> None:
        if self.mode is OutputMode.QUIET:
            print_lines(f"lossbench: {n} trials failed: {reason}" for reason, n in failed_trials.items())
        else:
            print_lines(describe_skipped(skipped))
        print_lines(_failures(failed))
        if self.sent and not self.jobs:
            print_lines([ELSEWHERE])


def _compare(results: "Results") -> "Comparison | None":
    try:
        return results.compare()
    except InvalidValue:  # one loss, or nothing that was trained to its end
        return None


def _common_error(errors: Sequence[Exception], skipped: Sequence[Incompatible], failed: Sequence[Job]) -> Exception:
    if len({str(error) for error in errors}) == 1:
        return errors[0]
    print_lines([*describe_skipped(skipped), *_failures(failed)])
    return LossbenchError(f"none of the {len(errors)} jobs can be run, see above.")


def _failures(failed: Sequence[Job]) -> list[str]:
    """Return one line for all jobs that failed for the same reason."""
    alike: dict[str, list[str]] = defaultdict(list)
    for job in failed:
        alike[job.reason].append(job.name)
    counts = {reason: f" (and {len(names) - 1} more)" if len(names) > 1 else "" for reason, names in alike.items()}
    return [f"lossbench: failed: {names[0]}{counts[reason]}: {reason}" for reason, names in alike.items()]


def _sweeping() -> bool:
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)
