"""TensorBoard event files: one run per corruption rate, with the mean over seeds, its spread and the HPARAMS tab.

Pictures of predictions, which take longer, are files of their own beside them, written when all is trained.

Written by TensorBoard's own record writer, all at once: no thread, no file kept open, no torch.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary as Scalars
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalars
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.plugins.hparams.summary_v2 import HParam, Metric, hparams_config_pb, hparams_pb
from tensorboard.plugins.image import metadata as images
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util import tensor_util

from lossbench.analysis import Summary, summarise
from lossbench.records import PREDICTIONS, TRIALS, Results, Samples, load, writing
from lossbench.report.pictures import gallery, png
from lossbench.seeds import stable_hash
from lossbench.types import Array, Picture

SPREAD = "variation over seeds"  # sorts, and so is shown, behind test, train and validation
END = "values at the end"
SHOWN = ("corruption", "loss", "metric", "rate", "weighting")  # the five columns that the HPARAMS tab begins with
HIDDEN = ("batch_size", "data", "epochs", "lr", "model", "optimizer", "schedule", "task", "weight_decay")

CURVES, PICTURES = "lossbench", "pictures"
"""How the names of event files end."""
PREDICTED = "test predictions"  # is shown between test and train
MOST_PICTURED = 30
"""Runs whose predictions are drawn at once: a picture takes a tenth of a second, and few are looked at."""


class Point(NamedTuple):
    """What the seeds say of one metric at one step."""

    split: str
    metric: str
    step: int
    seconds: float
    mean: float
    low: float
    high: float

    @property
    def tag(self) -> str:
        """What TensorBoard calls the curve."""
        return f"{self.split}/{self.metric}"


def write(found: Mapping[Path, Results]) -> None:
    """Write each folder's results as ``<folder>/rate=<rate>/``, in place of what was there.

    Many folders at once take a fraction of their time one by one. A run's name is its path below the logdir, of which
    TensorBoard shows the first 35 characters: hence no folder between. Raises RecordError when a folder cannot be
    written.
    """
    summaries = [s for s in summarise(list(found.values())) if _shown(s)]
    points = _points(summaries, found.values())
    runs: dict[Path, list[tuple[Summary, list[Point]]]] = {folder: [] for folder in found}
    home = {trial: folder for folder, results in found.items() for trial in results.trials["trial"]}
    for summary, own in zip(summaries, points, strict=True):
        runs[home[_shown(summary)[0]]].append((summary, own))
    for folder, own_runs in runs.items():
        _write(folder, own_runs)


def draw(folders: Iterable[Path], most: int) -> bool:
    """Draw what the first seed of each run predicts on some test examples, where that can be drawn and is not yet.

    Only the first `most` runs get pictures; whether there are more. Raises RecordError when a folder cannot be written.
    """
    for folder in folders:
        if not (folder / PREDICTIONS).exists():
            continue
        if most <= 0:
            return True
        most -= _draw(folder, most)
    return most < 0


def _draw(folder: Path, most: int) -> int:
    """Draw the first runs of a folder; how many it has."""
    runs, pictured = ({path.parent for path in folder.glob(f"*/*tfevents*{end}")} for end in ("", PICTURES))
    if pictured and runs == pictured:
        return len(runs)
    results = load(folder)
    summaries = [s for s in summarise([results]) if _shown(s)]
    with writing(folder):
        for summary in summaries[:most]:
            run = folder / _run_name(summary, summaries)
            if run not in pictured:
                _put(run, list(_pictures(summary, results, (folder / TRIALS).stat().st_mtime)), PICTURES)
    return len(summaries)


def _pictures(summary: Summary, results: Results, ended: float) -> Iterator[Event]:
    if results.predictions is None or results.samples is None:
        return
    trial = _shown(summary)[0]
    row = results.trials[results.trials["trial"] == trial].iloc[0]
    steps = {"last": row["steps"], "best": row["best_step"]}
    found = results.predictions[results.predictions["trial"] == trial]
    shown = {epoch: np.stack(list(found["values"][found["epoch"] == epoch])) for epoch in found["epoch"].unique()}
    if len(shown) == 2 and np.array_equal(shown["best"], shown["last"], equal_nan=True):
        del shown["best"]
    for epoch in sorted(shown, key=lambda epoch: int(steps[epoch])):
        value = _picture(f"{PREDICTED}/{epoch}", results.samples, shown[epoch], int(row["seed"]))
        yield Event(wall_time=ended, step=int(steps[epoch]), summary=Scalars(value=[value]))


def _picture(tag: str, samples: Samples, predictions: Array, seed: int) -> Scalars.Value:
    kind = Picture(samples.kind)
    figure = gallery(kind, samples.inputs, samples.targets, predictions, samples.class_names, columns=4)
    width, height = (int(side) for side in figure.bbox.size)
    text = f"The first {len(predictions)} test examples; seed {seed}. At most {MOST_PICTURED} runs have pictures."
    return Scalars.Value(
        tag=tag,
        metadata=images.create_summary_metadata(tag, text),
        tensor=tensor_util.make_tensor_proto([str(width).encode(), str(height).encode(), png(figure)]),
    )


def _write(folder: Path, runs: Sequence[tuple[Summary, list[Point]]]) -> None:
    summaries = [summary for summary, _ in runs]
    started = _started(folder, [points for _, points in runs])
    with writing(folder):
        for summary, points in runs:
            _put(folder / _run_name(summary, summaries), list(_events(summary, points, started)))


def _shown(summary: Summary) -> tuple[str, ...]:
    """The trials that a run is made of: diverged ones only where there is no other."""
    return summary.trials or summary.diverged


def stale(folder: Path) -> bool:
    """Whether `folder` has records that are newer than its curves, as after a kill in between."""
    if not (folder / TRIALS).exists():
        return False
    written = [path.stat().st_mtime_ns for path in folder.glob(f"*/*tfevents*{CURVES}")]
    return max(written, default=0) < (folder / TRIALS).stat().st_mtime_ns


def _run_name(summary: Summary, summaries: Sequence[Summary]) -> str:
    """`rate=0.1`, preceded by what else tells the folder's runs apart."""
    known = [_settings(other) for other in summaries]
    mine = _settings(summary)
    differing = [name for name in mine if name != "rate" and any(mine[name] != other.get(name) for other in known)]
    parts = [f"{name}={mine[name]}" for name in differing] + [f"rate={summary.rate:g}"]
    return " ".join(parts).replace("/", "_")


