"""Tries what nobody should have to try by hand: odd command lines, hostile records, and losses that misbehave.

    python scripts/verify/fuzz.py [commands|records|losses ...] [--cases 200] [--seed 0] [--table docs/reliability.md]

All is drawn from a seed. Each case runs in a forked process in which everything is imported already: a thousand cold
starts would take hours. A case is a fault where the program

- ends with another exit code than 0 (all is well), 1 (a trial or a folder failed), 2 (bad input) or 130 (Ctrl-C),
- shows a traceback, or says nothing though it failed,
- refuses something in more than `LONGEST` characters, or in a line that does not say what was given,
- runs longer than `SECONDS`, or
- executes what a record names, takes other losses down, or changes their numbers.

`survive.py` does the same with kills. Prints a line per fault with the command that shows it, and a table of counts.
"""

import argparse
import json
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))  # for the fork server that the tests have

from commands import Command, Outcome  # noqa: E402

SECONDS = 30.0
LONGEST = 2000
CODES = (0, 1, 2, 130)
SHORT = ("seeds=1", "rates=[0]", "epochs=0.5", "workers=1", "evaluations=2")


@dataclass
class Report:
    """What was tried, by campaign and by how it ended, and the faults."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, campaign: str, case: str, ending: str, faults: list[str]) -> None:
        """Count a case, and keep and print its faults."""
        self.counts[campaign, "fault" if faults else ending] += 1
        for fault in faults:
            self.faults.append(f"{campaign}: {fault}: {case}")
            print(self.faults[-1], flush=True)

    def render(self) -> str:
        """Return a Markdown table: a line per campaign, a column per ending."""
        endings = sorted({ending for _, ending in self.counts} | {"fault"})
        lines = [["campaign", "cases", *endings], ["---", "---:", *["---:"] * len(endings)]]
        for campaign in dict.fromkeys(name for name, _ in self.counts):
            counts = [self.counts[campaign, ending] for ending in endings]
            lines.append([campaign, str(sum(counts)), *map(str, counts)])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def run(folder: Path, *arguments: str) -> tuple[Outcome | None, float]:
    """Return how `lossbench ARGUMENTS` ends in a folder, None if it has to be killed, and its seconds."""
    started = time.monotonic()
    command = Command(folder, "-m", "lossbench", *arguments)
    try:
        while command.poll() is None and time.monotonic() - started < SECONDS:
            time.sleep(0.005)
        return (None if command.poll() is None else command.wait()), time.monotonic() - started
    finally:
        command.close()


def judge(outcome: Outcome | None) -> list[str]:
    """Return what is wrong with how any command has ended."""
    if outcome is None:
        return [f"it runs longer than {SECONDS:.0f} s"]
    code, out, err = outcome
    faults = []
    if code not in CODES:
        faults.append(f"exit code {code}")
    if "Traceback (most recent call last)" in err + out:
        faults.append(f"a traceback ({(err + out).strip().splitlines()[-1][:100]})")
    if code in (1, 2) and not err.strip():
        faults.append("it failed without a word")
    if code == 0 and not (out + err).strip():
        faults.append("no output at all")
    if code == 2 and len(err) > LONGEST:
        faults.append(f"a message of {len(err)} characters")
    return faults


# command lines


VALUES = (
    *("0", "-1", "1e300", "1e-300", "nan", "inf", "-inf", "null", "true", "''", "[]", "{}", "[1,2]", "[0,0]", "{a:1}"),
    *("foo", "é", "a b", "0.5", "3", "1.5", "'[1'", "${oops}", "${seeds}", "???", "!!python/none", "../x", "\\0", "%s"),
)
CASES = Path(__file__).with_name("settings.txt")


def draw_commands(draw: random.Random) -> Iterator[list[str]]:
    """Yield command lines: first those that were faults once, then settings with odd values, names and syntax."""
    from lossbench import registry
    from lossbench.config.schema import SETTINGS

    yield from (line.split(" ") for line in CASES.read_text().splitlines() if line.strip())
    paths = sorted(SETTINGS)
    groups = {"loss": registry.losses, "data": registry.datasets, "model": registry.models, "task": registry.tasks}
    while True:
        kind = draw.choice(("setting", "setting", "field", "name", "list", "pair", "syntax", "verb"))
        if kind == "setting":
            yield [f"{draw.choice(paths)}={draw.choice(VALUES)}"]
        elif kind == "pair":
            yield [f"{path}={draw.choice(VALUES)}" for path in draw.sample(paths, 2)]
        elif kind == "name":
            group = draw.choice(list(groups))
            name = draw.choice(sorted(groups[group].entries()))
            spot = draw.randrange(len(name))
            yield [f"{group}={name[:spot]}{draw.choice(('', 'x', '_', '-', '/'))}{name[spot + 1 :]}"]
        elif kind == "field":
            name = draw.choice(("huber", "quantile", "barron", "combined", "external", "student_t_nll"))
            yield [
                f"loss={name}",
                f"loss.{draw.choice(('delta', 'tau', 'alpha', 'terms', 'target'))}={draw.choice(VALUES)}",
            ]
        elif kind == "list":
            yield [
                f"{draw.choice(('losses', 'weightings', 'corruptions', 'seeds', 'rates', 'lr'))}={draw.choice(VALUES)}"
            ]
        elif kind == "syntax":
            yield [
                draw.choice(
                    ("=", "==1", "a", "+a=1", "~loss", "~seeds", "++x.y=1", "-x", "--foo", "-m", "loss", "@", "=")
                )
            ]
        else:
            verb = draw.choice(("compare", "describe", "check", "plot", "losses", "tasks", "plugins", "bogus"))
            yield [verb, draw.choice(("huber", "", "nowhere", "--json", "--x", "loss=1", "a=b", "..", "é", "-h"))]


def try_commands(report: Report, cases: int, draw: random.Random) -> None:
    """Run odd command lines. What they train is as short as can be, unless they say otherwise themselves."""
    with tempfile.TemporaryDirectory() as place:
        for number, arguments in zip(range(cases), draw_commands(draw), strict=False):
            folder = Path(place, str(number))
            folder.mkdir()
            typed = {argument.partition("=")[0] for argument in arguments}
            is_verb = "=" not in arguments[0] and not arguments[0].startswith("-") and arguments[0].isalpha()
            short = [] if is_verb else [s for s in SHORT if s.partition("=")[0] not in typed]
            outcome, _ = run(folder, *arguments, *short)
            faults = judge(outcome)
            report.add("commands", " ".join(arguments), f"exit {outcome.returncode}" if outcome else "", faults)
            shutil.rmtree(folder, ignore_errors=True)


# records


def damage(folder: Path, draw: random.Random) -> str:
    """Do something to a folder of records that a disk, a person or an attacker could do; return what."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "tensorboard" not in path.parts]
    path = draw.choice([p for p in files if p.suffix in {".parquet", ".yaml"}])
    kind = draw.choice(
        ("bit", "cut", "empty", "remove", "text", "swap", "column", "target", "name", "folder", "fifo", "link")
    )
    data = path.read_bytes()
    if kind == "bit" and data:
        spot = draw.randrange(len(data))
        path.write_bytes(data[:spot] + bytes([data[spot] ^ 1 << draw.randrange(8)]) + data[spot + 1 :])
    elif kind == "cut":
        path.write_bytes(data[: draw.randrange(len(data) + 1)])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "remove":
        path.unlink()
    elif kind == "text":
        path.write_text(
            draw.choice(
                (
                    "x",
                    "{}",
                    "[]",
                    "null",
                    "loss: {name: [",
                    "\x00" * 50,
                    "!!python/object/apply:os.system [touch EXECUTED]",
                )
            )
        )
    elif kind == "swap":
        other = draw.choice(files)
        path.write_bytes(other.read_bytes())
    elif kind == "column":
        path = draw.choice([p for p in files if p.name == "trials.parquet"])
        table = pd.read_parquet(path)
        name = draw.choice(list(table))
        change = draw.choice(
            (lambda c: None, lambda c: "<script>alert(1)</script>", lambda c: "=cmd()|'/c x'!A0", lambda c: -1e308)
        )
        (table.drop(columns=name) if draw.random() < 0.3 else table.assign(**{name: change(name)})).to_parquet(path)
    elif kind == "target":
        path = draw.choice([p for p in files if p.name == "config.yaml"])
        text = path.read_text()
        hostile = "loss:\n  name: external\n  target: subprocess.Popen\n  params: {args: 'touch EXECUTED', shell: true}"
        path.write_text(re.sub(r"loss:\n(  .*\n)*", hostile + "\n", text))
    elif kind == "name":
        path = path.parent
        path.rename(
            path.with_name(draw.choice(("..x", "a\nb", "<b>", "trials.parquet", "x" * 200, "é", "$(touch EXECUTED)")))
        )
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "fifo":
        import os

        path.unlink()
        os.mkfifo(path)
    else:
        path.unlink()
        path.symlink_to(draw.choice((folder, Path("/dev/null"), Path("/nowhere"), path)))
    return f"{kind} {path.relative_to(folder)}"


