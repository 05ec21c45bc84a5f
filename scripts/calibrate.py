"""Does the pipeline keep its promises? Whole comparisons, repeated over many draws of data whose truth is known.

A repeat is what `protocol=tuned` does on one draw: for each of eight losses the learning rate with the best validation
metric over ten tuning seeds, the grid being widened where the best is at its edge; 20 fresh paired seeds at the choice;
records; `lossbench compare`. What it then says is held against the truth, which `--truth` measures by itself: the
metric on noise-free test rows at every learning rate, over draws that no repeat uses.

    python scripts/calibrate.py --repeats 200 --processes 16 --output repeats.jsonl
    python scripts/calibrate.py --truth --repeats 40 --output truth.jsonl
    python scripts/calibrate.py --summarise repeats.jsonl truth.jsonl

Each repeat is a line of the output file, written when it ends; those that are there are not done again. `--first`
makes pieces for several machines; `--summarise` joins any number of files.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # what trains is imported once the process knows how many cores it may use
    from omegaconf import DictConfig

    from lossbench.analysis.comparison import RateComparison
    from lossbench.analysis.study import Study
    from lossbench.config.choices import Experiment
    from lossbench.records import Record

HERE = Path(__file__).resolve().parent
PLUGIN = HERE / "scenarios.py"
TRUTH = 1_000_000
"""The first draw by which the truth is measured."""
CLONES = 8


@dataclass(frozen=True)
class Sizes:
    """How much a repeat trains."""

    seeds: int = 20
    tuning_seeds: int = 10
    grid_extensions: int = 1
    epochs: float | None = None


@dataclass(frozen=True)
class Scenario:
    """Data, settings and losses; and which of them are right (as good as the best), and wrong, as was measured."""

    data: dict[str, Any]
    losses: tuple[Any, ...]
    right: tuple[str, ...]
    wrong: tuple[str, ...] = ()
    metric: str = "rmse"
    task: str = "regression"
    corruption: Any = "none"
    rate: float = 0.0
    width: int = 64
    batch_size: int = 64
    epochs: float = 16
    lrs: tuple[float, ...] = (0.01, 0.03, 0.1)
    most: float = 5.0  # wanted of the mean size of the recommended set
    null: bool = False  # all losses are equal
    clones: bool = False  # of one loss


def noisy(noise: str) -> dict[str, Any]:
    return {"name": "noisy", "noise": noise}


ROBUST = ("mse", "mae", "huber", "cauchy", "welsch", "tukey", "geman_mcclure", "epsilon_insensitive")
SCALED = ("mse", "mae", "huber", "gaussian_nll", "beta_nll", "laplace_nll", "student_t_nll", "crps_gaussian")
COUNTED = ("poisson_nll", "negative_binomial", "tweedie", "mse", "mae", "huber", "msle", "log_cosh")
LEANING = (
    {"name": "quantile", "tau": 0.9}, {"name": "expectile", "tau": 0.9}, {"name": "quantile", "tau": 0.75},
    {"name": "expectile", "tau": 0.75}, "mse", "mae", "huber", "tukey",
)  # fmt: skip
LABELS = (
    *("cross_entropy", "focal_softmax", "brier", "normalized_cross_entropy"),
    *("generalized_cross_entropy", "symmetric_cross_entropy", "mae_softmax", "nce_rce"),
)
TAIL = (
    *("cross_entropy", "logit_adjusted", "focal_softmax", "brier"),
    *("poly1", "square_on_logits", "multi_margin", "generalized_cross_entropy"),
)
FLIPPED = {
    "task": "multiclass",
    "metric": "accuracy",
    "corruption": "symmetric_flips",
    "batch_size": 16,
    "epochs": 5.0,
    "lrs": (0.002, 0.006, 0.02),
}
SCENARIOS = {
    "gaussian": Scenario(noisy("gaussian"), ROBUST, right=("mse", "huber", "tukey", "cauchy"), wrong=("mae",)),
    "laplace": Scenario(noisy("laplace"), ROBUST, right=("mae", "epsilon_insensitive"), wrong=("mse",)),
    # welsch: 4% behind at the best rate of each, and the best one at those that validation chooses; see docs/method.md
    "student_t2": Scenario(noisy("student_t2"), ROBUST, right=("welsch", "mae", "epsilon_insensitive"), wrong=("mse",)),
    "one_sided": Scenario(
        noisy("small"), ROBUST, right=("welsch", "tukey"), wrong=("mse", "mae"), rate=0.2, most=2.5,
        corruption={"name": "one_sided_outliers", "low": 10.0, "high": 10.0},
    ),
    "heteroscedastic": Scenario(
        {"name": "uneven"}, SCALED, right=("gaussian_nll", "student_t_nll"), wrong=("mse",), most=3.5
    ),
    "counts": Scenario(
        {"name": "counts"}, COUNTED, metric="poisson_deviance", most=3.5,
        right=("poisson_nll", "tweedie"), wrong=("mse", "msle"),
    ),
    "quantile": Scenario(
        {"name": "upper_edge"}, LEANING, metric="upper_pinball", most=3.5,
        right=("quantile(tau=0.9)",), wrong=("mse", "expectile(tau=0.9)"),
    ),
    "flips_40": Scenario(
        {"name": "drawn_digits"}, LABELS, **FLIPPED, rate=0.4,
        right=("symmetric_cross_entropy", "nce_rce", "generalized_cross_entropy", "mae_softmax"),
        wrong=("cross_entropy",),
    ),
    "flips_60": Scenario(
        {"name": "drawn_digits"}, LABELS, **FLIPPED, rate=0.6,
        right=("symmetric_cross_entropy", "nce_rce"), wrong=("cross_entropy",),
    ),
    "long_tail": Scenario(
        {"name": "long_tail"}, TAIL, task="multiclass", metric="balanced_accuracy", most=3.5, epochs=50,
        lrs=(0.003, 0.01, 0.03),
        right=("logit_adjusted",), wrong=("cross_entropy",),
    ),
    "null_clones": Scenario(noisy("gaussian"), ("mse",), right=(), null=True, clones=True),
    "null_equals": Scenario(
        {"name": "exchangeable"}, tuple({"name": "all_but", "without": float(k)} for k in range(8)), right=(),
        null=True,
    ),
}  # fmt: skip


def single_core() -> None:
    """Processes started from here have one core each, and no GPU: these models are too small for that."""
    from lossbench.training.replicas import get_one_core_environment

    os.environ.update(get_one_core_environment(), CUDA_VISIBLE_DEVICES="")


def ready() -> None:
    """What a process needs before its first repeat."""
    import torch

    from lossbench import plugins
    from lossbench.training import build

    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    plugins.load([str(PLUGIN)])
    build.CPU_REPLICAS = 512  # networks as small as these lose a third of the time in chunks of 128


def end_with(parent: int) -> None:
    """A process whose parent was killed would wait for work for ever."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def configuration(scenario: Scenario, number: int, sizes: Sizes, output: str, **more: Any) -> DictConfig:
    """What a user would have typed."""
    from omegaconf import OmegaConf

    from lossbench.config.schema import Schema

    # initial weights depend on model and seed alone: with seeds of its own a repeat has weights of its own
    seeds = list(range(sizes.seeds * number, sizes.seeds * (number + 1)))
    settings = {
        "task": scenario.task, "data": scenario.data | {"draw": number}, "metric": scenario.metric, "weighting": "none",
        "model": {"name": "mlp", "width": scenario.width, "depth": 1}, "losses": list(scenario.losses),
        "corruption": scenario.corruption, "rates": [scenario.rate], "batch_size": scenario.batch_size,
        "epochs": sizes.epochs or scenario.epochs, "lr": list(scenario.lrs), "evaluations": 2, "seeds": seeds,
        "protocol": {
            "name": "tuned", "seeds": sizes.seeds, "tuning_seeds": sizes.tuning_seeds,
            "grid_extensions": sizes.grid_extensions,
        },
        "split": {"validation": 0.2}, "plugins": [str(PLUGIN)], "output": output,
    }  # fmt: skip
    return OmegaConf.merge(OmegaConf.structured(Schema), settings, more)


