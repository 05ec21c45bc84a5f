"""Kills a sweep at random moments, starts it again, and compares its records with those of an undisturbed run.

In float64 they must be equal to the last digit, nothing that was on record may be missing after a kill, and no process
may outlive its parent. Prints a line per kill.

    python scripts/survive.py [--kills 30] [--workers 2] [--seed 0]
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

SWEEP = ("task=regression", "losses=[mse,huber,tukey]", "seeds=20", "rates=[0,0.2,0.4]", "precision=64")


def command(folder: Path, workers: int, epochs: int) -> list[str]:
    sweep = [*SWEEP, f"epochs={epochs}", f"workers={workers}", f"output={folder}"]
    return [sys.executable, "-m", "lossbench", *sweep, "--quiet"]


def on_record(folder: Path) -> pd.DataFrame:
    """Numbers of all trials, by id; the time that they took left out."""
    tables = [pd.read_parquet(p) for p in folder.rglob("trials.parquet")]
    if not tables:
        return pd.DataFrame()
    table = pd.concat(tables).set_index("trial").sort_index()
    return table.select_dtypes("number").drop(columns="wall_seconds")


def orphans(folder: Path) -> list[str]:
    """Processes that still have the study in their command line, or a file of it open."""
    found = subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True, check=False)
    return found.stdout.split()


def killed_once(folder: Path, given: argparse.Namespace, longest: float, draw: random.Random) -> bool:
    """Run until a random moment; true if it was killed, false if it had ended before."""
    before = on_record(folder)
    process = subprocess.Popen(command(folder, given.workers, given.epochs))
    moment = draw.uniform(2, longest)
    try:
        process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        process.kill()
    code = process.wait()
    time.sleep(1)
    now = on_record(folder)
    assert set(before.index) <= set(now.index), "finished work was lost"
    assert not orphans(folder), "a process has outlived its parent"
    checkpoints = len(list((folder / ".training").glob("*/*.pt")))
    print(f"after {moment:5.1f} s: {len(now):4d} trials on record, {checkpoints} checkpoints", flush=True)
    return code != 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    draw, kills, resumed = random.Random(given.seed), 0, 0
    with tempfile.TemporaryDirectory() as place:
        reference = Path(place, "undisturbed")
        started = time.perf_counter()
        subprocess.run(command(reference, given.workers, given.epochs), check=True)
        seconds = time.perf_counter() - started
        wanted = on_record(reference)
        print(f"undisturbed: {len(wanted)} trials in {seconds:.1f} s", flush=True)
        sweep = 0
        while kills < given.kills:
            sweep += 1
            folder = Path(place, f"killed{sweep}")
            while kills < given.kills and killed_once(folder, given, 0.7 * seconds, draw):
                kills += 1
            subprocess.run(command(folder, given.workers, given.epochs), check=True)
            pd.testing.assert_frame_equal(on_record(folder), wanted, check_exact=True)
            resumed += len(re.findall("goes on after step", (folder / "lossbench.log").read_text()))
    print(f"{kills} kills in {sweep} sweeps, {resumed} parts went on from a checkpoint: all records are equal.")


if __name__ == "__main__":
    main()
