"""Stacks beside plain Lightning, a bare loop and the arithmetic: same model, data, batch, optimiser, steps, metrics.

All sides run in turns, and each figure is the median over the turns. Our side goes through the public path,
`run_stack`: data preparation and records included. Processes are started, and have imported everything, before the
clock runs; what that took is printed. Ratios are to plain Lightning in one process, with one thread or with torch's
default, whichever is faster. `--scaling` shows the cost of a trial, and the memory, in stacks of 32 to 4096. Nothing
else should run on the machine: threads that wait for each other lose much more by that than ours, which do not.

    python scripts/bench_stack.py [--trials 256] [--turns 5] [--epochs 60] [--models regression ... ctc] [--scaling]
"""

import argparse
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing import get_context
from typing import Any

import torch
from bench_sides import EVALUATIONS, arithmetic, loop, plain, quiet, timed
from hydra import compose, initialize_config_module
from rich.console import Console
from rich.table import Table

from lossbench.cli.hydra.store import register_choices
from lossbench.config.resolve import resolve
from lossbench.seeds import group_stacks
from lossbench.training.build import count_cores
from lossbench.training.replicas import get_one_core_environment
from lossbench.training.run import run_stack
from lossbench.types import Stack, Trial

DIGITS = ["task=multiclass", "loss=cross_entropy"]
SETTINGS = {
    "regression": ("MLP 10-64-64-1", ["task=regression", "loss=mse", "model.width=64", "model.depth=2"]),
    "digits": ("MLP 64-128-10", [*DIGITS, "model.width=128", "model.depth=1"]),
    "cnn": ("digits CNN, 8 then 16 channels", [*DIGITS, "model=cnn", "model.channels=8", "model.depth=2"]),
    "boxes": ("boxes, cnn_flat on 3 x 32 x 32", ["task=boxes", "loss=giou"]),
    "ctc": ("ctc, recogniser on 1 x 12 x 64", ["task=ctc", "loss=ctc"]),
}
SIZES = (32, 128, 512, 2048, 4096)


def plan(overrides: Sequence[str], trials: int, epochs: float) -> Stack:
    """One stack of seeds on clean data."""
    length = [f"seeds={trials}", "rates=[0]", f"epochs={epochs}", f"evaluations={EVALUATIONS}"]
    with initialize_config_module("lossbench.configs", version_base="1.3"):
        cfg = compose("config", overrides=[*overrides, *length, "batch_size=64", "optimizer.schedule=constant"])
    (experiment,) = resolve(cfg)
    (stack,) = group_stacks(experiment.list_trials())
    return stack


