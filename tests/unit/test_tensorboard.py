"""Event files, read back by TensorBoard's own loaders."""

import os
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.util import tensor_util

from lossbench.analysis import summarise
from lossbench.records import RecordError, load, save
from lossbench.report.pictures import gallery, png
from lossbench.report.tensorboard import draw, write
from lossbench.types import Picture


@pytest.fixture
def folder(tmp_path, made_up):
    place = tmp_path / "regression" / "huber"
    save(place, [made_up(rate=r, seed=s) for r in (0.0, 0.1) for s in range(3)], {})
    return place


def read(run):
    accumulator = EventAccumulator(str(run), size_guidance={"tensors": 0})
    accumulator.Reload()
    return accumulator


def points(run, tag):
    """``[(step, wall time, value)]``; TensorBoard turns every scalar into a tensor when it loads it."""
    found = read(run)
    if tag in found.Tags()["scalars"]:
        return [(e.step, e.wall_time, e.value) for e in found.Scalars(tag)]
    return [(e.step, e.wall_time, tensor_util.make_ndarray(e.tensor_proto).item()) for e in found.Tensors(tag)]


def tags(run):
    return {tag for kind in ("scalars", "tensors") for tag in read(run).Tags()[kind]}


def runs(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_one_run_per_rate_with_one_file(folder):
    write({folder: load(folder)})
    assert runs(folder) == ["rate=0", "rate=0.1"]
    for run in runs(folder):
        (file,) = (folder / run).iterdir()
        assert file.name.startswith("events.out.tfevents.")


def test_curves_are_means_over_seeds_with_their_spread(folder):
    results = load(folder)
    write({folder: results})
    ids = results.trials["trial"][results.trials["rate"] == 0.1]
    curves = results.curves[results.curves["trial"].isin(ids)]
    for split, metric in (("test", "mae"), ("validation", "rmse"), ("train", "loss")):
        own = curves[(curves["split"] == split) & (curves["metric"] == metric)].groupby("step")["value"]
        found = points(folder / "rate=0.1", f"{split}/{metric}")
        assert [step for step, *_ in found] == list(own.groups)
        np.testing.assert_allclose([value for *_, value in found], own.mean(), rtol=1e-6)
        for name, values in (("lowest", own.min()), ("highest", own.max())):
            band = points(folder / "rate=0.1", f"variation over seeds/{split}/{metric} {name}")
            np.testing.assert_allclose([value for *_, value in band], values, rtol=1e-6)


def test_wall_time_is_when_it_happened(folder):
    os.utime(folder / "trials.parquet", (2e9, 2e9))
    write({folder: load(folder)})
    found = points(folder / "rate=0", "test/mae")
    assert found[-1][1] == pytest.approx(2e9)
    assert found[-1][1] - found[0][1] == pytest.approx(3.0)  # the made-up training's seconds


def test_writing_again_doubles_nothing(folder):
    write({folder: load(folder)})
    (before,) = (folder / "rate=0").iterdir()
    write({folder: load(folder)})
    (after,) = (folder / "rate=0").iterdir()
    assert after.name > before.name  # TensorBoard goes from a file to later names only
    assert len(points(folder / "rate=0", "test/mae")) == 21


def test_a_failure_leaves_the_old_file(folder, monkeypatch):
    write({folder: load(folder)})
    before = list((folder / "rate=0").iterdir())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lossbench.report.tensorboard.RecordWriter.write", full)
    with pytest.raises(RecordError, match=r"Cannot write .*: No space left on device"):
        write({folder: load(folder)})
    assert list((folder / "rate=0").iterdir()) == before


def test_one_seed_has_no_spread(tmp_path, made_up):
    save(tmp_path, [made_up()], {})
    write({tmp_path: load(tmp_path)})
    assert not any(tag.startswith("variation") for tag in tags(tmp_path / "rate=0"))


def test_diverged_trials_are_left_out(tmp_path, made_up):
    save(tmp_path, [made_up(seed=0), made_up(seed=1, status="diverged")], {})
    write({tmp_path: load(tmp_path)})
    found = points(tmp_path / "rate=0", "test/mae")
    np.testing.assert_allclose([value for *_, value in found], made_up(seed=0).curves["test", "mae"], rtol=1e-6)
    assert points(tmp_path / "rate=0", "values at the end/diverged trials")[0][2] == 1


def test_where_all_diverged_the_curve_ends(tmp_path, made_up):
    save(tmp_path, [made_up(status="diverged")], {})
    write({tmp_path: load(tmp_path)})
    assert len(points(tmp_path / "rate=0", "test/mae")) == 10
    assert "values at the end/test, last epoch" not in tags(tmp_path / "rate=0")


def test_failed_trials_make_no_run(tmp_path, made_up):
    save(tmp_path, [made_up(status="failed", reason="")], {})
    write({tmp_path: load(tmp_path)})
    assert runs(tmp_path) == []


def test_runs_are_told_apart_by_more_where_a_folder_holds_more(tmp_path, made_up):
    save(tmp_path, [made_up(loss="a/b", lr=0.1), made_up(loss="huber", lr=0.1)], {})
    write({tmp_path: load(tmp_path)})
    assert runs(tmp_path) == ["loss=a_b rate=0", "loss=huber rate=0"]


def plugin_data(run, tag):
    content = read(run).SummaryMetadata(tag).plugin_data.content
    return plugin_data_pb2.HParamsPluginData.FromString(content)


def test_hparams_hold_settings(folder):
    write({folder: load(folder)})
    session = plugin_data(folder / "rate=0.1", "_hparams_/session_start_info").session_start_info
    values = session.hparams
    assert values["loss"].string_value == "huber"
    assert values["corruption"].string_value == "outliers"
    assert (values["rate"].number_value, values["lr"].number_value) == (0.1, 0.003)
    assert values["batch_size"].number_value == 64
    assert session.group_name.startswith("huber at 0.1, ")


def test_the_hparams_tab_shows_all_experiments(folder, made_up):
    """Through TensorBoard's data provider and the plugin's own reading of it."""
    other = folder.parent.parent / "multiclass" / "cross_entropy"
    accuracy = {"metric": "accuracy", "higher_is_better": True, "loss": "cross_entropy", "task": "multiclass"}
    save(other, [made_up(seed=s, **accuracy) for s in range(2)], {})
    for place in (folder, other):
        write({place: load(place)})
    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder.parent.parent))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, "")
    context, request = Context(TBContext(data_provider=provider)), RequestContext()
    content = context.hparams_metadata(request, "")
    assert set(content) == {"regression/huber/rate=0", "regression/huber/rate=0.1", "multiclass/cross_entropy/rate=0"}
    experiment = context.experiment_from_metadata(request, "", True, content, [])
    names = [info.name for info in experiment.hparam_infos]
    assert names[:5] == ["corruption", "loss", "metric", "rate", "weighting"]
    assert {"lr", "batch_size", "model"} < set(names)
    metrics = [info.name.tag for info in experiment.metric_infos]
    assert metrics[:2] == ["values at the end/test, last epoch", "values at the end/test, best epoch"]
    last = provider.read_last_scalars(request, experiment_id="", plugin_name="scalars")
    for run, place in (("regression/huber/rate=0", folder), ("multiclass/cross_entropy/rate=0", other)):
        summary = summarise([load(place)])[0]
        assert last[run][metrics[0]].value == pytest.approx(summary.last.value, rel=1e-6)
        assert last[run][metrics[1]].value == pytest.approx(summary.best.value, rel=1e-6)