def try_records(report: Report, cases: int, draw: random.Random) -> None:
    """Damage a good folder of records; compare it, train what it holds again, and draw it."""
    with tempfile.TemporaryDirectory() as place:
        good = Path(place, "good")
        good.mkdir()
        study = ("losses=[mse,huber]", "seeds=2", "rates=[0,0.2]", "epochs=1", "workers=1", "evaluations=2")
        outcome, _ = run(good, *study)
        if outcome is None or outcome.returncode:
            raise RuntimeError(f"the study to be damaged cannot be trained: {outcome}")
        commands = (
            ("compare", "results"),
            ("compare", "results", "--json"),
            ("compare", "results", "--format", "csv"),
            ("compare", "results", "--tensorboard"),
            study,
        )
        for number in range(cases):
            folder = Path(place, str(number))
            shutil.copytree(good, folder)
            what = damage(folder / "results", draw)
            command = draw.choice(commands)
            outcome, _ = run(folder, *command)
            faults = judge(outcome)
            if list(folder.rglob("EXECUTED")):
                faults.append("it executes what the records hold")
            if command == study and outcome and outcome.returncode == 0:
                again, _ = run(folder, "compare", "results")
                if again is None or again.returncode not in (0, 1):
                    faults.append("after training again it cannot be compared")
            report.add(
                "records", f"{what}; {' '.join(command)}", f"exit {outcome.returncode}" if outcome else "", faults
            )
            for path in folder.rglob("*"):  # a link to itself cannot be followed
                with suppress(OSError):
                    if path.is_fifo():
                        path.unlink()
            shutil.rmtree(folder, ignore_errors=True)