def trained(wanted: Sequence[Experiment]) -> list[list[Record]]:
    """The records of each experiment; all train in shared stacks."""
    from lossbench.seeds import group_stacks, trial_id
    from lossbench.training.run import run_stack

    trials = [experiment.list_trials() for experiment in wanted]
    found = {r.trial: r for stack in group_stacks(t for own in trials for t in own) for r in run_stack(stack)}
    return [[found[trial_id(t)] for t in own] for own in trials]


def save(wanted: Sequence[Experiment]) -> None:
    """Train them, and put their records where a command would."""
    from lossbench import records

    for experiment, found in zip(wanted, trained(wanted), strict=True):
        records.save(experiment.folder, found, experiment.to_config())


def tuned(cfg: DictConfig) -> list[Experiment]:
    """The experiments that are reported, once the protocol's rounds of tuning are trained."""
    from lossbench.config.resolve import make_plan
    from lossbench.runner.tuning import choose_settings

    made = make_plan(cfg)
    if not made.protocol.tunes:
        return list(made.experiments)
    steps = choose_settings(made.experiments, made.protocol)
    try:
        while True:
            save(next(steps))
    except StopIteration as ended:
        return list(ended.value)


def train_clones(one: Experiment, number: int, sizes: Sizes) -> None:
    """One loss eight times, each with other seeds on the same draw; its records under eight names, and paired."""
    from lossbench import records

    first = 20_000 + CLONES * sizes.seeds * number
    seeds = [range(first + sizes.seeds * k, first + sizes.seeds * (k + 1)) for k in range(CLONES)]
    clones = [replace(one, seeds=tuple(own)) for own in seeds]
    for k, found in enumerate(trained(clones)):
        named = [replace(r, row=r.row | {"loss": f"clone_{k}", "seed": s}) for s, r in enumerate(found)]
        records.save(one.output / f"clone_{k}", named, one.to_config())


