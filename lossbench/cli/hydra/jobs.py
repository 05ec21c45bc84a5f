"""The jobs of a command: the plan of each, its outcome, and the value that Hydra's sweepers get."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
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
from lossbench.config.resolve import ExperimentPlan, explain_output, make_plan
from lossbench.errors import Incompatible, InvalidValue, LossbenchError, describe_skipped

if TYPE_CHECKING:  # what trains is imported when there is something to train
    from lossbench.runner.plan_result import PlanResult
    from lossbench.study import Results

ELSEWHERE = "The jobs ran in other processes: the same command without hydra/launcher= shows what they recorded."


@dataclass
class Job:
    """One job. `error`: why it was not run; `Incompatible` means that it was skipped."""

    name: str  # its overrides
    plan: ExperimentPlan | None = None
    result: "PlanResult | None" = None
    error: Exception | None = None

    @property
    def failed(self) -> bool:
        """True if it was not run, unless its parts do not fit together: that is to be expected in a sweep."""
        return self.error is not None and not isinstance(self.error, Incompatible)

    @property
    def reason(self) -> str:
        """Why it failed."""
        if isinstance(self.error, LossbenchError):
            return str(self.error)
        return f"{type(self.error).__name__}: {self.error} (--debug with this job alone shows where)"


@dataclass
class Jobs:
    """All jobs of a command. Hydra calls the object with a job's configuration; lossbench's launcher calls its methods.

    A launcher that runs jobs in other processes pickles it: the copies report their errors through Hydra.
    """

    arguments: Sequence[str]
    mode: OutputMode = OutputMode.TABLE
    jobs: list[Job] = field(default_factory=list)
    shown: bool = False  # each job has shown its own table
    sent: bool = False  # to other processes
    elsewhere: bool = False  # this is a copy
    results: "Results | None" = None  # of all that was trained so far, read once

    def __getstate__(self) -> dict[str, Any]:
        self.sent = True
        return vars(self) | {"jobs": [], "elsewhere": True, "results": None}

    def __call__(self, cfg: DictConfig) -> float:
        """Train one job, show it if it is one of several, and return its value. Other launchers call this."""
        job = self.resolve(cfg)
        self.train([job])
        value = self.finish_job(job)
        if _is_sweep() and self.mode is OutputMode.TABLE and job.error is None:
            self.shown = True
            print_results(self._select_results([job]))
        return value

    def resolve(self, cfg: DictConfig) -> Job:
        """Return the job with its plan, or with the error. Never raises: there are other jobs."""
        # as typed: to read an interpolation that leads nowhere would raise
        typed = cast(list[str], OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False))
        job = Job(" ".join(typed))
        self.jobs.append(job)
        try:
            overrides.refuse_ignored_choices(typed, cast(Mapping[str, Any], cfg))
            plan = make_plan(cast(Mapping[str, Any], cfg))
            with explain_output():
                for experiment in plan.experiments:
                    records.check_writable(experiment.folder)
            job.plan = plan
        except OmegaConfBaseException as error:  # an interpolation that leads nowhere is found when it is read
            job.error = convert_hydra_error(error, self.arguments)
        except Exception as error:
            job.error = error
        return job

    def train(self, jobs: Sequence[Job]) -> None:
        """Train the missing trials of all jobs together. Never raises but for Ctrl-C: each job gets the error."""
        ready = [job for job in jobs if job.plan]
        if not ready:
            return
        from lossbench.study import Results
        from lossbench.study.api import run_with_boards
        from lossbench.study.reporters import ProgressBar

        workers = max((job.plan.workers for job in ready if job.plan and job.plan.workers), default=None)
        console = messages_console()
        console.quiet = self.mode is OutputMode.QUIET
        try:
            with ProgressBar(console) as bar:
                done, study = run_with_boards([job.plan for job in ready if job.plan], bar, workers)
            # beside what was read for earlier jobs
            self.results = Results(study if self.results is None else self.results.study.join(study))
            for job, result in zip(ready, done, strict=True):
                job.result = result
        except Exception as error:
            for job in jobs:
                job.error = job.error or error

    def finish_job(self, job: Job) -> float:
        """Return the job's value to Hydra's sweeper.

        Raises the job's error, so that the sweeper deals with it in its own way. Hydra's own sweeper would end the
        sweep: it gets NaN, unless nothing else would report the error.
        """
        if job.error is None:
            return self._select_results([job]).value
        basic = HydraConfig.get().sweeper._target_ == BASIC_SWEEPER
        if _is_sweep() and (not basic or (self.elsewhere and job.failed)):
            raise job.error
        if self.elsewhere and isinstance(job.error, Incompatible):
            print_lines(describe_skipped([job.error]))
        return math.nan

    def finish(self) -> int:
        """Show the results, then what was skipped and what failed. Return 0 if all is well.

        Return 1 if a trial or a job failed, or if all trials were skipped. Raises an error if no job could be run:
        the jobs' own, if it is the same for all.
        """
        # 1. sort the jobs
        ran, failed = [job for job in self.jobs if job.error is None], [job for job in self.jobs if job.failed]
        skipped = [
            *(job.error for job in self.jobs if isinstance(job.error, Incompatible)),
            *(error for job in ran if job.plan for error in job.plan.skipped),
        ]
        errors = [job.error for job in self.jobs if job.error]
        if errors and not ran:
            if len({str(error) for error in errors}) == 1:
                raise errors[0]
            print_lines([*describe_skipped(skipped), *_format_failures(failed)])
            raise LossbenchError(f"none of the {len(errors)} jobs can be run, see above.")
        # 2. standard output: the results
        results = self._select_results(ran) if ran else None
        comparison = None
        if results and any(job.result and job.result.tuning for job in ran):
            with suppress(InvalidValue):  # one loss, or nothing that was trained to its end
                comparison = results.compare()
        if self.mode is OutputMode.JSON:
            print_results_json(results, skipped, {job.name: job.reason for job in failed}, comparison)
        elif self.mode is OutputMode.TABLE and results and not self.shown:
            print_results(results, comparison)
        # 3. standard error: what went wrong
        failed_trials = results.failed if results else {}
        if self.mode is OutputMode.QUIET:
            print_lines(f"lossbench: {n} trials failed: {reason}" for reason, n in failed_trials.items())
        else:
            print_lines(describe_skipped(skipped))
        print_lines(_format_failures(failed))
        if self.sent and not self.jobs:
            print_lines([ELSEWHERE])
        return int(bool(failed or failed_trials))

    def _select_results(self, jobs: Sequence[Job]) -> "Results":
        """Return the records of these jobs together: a trial that several jobs share counts once."""
        assert self.results is not None  # something was trained
        return self.results.select(*(job.result for job in jobs if job.result))


def _format_failures(failed: Sequence[Job]) -> list[str]:
    """Return one line for all jobs that failed for the same reason."""
    names_by_reason: dict[str, list[str]] = defaultdict(list)
    for job in failed:
        names_by_reason[job.reason].append(job.name)
    lines = []
    for reason, names in names_by_reason.items():
        more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        lines.append(f"lossbench: failed: {names[0]}{more}: {reason}")
    return lines


def _is_sweep() -> bool:
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)