class Processes:
    """One process per core, of one thread each, that all work at once."""

    def __init__(self) -> None:
        self.pools = [ProcessPoolExecutor(1, get_context("spawn"), initializer=quiet) for _ in range(count_cores())]
        with _environment(get_one_core_environment()):  # as our workers have it
            self.start_seconds = timed(self.run, time.sleep, [0] * len(self.pools))

    def run(self, work: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
        """`work` on each part, in a process of its own."""
        jobs = [pool.submit(work, part) for pool, part in zip(self.pools, parts, strict=False)]
        return [job.result() for job in jobs]

    def over(self, work: Callable[[Any], Any], trials: Sequence[Trial]) -> list[Any]:
        """`work` on the trials, shared out evenly."""
        edges = [round(i * len(trials) / len(self.pools)) for i in range(len(self.pools) + 1)]
        return self.run(work, [tuple(trials[a:b]) for a, b in pairwise(edges)])

    def close(self) -> None:
        """End them."""
        for pool in self.pools:
            pool.shutdown()


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    yield
    os.environ.clear()
    os.environ.update(before)


def stacked(trials: Sequence[Trial]) -> int:
    """Train them as one stack; the process's peak memory so far, in kilobytes."""
    run_stack(Stack(tuple(trials)))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def ours(stack: Stack, processes: Processes) -> float:
    """Seconds for the whole stack in worker processes that are up."""
    return timed(processes.over, stacked, stack.trials)


def compare(overrides: list[str], given: argparse.Namespace, processes: Processes) -> dict[str, float]:
    """Median seconds per trial of each side."""
    stack = plan(overrides, given.trials, given.epochs)
    few = stack.trials[: 2 * count_cores()]
    sides: dict[str, Callable[[], float]] = {
        "plain": lambda: timed(processes.run, plain, [few]) / len(few),
        "plain, threads": lambda: timed(plain, few) / len(few),
        "plain at once": lambda: timed(processes.over, plain, few) / len(few),
        "loop": lambda: timed(loop, few) / len(few),
        "one": lambda: statistics.mean(timed(stacked, [trial]) for trial in few),
        "one process": lambda: timed(stacked, stack.trials) / given.trials,
        "workers": lambda: ours(stack, processes) / given.trials,
        # all processes at once, so each has its own core and their rates add up
        "ceiling": lambda: 1 / sum(1 / s for s in processes.over(arithmetic, few)),
    }
    for work in (plain, loop, stacked):  # warm up
        work(few[:1])
        processes.over(work, few)
    turns = [{name: side() for name, side in sides.items()} for _ in range(given.turns)]
    return {name: statistics.median(turn[name] for turn in turns) for name in sides}


def comparison(given: argparse.Namespace) -> Table:
    """All models, all sides."""
    processes = Processes()
    table = Table(title=f"ms per trial; {given.trials} trials, {given.epochs:g} epochs, {_machine()}")
    sides = ("plain", "plain, threads", "plain at once", "loop", "one", "one process", "workers", "ceiling")
    for heading in ("model", *sides, "plain / workers", "plain / one process", "plain / one", "share of ceiling"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for name in given.models:
        label, overrides = SETTINGS[name]
        t = compare(overrides, given, processes)
        best = min(t["plain"], t["plain, threads"])
        ratios = [f"{best / t[side]:.2f}x" for side in ("workers", "one process", "one")]
        table.add_row(label, *(f"{1000 * t[s]:.2f}" for s in sides), *ratios, f"{t['ceiling'] / t['workers']:.0%}")
    processes.close()
    table.caption = f"{count_cores()} processes started and imported in {processes.start_seconds:.1f} s, not counted"
    return table


def scaling(given: argparse.Namespace) -> Table:
    """Cost of a trial in stacks of different sizes, each in fresh processes."""
    table = Table(title=f"worker processes; {given.epochs:g} epochs, {_machine()}")
    for heading in ("model", "trials", "ms per trial", "against 128", "peak memory of a process"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for name in given.models:
        label, overrides = SETTINGS[name]
        found = {size: _scaled(plan(overrides, size, given.epochs), given.turns) for size in SIZES}
        for size, (seconds, peak) in found.items():
            row = (f"{1000 * seconds:.2f}", f"{seconds / found[128][0]:.2f}", f"{peak / 1024:.0f} MB")
            table.add_row(label, str(size), *row)
    return table


def _scaled(stack: Stack, turns: int) -> tuple[float, int]:
    """Median seconds per trial, and the largest peak of a process in kilobytes."""
    processes = Processes()
    processes.over(stacked, stack.trials[: 2 * count_cores()])  # warm up
    turns = turns if len(stack.trials) < 1000 else 1
    seconds = statistics.median(ours(stack, processes) for _ in range(turns))
    peak = max(processes.over(stacked, stack.trials[: count_cores()]))
    processes.close()
    return seconds / len(stack.trials), peak


def _machine() -> str:
    return f"torch {torch.__version__}, {count_cores()} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=256)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--epochs", type=float, default=60)
    parser.add_argument("--models", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--scaling", action="store_true")
    given = parser.parse_args()
    quiet()
    register_choices()
    Console(width=200).print(scaling(given) if given.scaling else comparison(given))


if __name__ == "__main__":
    main()