def repeat(name: str, number: int, sizes: Sizes) -> dict[str, Any]:
    """One draw from tuning to verdicts."""
    from lossbench.analysis import study

    scenario, started = SCENARIOS[name], time.process_time()
    with tempfile.TemporaryDirectory(dir=quick_folder()) as folder:
        reported, place = tuned(configuration(scenario, number, sizes, folder)), Path(folder)
        if scenario.clones:
            place /= "clones"
            train_clones(replace(reported[0], output=place), number, sizes)
        else:
            save(reported)
        said = verdicts(study.read_study([place]), scenario)
    lrs = {one.template.loss.label: one.template.optimizer.lr for one in reported}
    line = {"kind": "repeat", "scenario": name, "repeat": number, **said, "lrs": lrs}
    return line | {"seconds": round(time.process_time() - started, 2)}


def quick_folder() -> str | None:
    """Where waiting for the disk costs nothing."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def verdicts(found: Study, scenario: Scenario) -> dict[str, Any]:
    """What a comparison says."""
    from lossbench.analysis.comparison import ComparisonOptions, compare

    (comparison,) = compare(found, ComparisonOptions())
    (level,) = comparison.levels
    values = {row.name: row.summary.last.value if row.summary.last else None for row in level.rows}
    said = {"recommended": list(level.recommended), "values": values, "lost": {}}
    said["lost"] = {row.name: row.summary.n_diverged for row in level.rows if row.summary.n_diverged}
    if scenario.null:
        said["different"] = sorted(differing(found))
        said["by_seeds_alone"] = by_seeds_alone(level)
    return said


def differing(found: Study) -> set[tuple[str, str]]:
    """Pairs of which one is called better: from as many comparisons as there are baselines."""
    from lossbench.analysis.comparison import ComparisonOptions, compare

    names = sorted(set(found.trials["loss"]))
    rows = [(name, row) for name in names for row in compare(found, ComparisonOptions(name))[0].levels[0].rows]
    return {(name, row.name) for name, row in rows if row.vs_baseline and row.vs_baseline.verdict == "worse"}


def by_seeds_alone(level: RateComparison) -> int:
    """How many pairs a paired t over seeds, with Holm's correction, would call different."""
    from scipy.stats import ttest_rel

    from lossbench.analysis.verdicts import adjust_p_values

    table = [level.scale.compute_harm(np.array([*row.summary.values.values()])) for row in level.rows]
    p = [ttest_rel(a, b).pvalue for i, a in enumerate(table) for b in table[:i]]
    return int((adjust_p_values(np.array(p)) < 0.05).sum())