def test_custom_scalars_draw_bands(folder):
    write({folder: load(folder)})
    (event,) = read(folder / "rate=0").Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(tensor_util.make_ndarray(event.tensor_proto).item())
    assert [category.title for category in layout.category] == ["test", "train", "validation"]
    known = tags(folder / "rate=0")
    for chart in (chart for category in layout.category for chart in category.chart):
        (series,) = chart.margin.series
        assert {series.value, series.lower, series.upper} <= known


def pictures(run):
    """``[(tag, step, image)]``, as TensorBoard's IMAGES tab takes them."""
    accumulator, found = read(run), []
    for tag in sorted(accumulator.Tags()["tensors"]):
        if accumulator.SummaryMetadata(tag).plugin_data.plugin_name == "images":
            for event in accumulator.Tensors(tag):
                width, height, *files = tensor_util.make_ndarray(event.tensor_proto).tolist()
                (image,) = (Image.open(BytesIO(content)) for content in files)
                assert (image.format, image.size) == ("PNG", (int(width), int(height)))
                found.append((tag, event.step, np.array(image.convert("RGB"))))
    return found


def test_the_first_seed_is_drawn(tmp_path, pictured):
    some = [pictured(seed=seed, rate=rate) for rate in (0.0, 0.1) for seed in (2, 1, 3)]
    save(tmp_path, some, {})
    write({tmp_path: load(tmp_path)})
    assert pictures(tmp_path / "rate=0") == []  # they come at the end
    assert not draw([tmp_path], most=30)
    best, last = pictures(tmp_path / "rate=0")
    first = next(r for r in some if (r.row["seed"], r.row["rate"]) == (1, 0.0))
    assert [best[:2], last[:2]] == [("test predictions/best", 450), ("test predictions/last", 500)]
    for (*_, image), epoch in ((best, "best"), (last, "last")):
        figure = gallery(Picture.BOX, first.samples.inputs, first.samples.targets, first.shown[epoch], columns=4)
        np.testing.assert_array_equal(image, np.array(Image.open(BytesIO(png(figure))).convert("RGB")))
    assert "seed 1" in read(tmp_path / "rate=0").SummaryMetadata("test predictions/last").summary_description
    assert len(points(tmp_path / "rate=0", "test/mae")) == 21  # the curves are still there
    assert len(pictures(tmp_path / "rate=0.1")) == 2


