"""Hydra's part of the command line: one job, or all jobs of a sweep."""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import NoReturn

from hydra import version
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lossbench.cli import overrides
from lossbench.cli.translation import translated
from lossbench.config import register_choices, resolve
from lossbench.errors import InvalidValue, LossbenchError

CONFIGS = "pkg://lossbench.configs"


@dataclass
class Jobs:
    """The jobs of one command: in a sweep each runs, whatever becomes of the others."""

    arguments: Sequence[str]
    sweep: bool
    codes: list[int] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)

    def run(self, cfg: DictConfig) -> None:
        """Run the experiments of one configuration. Never raises: that would end Hydra's sweep."""
        from lossbench.cli.run import run

        try:
            self.codes.append(run(resolve(cfg), progress=cfg.progress))
        except OmegaConfBaseException as error:  # an interpolation that leads nowhere is found when it is read
            self._failed(translated(error, self.arguments))
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self.errors.append(error)
        if self.sweep:
            said = str(error) if isinstance(error, LossbenchError) else f"{type(error).__name__}: {error}"
            print(f"lossbench: {' '.join(HydraConfig.get().overrides.task)}: {said}", file=sys.stderr)

    def outcome(self) -> int:
        """The exit code; raises what the only job, or the first of a sweep's, has raised."""
        if self.errors and self.sweep:
            total = len(self.errors) + len(self.codes)
            raise LossbenchError(f"{len(self.errors)} of {total} jobs failed, see above.") from self.errors[0]
        if self.errors:
            raise self.errors[0]
        return max(self.codes, default=0)


def run_hydra(arguments: Sequence[str]) -> int:
    """Compose the configuration and run it."""
    register_choices()
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]  # argparse would print its usage and exit
    args = parser.parse_intermixed_args(arguments)
    given = list(args.overrides)
    overrides.check(given, sweep=args.multirun)
    jobs = Jobs(given, args.multirun)
    with _in_full(), TemporaryDirectory(prefix="lossbench-sweep-") as folder:
        if args.multirun:  # Hydra wants a folder for a sweep; our records have theirs
            args.overrides = [f"hydra.sweep.dir={folder}", *given]
        version.setbase("1.3")
        _run(parser, args, jobs)
    return jobs.outcome()


def _run(parser: ArgumentParser, args: object, jobs: Jobs) -> None:
    try:
        _run_hydra(
            args=args,  # type: ignore[arg-type]
            args_parser=parser,
            task_function=jobs.run,
            config_path=CONFIGS,
            config_name="config",
        )
    except BrokenPipeError:
        raise
    except Exception as error:  # jobs raise nothing, so it is about what was typed
        raise translated(error, jobs.arguments) from error


def _refuse(message: str) -> NoReturn:
    raise InvalidValue(f"{message[:1].upper()}{message[1:]}. See lossbench --help and --hydra-help.")


@contextmanager
def _in_full() -> Iterator[None]:
    # without it Hydra prints its own short errors and exits with 1; ours are shorter, and exit with 2
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before