# losses

HEAD = '''
import os, random, signal, sys, time
import torch, lossbench


@lossbench.loss(tasks=("regression",), requires=("progress",))
def odd(prediction, target, *, progress=0.0):
    """Squared error that misbehaves late."""
    late = progress > {after}
    losses = (prediction - target).square().mean(-1)
{body}
    return losses
'''
ODD = {
    "raises": "    if late: raise RuntimeError('on purpose')",
    "exits": "    if late: sys.exit(0)",
    "nan": "    if late: losses = losses * float('nan')",
    "inf": "    if late: losses = losses / 0",
    "complex": "    if late: losses = losses.to(torch.complex64)",
    "int": "    if late: losses = losses.long()",
    "shape": "    if late: losses = losses.unsqueeze(-1)",
    "scalar": "    if late: losses = losses.mean()",
    "none": "    if late: losses = None",
    "float": "    if late: losses = 1.0",
    "detached": "    if late: losses = losses.detach()",
    "nograd": "    if late: torch.set_grad_enabled(False)",
    "inplace": "    if late:\n        with torch.no_grad(): prediction.clamp_(-3, 3)",
    "target": "    if late: target.zero_()",
    "prints": "    print('debug')",
    "warns": "    import warnings; warnings.warn('careful')",
    "seeds": "    torch.manual_seed(0); random.seed(0)",
    "threads": "    torch.set_num_threads(1)",
    "dtype": "    if late: torch.set_default_dtype(torch.float64)",
    "folder": "    if late: os.chdir('/')",
    "environment": "    if late: os.environ.clear()",
    "signals": "    if late: signal.signal(signal.SIGINT, signal.SIG_IGN)",
    "recursion": "    if late: odd(prediction, target, progress=progress)",
    "stdout": "    if late: sys.stdout = None",
    "slow": "    if late: time.sleep(0.01)",
}
BLAMELESS = ("prints", "warns", "seeds", "threads", "folder", "environment", "signals", "stdout", "slow", "dtype")
"""These train to their end: what they do is no fault of their numbers."""


