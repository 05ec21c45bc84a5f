"""The jobs of a command: what each asks for, what became of it, and the value that Hydra's sweepers get."""

import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lossbench import records
from lossbench.cli import console, overrides, skips
from lossbench.cli.mode import Mode
from lossbench.cli.show import comparisons_of, failed_trials, load, merged, print_json, show, value
from lossbench.cli.translation import translated
from lossbench.cli.tuning import rounds
from lossbench.config import Experiment, combinations
from lossbench.config.protocol import Protocol
from lossbench.errors import Incompatible, LossbenchError
from lossbench.records import Results

BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
ELSEWHERE = "The jobs ran in other processes: the same command without hydra/launcher= shows what they recorded."


@dataclass
class Job:
    """One job. `error`: why it was not run; `Incompatible` means that it was skipped."""

    name: str  # its overrides
    experiments: tuple[Experiment, ...] = ()  # what it reports; of one that tunes, the candidates until it has chosen
    tuning: tuple[Experiment, ...] = ()  # what it has chosen by
    protocol: Protocol | None = None
    skipped: tuple[Incompatible, ...] = ()  # of its own combinations
    workers: int | None = None
    error: Exception | None = None
    found: dict[Path, Results] = field(default_factory=dict)  # its records

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
    mode: Mode = Mode.TABLE
    jobs: list[Job] = field(default_factory=list)
    shown: bool = False  # each job has shown its own table
    sent: bool = False
    elsewhere: bool = False  # this is a copy

    def __getstate__(self) -> dict[str, Any]:
        self.sent = True
        return vars(self) | {"jobs": [], "elsewhere": True}

    def __call__(self, cfg: DictConfig) -> float:
        """Train one job, and show it if it is one of several; its value. For any launcher but ours."""
        job = self.asked(cfg)
        self.train([job])
        found = self.returned(job)
        if _sweeping() and self.mode is Mode.TABLE:
            self.shown = True
            show(job.found)
        return found

    def asked(self, cfg: DictConfig) -> Job:
        """What a configuration asks for, or why it cannot be had. Never raises: there are other jobs."""
        # as typed: to read an interpolation that leads nowhere would raise
        typed = cast(list[str], OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False))
        job = Job(" ".join(typed))
        self.jobs.append(job)
        try:
            overrides.check_heeded(typed, cast(Mapping[str, Any], cfg))
            made = combinations(cfg)
            for experiment in made.experiments:
                records.check_writable(experiment.folder)
            job.experiments, job.skipped, job.workers = made.experiments, made.skipped, cfg.workers
            job.protocol = made.protocol
        except OmegaConfBaseException as error:  # an interpolation that leads nowhere is found when it is read
            job.error = translated(error, self.arguments)
        except Exception as error:
            job.error = error
        return job

    def train(self, jobs: Sequence[Job]) -> None:
        """Train what the jobs miss, all together. Never raises but for Ctrl-C: an error becomes that of each job."""
        ready = [job for job in jobs if job.experiments]
        if not ready:
            return
        from lossbench.cli.run import train

        workers = max((job.workers for job in jobs if job.workers is not None), default=None)
        try:
            self._tune(ready, lambda wanted: train(wanted, workers, self.mode is Mode.QUIET))
        except Exception as error:
            for job in jobs:
                job.error = job.error or error

    def _tune(self, jobs: Sequence[Job], train: Callable[[list[Experiment]], None]) -> None:
        """Round by round, those of all jobs together; then what they report."""
        tell = _nothing if self.mode is Mode.QUIET else partial(console.messages().print, soft_wrap=True, markup=False)
        going = {id(job): (job, rounds(job.experiments, job.protocol, tell)) for job in jobs if job.protocol}
        while going:
            wanted: dict[Experiment, None] = {}
            for key, (job, tuning) in list(going.items()):
                try:
                    new = next(tuning)
                    job.tuning += tuple(new)
                    wanted |= dict.fromkeys(new)
                except StopIteration as ended:
                    job.experiments = tuple(ended.value)
                    del going[key]
            if wanted:
                train(list(wanted))
        train(list(dict.fromkeys(one for job in jobs for one in job.experiments)))

    def returned(self, job: Job) -> float:
        """The job's `value`, for Hydra.

        Where there is none because of an error, it is raised, so that the sweeper deals with it in its way. Hydra's
        own sweeper would end the sweep: it gets NaN, unless nobody else would tell of the error.
        """
        try:
            if job.error is None:
                job.found = load(job.experiments)
                return value(job.found)
        except LossbenchError as error:  # what another process has left in the meantime cannot be read
            job.error = error
        basic = HydraConfig.get().sweeper._target_ == BASIC
        if _sweeping() and (not basic or (self.elsewhere and job.failed)):
            raise job.error
        if self.elsewhere and isinstance(job.error, Incompatible):
            _print(skips.lines([job.error]))
        return math.nan

    def finish(self) -> int:
        """Show what there is, then what was skipped and what failed. 0 if all is well.

        1 if a trial or a job failed, or all trials were skipped. Where no job could be run, all that was given
        is off: raises the error, if it is the same for all.
        """
        ran, failed = [j for j in self.jobs if j.error is None], [j for j in self.jobs if j.failed]
        skipped = [
            *(j.error for j in self.jobs if isinstance(j.error, Incompatible)),
            *(s for j in ran for s in j.skipped),
        ]
        if self.jobs and not ran:
            raise _common_error([j.error for j in self.jobs if j.error], skipped, failed)
        results = merged(job.found for job in ran)
        tuned = any(job.tuning for job in ran)
        comparisons = comparisons_of([e for j in ran for e in (*j.experiments, *j.tuning)]) if tuned else []
        if self.mode is Mode.JSON:
            print_json(results, skipped, {j.name: j.reason for j in failed}, comparisons)
        elif self.mode is Mode.TABLE and not self.shown:
            show(results, comparisons)
        self._tell(skipped, failed, results)
        return int(bool(failed or failed_trials(results)))

    def _tell(self, skipped: Sequence[Incompatible], failed: Sequence[Job], results: Mapping[Path, Results]) -> None:
        if self.mode is Mode.QUIET:
            _print(f"lossbench: {n} trials failed: {reason}" for reason, n in failed_trials(results).items())
        else:
            _print(skips.lines(skipped))
        _print(_failures(failed))
        if self.sent and not self.jobs:
            _print([ELSEWHERE])


def _nothing(text: str) -> None:
    """Told to nobody."""


def _common_error(errors: Sequence[Exception], skipped: Sequence[Incompatible], failed: Sequence[Job]) -> Exception:
    if len({str(error) for error in errors}) == 1:
        return errors[0]
    _print([*skips.lines(skipped), *_failures(failed)])
    return LossbenchError(f"none of the {len(errors)} jobs can be run, see above.")


def _failures(failed: Sequence[Job]) -> list[str]:
    """One line for all jobs that failed for the same reason."""
    alike: dict[str, list[str]] = defaultdict(list)
    for job in failed:
        alike[job.reason].append(job.name)
    counts = {reason: f" (and {len(names) - 1} more)" if len(names) > 1 else "" for reason, names in alike.items()}
    return [f"lossbench: failed: {names[0]}{counts[reason]}: {reason}" for reason, names in alike.items()]


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)


def _sweeping() -> bool:
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)