def _settings(summary: Summary) -> dict[str, Any]:
    own = {"loss": summary.loss, "weighting": summary.weighting, "corruption": summary.corruption}
    return own | {"rate": summary.rate} | {k: v for k, v in summary.settings.items() if v is not None}


def _started(folder: Path, runs: Sequence[Sequence[Point]]) -> float:
    """When training began, in seconds since 1970, as far as the records tell."""
    path = folder / TRIALS
    ended = path.stat().st_mtime if path.exists() else time.time()
    return ended - max((p.seconds for points in runs for p in points), default=0.0)


def _points(summaries: Sequence[Summary], found: Iterable[Results]) -> list[list[Point]]:
    """For each summary, what its trials say at each step."""
    run = {trial: i for i, summary in enumerate(summaries) for trial in _shown(summary)}
    tables = [results.curves for results in found]
    curves = pd.concat(tables) if tables else pd.DataFrame()
    curves = curves[np.isfinite(curves["value"])].astype({"trial": str, "split": str, "metric": str})
    curves = curves.assign(run=curves["trial"].map(run)).dropna(subset=["run"])  # sorted by name, then
    groups = curves.groupby(["run", "step", "split", "metric"], sort=True)
    table = groups.agg(
        seconds=("seconds", "mean"), mean=("value", "mean"), low=("value", "min"), high=("value", "max")
    ).reset_index()
    points: list[list[Point]] = [[] for _ in summaries]
    columns = ("run", "split", "metric", "step", "seconds", "mean", "low", "high")
    for index, *values in zip(*(table[c].tolist() for c in columns), strict=True):
        points[int(index)].append(Point(*values))
    return points


def _events(summary: Summary, points: Sequence[Point], started: float) -> Iterator[Event]:
    yield Event(wall_time=started, file_version="brain.Event:2")
    # Makes a running TensorBoard forget what it read from the file that this one replaces.
    yield Event(wall_time=started, step=0, session_log=SessionLog(status=SessionLog.START))
    yield Event(wall_time=started, summary=_tab(summary, points))
    yield Event(wall_time=started, summary=hparams_pb(_settings(summary), _group(summary), started))
    yield Event(wall_time=started, summary=_layout(points))
    several = len(_shown(summary)) > 1
    for step, at_once in groupby(points, attrgetter("step")):
        rows = list(at_once)
        values = {tag: value for row in rows for tag, value in _tags(row, several)}
        yield Event(wall_time=started + rows[0].seconds, step=step, summary=_scalars(values))
    if points:
        yield Event(wall_time=started + points[-1].seconds, step=points[-1].step, summary=_scalars(_ends(summary)))


