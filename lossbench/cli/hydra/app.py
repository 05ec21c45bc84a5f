"""Hydra's part of the command line: one job, or all jobs of a sweep."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NoReturn

from hydra import version

from lossbench.cli.hydra import overrides
from lossbench.cli.hydra.compat import complete_as_typed, compose_quickly, make_parser, run_application
from lossbench.cli.output import OutputMode
from lossbench.errors import InvalidValue, LossbenchError

if TYPE_CHECKING:
    from lossbench.cli.hydra.jobs import Jobs

CONFIGS = "pkg://lossbench.configs"


def run_hydra(arguments: Sequence[str], mode: OutputMode = OutputMode.TABLE) -> int:
    """Compose the configuration, run it, and return the exit code."""
    # 1. parse, and refuse what can be refused without importing torch
    parser = make_parser()
    parser.error = _raise_usage  # type: ignore[method-assign]  # argparse would print its usage and exit
    args = parser.parse_intermixed_args(arguments)
    trains = not (args.cfg or args.info or args.hydra_help or args.shell_completion)
    if mode is OutputMode.JSON and not trains:
        raise InvalidValue("--json goes with experiments and lists: what Hydra prints is no JSON.")
    overrides.check_overrides(args.overrides, sweep=args.multirun, completing=args.shell_completion)
    from lossbench.cli.hydra.jobs import Jobs  # imports torch

    # 2. compose and train
    jobs = Jobs(list(args.overrides), mode)
    with _request_full_errors(), TemporaryDirectory(prefix="lossbench-sweep-") as folder:
        if trains:  # Hydra needs a folder for a sweep; lossbench's records have their own
            args.overrides = [f"hydra.sweep.dir={folder}", *args.overrides]
        version.setbase("1.3")
        _run_application(parser, args, jobs)
    # 3. show the results
    return jobs.finish() if trains else 0


def _run_application(parser: ArgumentParser, args: Namespace, jobs: "Jobs") -> None:
    from lossbench.cli.hydra.hydra_errors import convert_hydra_error
    from lossbench.cli.hydra.store import load_plugins, register_choices
    from lossbench.config.presets import add_folder

    try:
        load_plugins(args, CONFIGS)
        register_choices()
        if args.config_dir:
            add_folder(Path(args.config_dir))
        with compose_quickly(), complete_as_typed() if args.shell_completion else nullcontext():
            run_application(parser, args, jobs, CONFIGS)
    except BrokenPipeError:
        raise
    except Exception as error:
        if any(job.error is error for job in jobs.jobs):
            return  # a sweeper has given up; the error is reported with those of the other jobs
        if isinstance(error, LossbenchError) or jobs.sent:
            raise
        # jobs raise nothing, so it is about the arguments
        raise convert_hydra_error(error, jobs.arguments) from error


def _raise_usage(message: str) -> NoReturn:
    raise InvalidValue(f"{message[:1].upper()}{message[1:]}. See lossbench --help and --hydra-help.")


@contextmanager
def _request_full_errors() -> Iterator[None]:
    """Make Hydra raise its errors: by itself it prints them briefly and exits with 1, where lossbench exits with 2."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before