def try_losses(report: Report, cases: int, draw: random.Random) -> None:
    """Train a loss that misbehaves beside two that do not: these must end, with the numbers that they have alone."""
    with tempfile.TemporaryDirectory() as place:
        names = [name for _, name in zip(range(cases), iterate(list(ODD), draw), strict=False)]
        study = ("task=regression", "seeds=2", "rates=[0]", "epochs=4", "workers=1", "evaluations=4")
        alone = Path(place, "alone")
        alone.mkdir()
        outcome, _ = run(alone, "losses=[mae,huber]", *study)
        if outcome is None or outcome.returncode:
            raise RuntimeError(f"the blameless losses cannot be trained: {outcome}")
        expected = read_trials(alone)
        for number, name in enumerate(names):
            folder = Path(place, str(number))
            folder.mkdir()
            after = 0.6 if number < len(ODD) else draw.choice((-1, 0.0, 0.3, 0.9))
            (folder / "odd.py").write_text(HEAD.format(after=after, body=ODD[name]))
            arguments = ["plugins=[odd.py]", "losses=[mae,huber,odd]", *study]
            if as_json := draw.random() < 0.3:
                arguments.insert(0, "--json")
            outcome, _ = run(folder, *arguments)
            faults = judge(outcome)
            found = read_trials(folder)
            for loss in ("mae", "huber"):
                if loss not in found.index:
                    faults.append(f"{loss} was taken down")
                elif not found.loc[loss].equals(expected.loc[loss]):
                    faults.append(f"{loss} has other numbers")
            if outcome and name not in BLAMELESS and "odd" not in outcome.stderr + outcome.stdout:
                faults.append("the culprit is not named")
            if outcome and as_json and outcome.returncode in (0, 1):
                try:
                    json.loads(outcome.stdout)
                except ValueError:
                    faults.append("--json prints no document")
            report.add("losses", f"{name} after {after}", f"exit {outcome.returncode}" if outcome else "", faults)
            shutil.rmtree(folder, ignore_errors=True)


def iterate(names: list[str], draw: random.Random) -> Iterator[str]:
    """Yield each name once, then any."""
    yield from names
    while True:
        yield draw.choice(names)


def read_trials(folder: Path) -> pd.DataFrame:
    """Return the metric of the trials of a folder that ended well, by loss."""
    tables = [pd.read_parquet(path) for path in folder.rglob("trials.parquet")]
    if not tables:
        return pd.DataFrame(index=pd.Index([], name="loss"))
    table = pd.concat(tables)
    table = table[table["status"] == "finished"].sort_values("seed").set_index("loss")
    return table.reindex(columns=["seed", "test/mae/last", "validation/mae/last"]).sort_index(kind="stable")


CAMPAIGNS: dict[str, Callable[[Report, int, random.Random], None]] = {
    "commands": try_commands,
    "records": try_records,
    "losses": try_losses,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaigns", nargs="*", default=list(CAMPAIGNS))
    parser.add_argument("--cases", type=int, default=200, help="of each campaign")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    report = Report()
    for name in options.campaigns:
        CAMPAIGNS[name](report, options.cases, random.Random(f"{name} {options.seed}"))
    print(f"\n{report.render()}")
    return int(bool(report.faults))


if __name__ == "__main__":
    sys.exit(main())