def _tags(point: Point, several: bool) -> Iterator[tuple[str, float]]:
    yield point.tag, point.mean
    if several:
        yield f"{SPREAD}/{point.tag} lowest", point.low
        yield f"{SPREAD}/{point.tag} highest", point.high


def _scalars(values: dict[str, float]) -> Scalars:
    return Scalars(value=[Scalars.Value(tag=tag, simple_value=value) for tag, value in values.items()])


def _ends(summary: Summary) -> dict[str, float]:
    """Values that are no curves. Their tags name no metric, so that one HPARAMS tab can hold several tasks."""
    values = {
        "test, last epoch": summary.last.value if summary.last else np.nan,
        "test, best epoch": summary.best.value if summary.best else np.nan,
        "steps to target": summary.steps.median if summary.steps else np.nan,
        "diverged trials": summary.n_diverged,
    }
    return {f"{END}/{name}": float(value) for name, value in values.items() if np.isfinite(value)}


def _group(summary: Summary) -> str:
    """What the HPARAMS tab calls the run: begins readably, and is no other experiment's."""
    return f"{summary.name} at {summary.rate:g}, {stable_hash(summary.trials, summary.diverged)[:6]}"


def _tab(summary: Summary, points: Sequence[Point]) -> Scalars:
    """The HPARAMS tab's columns. No domains: TensorBoard takes one run's for all, and others would be out of them."""
    known = _settings(summary)
    columns = [HParam(name) for name in SHOWN + HIDDEN if name in known]
    scalars: Scalars = hparams_config_pb(columns, _metrics(summary, points))
    content = scalars.value[0].metadata.plugin_data
    tab = HParamsPluginData.FromString(content.content)
    for column in tab.experiment.hparam_infos:
        column.differs = column.name in SHOWN  # sorts first, and five are shown until more are ticked
    content.content = tab.SerializeToString()
    return scalars


def _metrics(summary: Summary, points: Sequence[Point]) -> list[Metric]:
    names = ("test, last epoch", "test, best epoch", "steps to target", "diverged trials")
    ends = [Metric(f"{END}/{name}", display_name=name) for name in names]
    others = sorted({p.metric for p in points if p.split == "test"} - {summary.metric})
    return ends + [Metric(f"test/{name}", display_name=f"test {name}") for name in others]


def _layout(points: Sequence[Point]) -> Scalars:
    """The CUSTOM SCALARS tab: means within the band from the lowest to the highest seed."""
    tags: dict[str, set[str]] = defaultdict(set)
    for point in points:
        tags[point.split].add(point.tag)
    categories = [
        layout_pb2.Category(title=split, chart=[_band(t) for t in sorted(tags[split])]) for split in sorted(tags)
    ]
    text = layout_pb2.Layout(category=categories).SerializeToString()
    value = Scalars.Value(
        tag=custom_scalars.CONFIG_SUMMARY_TAG,
        metadata=custom_scalars.create_summary_metadata(),
        tensor=tensor_util.make_tensor_proto(text),
    )
    return Scalars(value=[value])


def _band(tag: str) -> layout_pb2.Chart:
    lower, upper = f"{SPREAD}/{tag} lowest", f"{SPREAD}/{tag} highest"
    series = layout_pb2.MarginChartContent.Series(value=tag, lower=lower, upper=upper)
    return layout_pb2.Chart(title=tag, margin=layout_pb2.MarginChartContent(series=[series]))


def _put(run: Path, events: Sequence[Event], ending: str = CURVES) -> None:
    """Write an event file of a run, whole or not at all. Curves replace whatever was there, pictures only pictures."""
    run.mkdir(parents=True, exist_ok=True)
    temporary = run / ".writing"  # TensorBoard reads every file whose name holds "tfevents"
    try:
        with temporary.open("wb") as stream:
            writer = RecordWriter(stream)
            for event in events:
                writer.write(event.SerializeToString())
        for old in run.glob("*tfevents*" if ending == CURVES else f"*tfevents*{ending}"):
            old.unlink()
        # A new name each time: a running TensorBoard reads on in files that it knows.
        temporary.rename(run / f"events.out.tfevents.{time.time_ns()}.{ending}")
    finally:
        temporary.unlink(missing_ok=True)
