"""How long `lossbench compare` takes over many records: made-up trials, in as many folders as asked for.

Each folder holds one loss at one learning rate, over 4 corruption rates and as many seeds as it takes, with curves of
21 evaluations and the scores of 200 test rows at the last and the best epoch. Times are seconds of wall clock and of
the processor, after the imports; the best of the turns, since what else runs on the machine only ever adds.

    python scripts/bench_compare.py [--trials 10000] [--folders 100] [--turns 5] [--profile]
"""

import argparse
import contextlib
import cProfile
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from lossbench.cli.commands.compare import run_compare
from lossbench.cli.output import OutputMode
from lossbench.records import Record, save

RATES = (0.0, 0.1, 0.2, 0.4)
LRS = (0.0003, 0.001, 0.003, 0.01, 0.03)
N_TEST, EVALUATIONS, STEPS = 200, 21, 500
FIXED = {
    "task": "regression", "data": "friedman1", "model": "mlp", "head": "linear", "weighting": "none",
    "corruption": "outliers", "optimizer": "adamw", "batch_size": 64, "epochs": 50.0, "validation": "corrupted",
    "metric": "mae", "higher_is_better": False, "transform": "mean", "perfect": 0.0,
    "baseline_predictor": 4.1, "target": 2.0,
    "wall_seconds": 0.1, "status": "finished", "reason": "", "steps": STEPS,
}  # fmt: skip


def made_up(loss: str, lr: float, rate: float, seed: int) -> Record:
    """One trial's record: plausible curves and scores."""
    draw = np.random.default_rng(abs(hash((loss, lr, rate, seed))))
    easy = np.random.default_rng(1).exponential(size=N_TEST)
    scores = {e: (1 + rate) * easy * draw.uniform(0.5, 1.5, N_TEST) for e in ("last", "best")}
    steps = np.linspace(0, STEPS, EVALUATIONS).astype(int)
    curve = scores["last"].mean() + 3 * np.exp(-6 * steps / STEPS)
    curves = {(split, m): curve for split in ("validation", "test") for m in ("mae", "rmse", "r2")}
    curves |= {("train", m): curve for m in ("loss", "gradient_norm")}
    ends = {f"{s}/{m}/{e}": float(scores[e].mean()) for (s, m) in curves if s != "train" for e in scores}
    trial = f"{abs(hash((loss, lr, rate, seed))):016x}"[:16]
    row = (
        FIXED
        | {"loss": loss, "lr": lr, "corruption_rate": rate, "seed": seed, "realised_rate": rate, "best_step": 500}
        | ends
    )
    return Record(trial, row, steps, steps * 0.006, curves, np.arange(N_TEST), scores)


def write(root: Path, trials: int, folders: int) -> None:
    """`trials` records below `root`."""
    seeds = range(trials // folders // len(RATES))
    for n in range(folders):
        loss, lr = f"loss_{n // len(LRS)}", LRS[n % len(LRS)]
        save(root / f"{loss}-{lr:g}", [made_up(loss, lr, rate, seed) for rate in RATES for seed in seeds], {})


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of wall clock, and of the processor."""
    wall, used = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - used


@contextlib.contextmanager
def profiled(wanted: bool) -> Iterator[None]:
    profile = cProfile.Profile()
    if wanted:
        profile.enable()
    yield
    if wanted:
        profile.disable()
        profile.print_stats("cumulative")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"trials": 10_000, "folders": 100, "turns": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--profile", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), asked.trials, asked.folders)
        with contextlib.redirect_stdout(io.StringIO()):
            times = [timed(lambda: run_compare([folder], OutputMode.TABLE)) for _ in range(asked.turns)]
        wall, used = min(t for t, _ in times), min(t for _, t in times)
        print(f"{asked.trials} trials in {asked.folders} folders: {wall:.2f} s, {used:.2f} s of the processor")
        with profiled(asked.profile), contextlib.redirect_stdout(io.StringIO()):
            run_compare([folder], OutputMode.TABLE)


if __name__ == "__main__":
    main()
