"""Kills a sweep at random moments, starts it again, and judges what is on record against an undisturbed run.

After each kill nothing that was on record is gone or was trained again, and no process has outlived its parent. A sweep
goes on from the checkpoints that its kills left. At its end every table is the same to the last digit (in float64), but
for clocks. Prints a line per kill, and exits with 1 and the reason at the first fault. Linux.

    python scripts/survive.py [--kills 100] [--workers 2] [--epochs 200] [--seed 0]
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import pandas as pd

SWEEP = (
    *("-m", "batch_size=16,32,64,128", "model.width=16,32", "task=regression", "losses=[mse,huber,tukey]"),
    *("seeds=5", "rates=[0,0.2,0.4]", "precision=64"),
)
"""Eight stacks, which do not train together: some are on record when others are killed."""
CLOCKS = ("wall_seconds", "seconds")
"""Columns that no two runs have alike."""
KEYS = ["trial", "split", "metric", "epoch", "step", "example"]
"""What a table is sorted by, as far as it has it: parts of a sweep are written in the order in which they end."""
MARK = "LOSSBENCH_SURVIVE"
"""A variable of the environment that all processes of a sweep inherit, by which orphans are known."""
SOONEST = 2.0
"""Seconds before a kill, at least."""
GRACE = 5.0
"""Seconds that the children of a killed process have to notice that it is gone."""

Tables = dict[str, pd.DataFrame]


class Fault(Exception):
    """What the program must not do."""


def read_tables(folder: Path, clocks: bool = False) -> Tables:
    """Return all that is on record at or below a folder, by the name of its table, sorted."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for path in sorted(folder.rglob("*.parquet")):
        table = pd.read_parquet(path)
        texts = table.select_dtypes("category").columns  # categories differ where parts were written apart
        parts.setdefault(path.name, []).append(table.astype(dict.fromkeys(texts, object)))
    tables = {}
    for name, some in parts.items():
        table = pd.concat(some, ignore_index=True)
        table = table.sort_values([key for key in KEYS if key in table], ignore_index=True)
        tables[name] = table if clocks else table.drop(columns=list(CLOCKS), errors="ignore")
    return tables


def check_equal(expected: Tables, found: Tables) -> None:
    """Raise `Fault` where a table, a trial, a status, a curve or any other value differs."""
    if expected.keys() != found.keys():
        raise Fault(f"other tables: {sorted(expected)} became {sorted(found)}")
    for name, table in expected.items():
        lost, new = set(table["trial"]) - set(found[name]["trial"]), set(found[name]["trial"]) - set(table["trial"])
        if lost or new:
            raise Fault(f"{name}: {len(lost)} trials are lost and {len(new)} are new")
        try:
            pd.testing.assert_frame_equal(found[name][list(table)], table, check_exact=True, check_like=True)
        except (AssertionError, KeyError) as error:
            raise Fault(f"{name} differs: {' '.join(str(error).split())}") from error


def check_kept(before: Tables, after: Tables) -> None:
    """Raise `Fault` unless all that was on record is there, with the very clocks: trained once, and not again."""
    for name, table in before.items():
        if name not in after:
            raise Fault(f"{name} is gone")
        kept = after[name][after[name]["trial"].isin(table["trial"])].reset_index(drop=True)
        lost = set(table["trial"]) - set(kept["trial"])
        if lost:
            raise Fault(f"{name}: {len(lost)} finished trials were lost")
        check_equal({name: table}, {name: kept})


def find_orphans(mark: str) -> list[int]:
    """Return the processes, zombies apart, that have this mark in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            marked = f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0")
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
        if marked and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def check_no_orphans(mark: str) -> None:
    """Raise `Fault` if a process of a sweep is still there after a while."""
    until = time.monotonic() + GRACE
    while (left := find_orphans(mark)) and time.monotonic() < until:
        time.sleep(0.1)
    if left:
        raise Fault(f"processes have outlived their parent: {left}")


def check_resumed(n_checkpoints: int, n_resumed: int) -> None:
    """Raise `Fault` if a sweep left checkpoints at its kills and never went on from one."""
    if n_checkpoints and not n_resumed:
        raise Fault(f"there were {n_checkpoints} checkpoints, and nothing went on from them")


def count_resumed(folder: Path) -> int:
    """Return how many parts went on from a checkpoint, in all starts of a sweep."""
    path = folder / "lossbench.log"
    return path.read_text().count("goes on after step") if path.exists() else 0


class Sweep:
    """One sweep in a folder, started as often as it is killed."""

    def __init__(self, folder: Path, workers: int, epochs: int) -> None:
        self.folder, self.mark = folder, uuid.uuid4().hex
        self.command = [
            *(sys.executable, "-m", "lossbench", *SWEEP, "--quiet"),
            *(f"epochs={epochs}", f"workers={workers}", f"output={folder}"),
        ]

    def run(self, seconds: float | None = None) -> bool:
        """Run to the end, or until it is killed after so many seconds; return whether it was killed.

        Raises `Fault` if it ends by itself with another code than 0: an error is no kill.
        """
        process = subprocess.Popen(self.command, env=os.environ | {MARK: self.mark})
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        code = process.wait()
        check_no_orphans(self.mark)
        if code not in (0, -signal.SIGKILL):
            raise Fault(f"it ended with exit code {code}")
        return code == -signal.SIGKILL

    def survive(self, longest: float, draw: random.Random, most: int) -> tuple[int, int]:
        """Kill and start again until it ends, `most` times at the most; return how often, and how many parts resumed.

        longest: seconds before a kill, at most.
        """
        kills, n_checkpoints, before = 0, 0, read_tables(self.folder, clocks=True)
        while self.run(moment := draw.uniform(SOONEST, longest) if kills < most else None):
            kills += 1
            after = read_tables(self.folder, clocks=True)
            check_kept(before, after)
            before = after
            left = len(list((self.folder / ".training").glob("*/*.pt")))
            n_checkpoints += left
            n_trials = len(after.get("trials.parquet", ()))
            print(f"after {moment:5.1f} s: {n_trials:4d} trials on record, {left} checkpoints", flush=True)
        check_kept(before, read_tables(self.folder, clocks=True))
        check_resumed(n_checkpoints, resumed := count_resumed(self.folder))
        return kills, resumed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw, kills, resumed, sweeps = random.Random(options.seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as place:
        undisturbed = Sweep(Path(place, "undisturbed"), options.workers, options.epochs)
        started = time.perf_counter()
        undisturbed.run()
        seconds = time.perf_counter() - started
        expected = read_tables(undisturbed.folder)
        print(f"undisturbed: {len(expected['trials.parquet'])} trials in {seconds:.1f} s", flush=True)
        while kills < options.kills:
            sweeps += 1
            sweep = Sweep(Path(place, f"killed{sweeps}"), options.workers, options.epochs)
            some, parts = sweep.survive(0.7 * seconds, draw, options.kills - kills)
            kills, resumed = kills + some, resumed + parts
            check_equal(expected, read_tables(sweep.folder))
    if not resumed:
        raise Fault("no part ever went on from a checkpoint: train longer (--epochs), or resuming is broken")
    print(f"{kills} kills in {sweeps} sweeps, {resumed} parts went on from a checkpoint: all records are equal.")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Fault as fault:
        sys.exit(f"survive: {fault}")
