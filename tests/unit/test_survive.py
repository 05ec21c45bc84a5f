"""`scripts/survive.py` notices what it is there to notice: each kind of fault, put in on purpose."""

import importlib.util
import os
import random
import signal
import sys
from pathlib import Path

import pandas as pd
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "survive.py"

PROGRAM = '''
"""Stands in for lossbench: ten trials with a checkpoint of the next. Its first start is killed after half of them."""
import os, pathlib, signal, subprocess, sys, time
import pandas as pd

mode, folder = sys.argv[1], pathlib.Path(sys.argv[2])
checkpoints = folder / ".training" / "part"
checkpoints.mkdir(parents=True, exist_ok=True)
start = int(folder.joinpath("starts").read_text()) + 1 if folder.joinpath("starts").exists() else 1
folder.joinpath("starts").write_text(str(start))
again = start > 1
if mode == "orphan":
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdout=subprocess.DEVNULL)
if mode == "error" and again:
    sys.exit(3)
if mode == "loses" and again:
    for path in folder.glob("*.parquet"):
        table = pd.read_parquet(path)
        table[table.trial != table.trial.iloc[0]].to_parquet(path)


def save(name, rows):
    path = folder / name
    table = pd.DataFrame(rows)
    if path.exists():
        table = pd.concat([pd.read_parquet(path), table])
    table.to_parquet(folder / "part")
    (folder / "part").rename(path)


done = set(pd.read_parquet(folder / "trials.parquet").trial) if (folder / "trials.parquet").exists() else set()
if mode == "retrains" and again and done:
    table = pd.read_parquet(folder / "trials.parquet")
    table.assign(wall_seconds=time.time()).to_parquet(folder / "trials.parquet")
with (folder / "lossbench.log").open("a") as log:
    if mode != "restarts" and list(checkpoints.glob("*.pt")):
        log.write("a part goes on after step 3\\n")
for i in range(10):
    if f"t{i}" in done:
        continue
    (checkpoints / "x.pt").write_text("")
    if i == 5 and not again and mode != "undisturbed":
        os.kill(os.getpid(), signal.SIGKILL)
    status = "failed" if mode == "status" and again and i == 9 else "finished"
    reason = "another" if mode == "reason" and again and i == 9 else ""
    curve = 0.5 if mode == "curve" and again and i == 9 else 1.0
    if mode == "unsaved" and again and i == 9:
        continue
    save("curves.parquet", [{"trial": f"t{i}", "step": s, "seconds": time.time(), "value": curve} for s in (0, 1)])
    save("trials.parquet", [{"trial": f"t{i}", "status": status, "reason": reason, "wall_seconds": time.time()}])
(checkpoints / "x.pt").unlink(missing_ok=True)
'''

FAULTS = {
    "loses": "differs: .*seconds",
    "unsaved": "1 trials are lost",
    "retrains": r"trials\.parquet differs: .*wall_seconds",
    "status": r"trials\.parquet differs: .*status",
    "reason": r"trials\.parquet differs: .*reason",
    "curve": r"curves\.parquet differs: .*value",
    "orphan": "processes have outlived their parent",
    "restarts": "nothing went on from them",
    "error": "ended with exit code 3",
}


@pytest.fixture
def survive(monkeypatch):
    spec = importlib.util.spec_from_file_location("survive", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SOONEST", 60.0)  # the stand-in is killed by its own hand
    return module


@pytest.fixture
def study(survive, tmp_path):
    """A function that lets the stand-in be killed, and judges what it leaves against an undisturbed run."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def sweep(mode, name):
        made = survive.Sweep(tmp_path / name, 1, 1)
        made.command = [sys.executable, str(program), mode, str(made.folder)]
        return made

    def judge(mode):
        undisturbed, killed = sweep("undisturbed", "undisturbed"), sweep(mode, "killed")
        marks.append(killed.mark)
        assert not undisturbed.run()
        counts = killed.survive(60.0, random.Random(0), 1)
        survive.check_equal(survive.read_tables(undisturbed.folder), survive.read_tables(killed.folder))
        return counts

    marks = []
    yield judge
    for process in survive.find_orphans(marks[0]):
        os.kill(process, signal.SIGKILL)


@pytest.mark.slow
def test_a_program_that_survives_passes(study, capfd):
    assert study("honest") == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("mode", FAULTS)
def test_each_fault_is_noticed(survive, study, monkeypatch, mode):
    monkeypatch.setattr(survive, "GRACE", 0.3)
    with pytest.raises(survive.Fault, match=FAULTS[mode]):
        study(mode)


def test_what_is_lost_at_a_kill_is_noticed(survive):
    before = {"trials.parquet": pd.DataFrame({"trial": ["a", "b"], "status": "finished"})}
    with pytest.raises(survive.Fault, match="1 finished trials were lost"):
        survive.check_kept(before, {name: table[1:] for name, table in before.items()})
    with pytest.raises(survive.Fault, match=r"trials\.parquet is gone"):
        survive.check_kept(before, {})
    survive.check_kept(before, before)