def truth(name: str, number: int, sizes: Sizes) -> dict[str, Any]:
    """The metric on the truth, by loss and learning rate, of two trainings on a draw."""
    from lossbench.config.resolve import make_plan

    scenario, started = SCENARIOS[name], time.process_time()
    if scenario.task == "regression":
        scenario = replace(scenario, data=scenario.data | {"n_test": 2000})
    low, *_, high = scenario.lrs
    more = {"lr": sorted({*scenario.lrs, low / 3, high * 3}), "seeds": [2 * number, 2 * number + 1]}
    cfg = configuration(
        scenario, TRUTH + number, sizes, "unused", **more, protocol={"name": "quick", "tuning_seeds": 0}
    )
    wanted = make_plan(cfg).experiments
    values: dict[str, dict[str, float | None]] = defaultdict(dict)
    for one, found in zip(wanted, trained(wanted), strict=True):
        rows = [r.row for r in found if r.row["status"] == "finished"]
        ends = [row[f"test/{scenario.metric}/last"] for row in rows]
        mean = float(np.mean(ends)) if len(ends) == len(found) else None
        values[one.template.loss.label][f"{one.template.optimizer.lr:.2g}"] = mean
    line = {"kind": "truth", "scenario": name, "repeat": number, "values": values}
    return line | {"seconds": round(time.process_time() - started, 2)}


DO = {"repeat": repeat, "truth": truth}


def work(kind: str, name: str, number: int, sizes: Sizes) -> dict[str, Any]:
    """A line of the output file; what goes wrong is a line, too, and tried again by the next command."""
    try:
        return DO[kind](name, number, sizes)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        return {"kind": "failed", "scenario": name, "repeat": number, "reason": reason, "seconds": 0.0}


def missing(kind: str, asked: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """What is not yet in the output file; scenarios in turns, so that a file cut short has as many of each."""
    path = Path(asked.output)
    lines = [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []
    done = {(line["scenario"], line["repeat"]) for line in lines if line["kind"] == kind}
    for number in range(asked.first, asked.first + asked.repeats):
        yield from ((name, number) for name in asked.scenarios if (name, number) not in done)


def run(asked: argparse.Namespace) -> None:
    """Write one line for each repeat, as they end."""
    kind, sizes = ("truth" if asked.truth else "repeat"), Sizes()
    todo, started = list(missing(kind, asked)), time.time()
    single_core()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Stopped. What has ended is saved."))
    pool = ProcessPoolExecutor(asked.processes, get_context("spawn"), ready)
    try:
        waiting = [pool.submit(work, kind, *one, sizes) for one in todo]
        with Path(asked.output).open("a") as stream:
            for n, future in enumerate(as_completed(waiting), 1):
                line = future.result()
                stream.write(json.dumps(line) + "\n")
                stream.flush()
                if line["kind"] == "failed":
                    tell(f"{line['scenario']} {line['repeat']} failed: {line['reason']}")
                if n % 50 == 0 or n == len(todo):
                    tell(f"{n} of {len(todo)} after {time.time() - started:.0f} s")
    finally:
        pool.shutdown(cancel_futures=True)


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help="names with commas between; all by default")
    for name, default in {"repeats": 200, "first": 0, "processes": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--output", default="calibration.jsonl")
    parser.add_argument("--truth", action="store_true", help="measure the truth: a draw is a repeat")
    parser.add_argument("--summarise", nargs="+", metavar="FILE", help="print tables of what such files hold")
    asked = parser.parse_args(arguments)
    asked.scenarios = asked.scenarios.split(",")
    if unknown := [name for name in asked.scenarios if name not in SCENARIOS]:
        parser.error(f"there is no scenario {unknown[0]!r}. Scenarios: {', '.join(SCENARIOS)}.")
    return asked


def main() -> None:
    asked = parsed()
    if asked.summarise:
        from calibration_tables import tables

        print(tables(asked.summarise, SCENARIOS))
    else:
        run(asked)


if __name__ == "__main__":
    main()