def test_equal_epochs_are_drawn_once(tmp_path, pictured):
    record = pictured()
    record.shown["best"][:] = record.shown["last"]
    save(tmp_path, [record], {})
    draw([tmp_path], most=30)
    assert [tag for tag, *_ in pictures(tmp_path / "rate=0")] == ["test predictions/last"]


def test_where_all_diverged_the_last_picture_is_empty(tmp_path, pictured):
    record = pictured(status="diverged")
    record.shown["last"][:] = np.nan
    save(tmp_path, [record], {})
    draw([tmp_path], most=30)
    assert len(pictures(tmp_path / "rate=0")) == 2


@pytest.mark.slow
def test_what_is_drawn_is_not_drawn_again(tmp_path, pictured, monkeypatch):
    save(tmp_path, [pictured()], {})
    write({tmp_path: load(tmp_path)})
    draw([tmp_path], most=30)
    files = sorted((tmp_path / "rate=0").iterdir())
    assert [path.suffix for path in files] == [".lossbench", ".pictures"]
    with monkeypatch.context() as patched:
        patched.setattr("lossbench.report.tensorboard.load", None)
        assert not draw([tmp_path], most=30)
    assert sorted((tmp_path / "rate=0").iterdir()) == files
    write({tmp_path: load(tmp_path)})  # there are new records: the first seed may be another one
    assert pictures(tmp_path / "rate=0") == []
    draw([tmp_path], most=30)
    assert len(pictures(tmp_path / "rate=0")) == 2


@pytest.mark.slow
def test_only_the_first_runs_are_drawn(tmp_path, pictured, made_up):
    folders = [tmp_path / name for name in "abcd"]
    save(folders[0], [made_up()], {})
    for folder in folders[1:]:
        save(folder, [pictured(rate=rate) for rate in (0.0, 0.1)], {})
    for folder in folders:
        write({folder: load(folder)})
    for _ in range(2):
        assert draw(folders, most=3)
        drawn = [path.parent.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.glob("*/*/*.pictures"))]
        assert drawn == ["b/rate=0", "b/rate=0.1", "c/rate=0"]
    assert not draw(folders, most=6)
    assert len(list(tmp_path.glob("*/*/*.pictures"))) == 6


def test_a_task_without_pictures_costs_nothing(folder, monkeypatch):
    write({folder: load(folder)})
    monkeypatch.setattr("lossbench.report.tensorboard.load", None)
    assert not draw([folder, folder.parent / "not there"], most=0)
    assert not list(folder.glob("*/*.pictures"))


def test_neither_torch_nor_tensorflow_is_imported():
    code = (
        "import sys, lossbench.report.tensorboard, lossbench.report.table; "
        "sys.exit(bool({'torch', 'matplotlib', 'lightning', 'pytorch_lightning', 'tensorflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
