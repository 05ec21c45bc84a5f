"""Event files, read back by TensorBoard's own loaders."""

import os
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path

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

from lossbench.analysis import study as analysis_study
from lossbench.analysis import summarise
from lossbench.records import RecordError, load, save
from lossbench.report.figures.gallery import draw_gallery, render_png
from lossbench.report.tensorboard import overview
from lossbench.report.tensorboard.writer import find_board, find_common_parent, find_comparable, refresh
from lossbench.seeds import FIRST_TUNING_SEED
from lossbench.types import Picture

CURVE = "primary: test mae/outliers {rate}"
BOARD = "tensorboard/regression/friedman1-mlp"


def home(output, loss="huber", digits="0", task="regression"):
    return output / task / loss / f"friedman1-mlp-{digits * 8}"


@pytest.fixture
def folder(tmp_path, made_up):
    place = home(tmp_path)
    save(place, [made_up(corruption_rate=r, seed=s) for r in (0.0, 0.1) for s in range(3)], {})
    return place


@pytest.fixture
def study(tmp_path, made_up):
    """Three losses, two rates, four seeds."""
    folders = [home(tmp_path, loss) for loss in ("huber", "mae", "mse")]
    for place in folders:
        name = place.parent.name
        some = [made_up(loss=name, corruption_rate=r, seed=s) for r in (0.0, 0.4) for s in range(4)]
        save(place, some, {"loss": {"name": name}})
    return folders


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


def runs(board):
    return sorted(path.name for path in board.iterdir() if path.is_dir())


def files(output):
    return sorted(path for path in output.rglob("*tfevents*"))


def test_one_run_per_loss_with_one_file(study, tmp_path):
    refresh(tmp_path, study)
    assert runs(tmp_path / BOARD) == ["(overview)", "huber", "mae", "mse"]
    assert len(files(tmp_path)) == 4


def test_curves_are_means_over_seeds_and_those_of_test_have_their_spread(folder, tmp_path):
    results = load(folder)
    refresh(tmp_path, [folder])
    run = tmp_path / BOARD / "huber"
    ids = results.trials["trial"][results.trials["corruption_rate"] == 0.1]
    curves = results.curves[results.curves["trial"].isin(ids)]
    names = {("test", "mae"): "primary: test mae", ("test", "rmse"): "test rmse", ("train", "loss"): "train loss"}
    for (split, metric), name in names.items():
        own = curves[(curves["split"] == split) & (curves["metric"] == metric)].groupby("step")["value"]
        found = points(run, f"{name}/outliers 0.1")
        assert [step for step, *_ in found] == list(own.groups)
        np.testing.assert_allclose([value for *_, value in found], own.mean(), rtol=1e-6)
        for end, values in (("lowest", own.min()), ("highest", own.max())):
            tag = f"variation over seeds/{name}/outliers 0.1, {end}"
            assert (tag in tags(run)) == (split == "test")
            if split == "test":
                np.testing.assert_allclose([value for *_, value in points(run, tag)], values, rtol=1e-6)


def test_wall_time_is_when_it_happened(folder, tmp_path):
    os.utime(folder / "trials.parquet", (2e9, 2e9))
    refresh(tmp_path, [folder])
    found = points(tmp_path / BOARD / "huber", CURVE.format(rate=0))
    assert found[-1][1] == pytest.approx(2e9)
    assert found[-1][1] - found[0][1] == pytest.approx(3.0)  # the made-up training's seconds


def test_what_is_as_it_was_is_not_written_again(study, tmp_path, monkeypatch):
    refresh(tmp_path, study, ended=True, predictions=True)
    before = files(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("lossbench.report.tensorboard.writer.read_study", None)  # nor even read
        refresh(tmp_path, study, ended=True, predictions=True)
    for place in study:
        (place / ".tensorboard").unlink()
    refresh(tmp_path, study, ended=True, predictions=True)
    assert files(tmp_path) == before


def test_new_seeds_are_shown_once(study, tmp_path, made_up):
    refresh(tmp_path, study, ended=True, predictions=True)
    before = {path.parent.name: path for path in files(tmp_path)}
    save(study[0], [made_up(corruption_rate=r, seed=4) for r in (0.0, 0.4)], {})
    refresh(tmp_path, study[:1], ended=True, predictions=True)
    after = {path.parent.name: path for path in files(tmp_path)}
    assert before.keys() == after.keys()
    assert len(files(tmp_path)) == len(after)
    assert {name for name in after if after[name] != before[name]} == {"(overview)", "huber"}
    assert after["huber"].name > before["huber"].name  # TensorBoard goes from a file to later names only
    assert len(points(tmp_path / BOARD / "huber", CURVE.format(rate=0))) == 21


def test_a_board_that_was_removed_comes_back(study, tmp_path):
    refresh(tmp_path, study, ended=True, predictions=True)
    before = [path.parent for path in files(tmp_path)]
    subprocess.run(["rm", "-r", tmp_path / BOARD], check=True)
    refresh(tmp_path, study, ended=True, predictions=True)
    assert [path.parent for path in files(tmp_path)] == before


def test_a_failure_leaves_the_old_file(folder, tmp_path, monkeypatch, made_up):
    refresh(tmp_path, [folder])
    before = files(tmp_path)
    save(folder, [made_up(seed=3)], {})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lossbench.report.tensorboard.events.RecordWriter.write", full)
    with pytest.raises(RecordError, match=r"Cannot write .*: No space left on device"):
        refresh(tmp_path, [folder])
    assert files(tmp_path) == before
    assert not [path for path in (tmp_path / BOARD).rglob(".writing")]


def test_one_seed_has_no_spread(tmp_path, made_up):
    save(home(tmp_path), [made_up()], {})
    refresh(tmp_path, [home(tmp_path)])
    assert not any(tag.startswith("variation") for tag in tags(tmp_path / BOARD / "huber"))
    assert not any("spread" in category.title for category in layout(tmp_path).category)


def test_diverged_trials_are_left_out(tmp_path, made_up):
    save(home(tmp_path), [made_up(seed=0), made_up(seed=1, status="diverged")], {})
    refresh(tmp_path, [home(tmp_path)])
    run = tmp_path / BOARD / "huber"
    found = points(run, CURVE.format(rate=0))
    np.testing.assert_allclose([value for *_, value in found], made_up(seed=0).curves["test", "mae"], rtol=1e-6)
    assert points(run, "values at the end/diverged, outliers 0")[0][2] == 1


def test_where_all_diverged_the_curve_ends(tmp_path, made_up):
    save(home(tmp_path), [made_up(status="diverged")], {})
    refresh(tmp_path, [home(tmp_path)])
    run = tmp_path / BOARD / "huber"
    assert len(points(run, CURVE.format(rate=0))) == 10
    assert "values at the end/last, outliers 0" not in tags(run)


def test_failed_trials_make_no_board(tmp_path, made_up):
    save(home(tmp_path), [made_up(status="failed", reason="")], {})
    refresh(tmp_path, [home(tmp_path)], ended=True)
    assert files(tmp_path) == []


def test_trials_that_tune_are_not_shown(tmp_path, made_up):
    some = [made_up(seed=s, lr=lr) for s in range(2) for lr in (0.003,)]
    save(home(tmp_path), some, {})
    save(home(tmp_path, digits="1"), [made_up(seed=FIRST_TUNING_SEED, lr=0.1)], {})
    refresh(tmp_path, [home(tmp_path), home(tmp_path, digits="1")], ended=True)
    assert runs(tmp_path / BOARD) == ["(overview)", "huber"]
    expected = np.mean([one.curves["test", "mae"] for one in some], 0)
    found = points(tmp_path / BOARD / "huber", CURVE.format(rate=0))
    np.testing.assert_allclose([value for *_, value in found], expected, rtol=1e-6)


def test_a_run_that_is_no_more_goes_and_what_is_others_stays(study, tmp_path, made_up):
    refresh(tmp_path, study)
    (tmp_path / BOARD / "notes").mkdir()
    (tmp_path / BOARD / "notes" / "mine.txt").write_text("keep")
    save(
        home(tmp_path, digits="1"),
        [made_up(corruption_rate=r, seed=s, lr=0.1) for r in (0.0, 0.4) for s in range(4)],
        {},
    )
    refresh(tmp_path, [home(tmp_path, digits="1")])
    assert runs(tmp_path / BOARD) == ["(overview)", "huber lr=0.003", "huber lr=0.1", "mae", "mse", "notes"]


def test_records_beside_are_shown_with_those_asked_for_and_no_others(study, tmp_path, made_up):
    save(home(tmp_path, "tukey", "2"), [made_up(loss="tukey", epochs=80.0)], {})
    refresh(tmp_path, study[:1])
    assert runs(tmp_path / BOARD) == ["(overview)", "huber", "mae", "mse"]
    assert runs(tmp_path / "tensorboard" / "regression") == ["friedman1-mlp"]


def test_a_study_that_was_read_already_is_not_read_again(study, tmp_path, made_up, monkeypatch):
    other = home(tmp_path, "tukey", "2")
    save(other, [made_up(loss="tukey", epochs=80.0)], {})
    found = analysis_study.read_study(find_comparable([*study, other]))
    with monkeypatch.context() as patched:
        patched.setattr("lossbench.report.tensorboard.writer.read_study", None)
        refresh(tmp_path, study, found, ended=True)
    assert runs(tmp_path / BOARD) == ["(overview)", "huber", "mae", "mse"]
    assert not list((tmp_path / "tensorboard").rglob("*tukey*"))
    of_study = files(tmp_path)
    refresh(tmp_path, study, ended=True)
    assert files(tmp_path) == of_study  # nothing is written anew: the contents are equal


def test_what_lies_beside_is_found_by_its_name_and_what_is_asked_for_comes_last(study, tmp_path, made_up):
    save(home(tmp_path, "tukey").with_name("diabetes-mlp-00000000"), [made_up(loss="tukey", data="diabetes")], {})
    assert find_comparable([study[2], study[0]]) == [study[1], study[2], study[0]]


def test_what_to_open_is_told(study, tmp_path, made_up):
    assert find_board(study) is None
    refresh(tmp_path, study)
    assert find_board(study) == tmp_path / "tensorboard"
    refresh(tmp_path, study, ended=True, predictions=True)
    assert find_board(study) == tmp_path / BOARD
    other = home(tmp_path, "tukey", "2")
    save(other, [made_up(loss="tukey", epochs=80.0)], {})
    refresh(tmp_path, [other], ended=True, predictions=True)
    assert find_board([*study, other]) == tmp_path / "tensorboard" / "regression"


def plugin_data(run, tag):
    content = read(run).SummaryMetadata(tag).plugin_data.content
    return plugin_data_pb2.HParamsPluginData.FromString(content)


def test_hparams_hold_settings(folder, tmp_path):
    refresh(tmp_path, [folder])
    values = plugin_data(tmp_path / BOARD / "huber", "_hparams_/session_start_info").session_start_info.hparams
    assert (values["loss"].string_value, values["corruption"].string_value) == ("huber", "outliers")
    assert (values["lr"].number_value, values["batch_size"].number_value) == (0.003, 64)


def hparams_tab(output):
    """The tab's columns and numbers, through TensorBoard's data provider and the plugin's own reading of it."""
    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(output))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, "")
    context, request = Context(TBContext(data_provider=provider)), RequestContext()
    content = context.hparams_metadata(request, "")
    experiment = context.experiment_from_metadata(request, "", True, content, [])
    return experiment, provider.read_last_scalars(request, experiment_id="", plugin_name="scalars")


def test_the_hparams_tab_has_what_varied_and_a_column_per_rate(study, tmp_path):
    refresh(tmp_path, study)
    experiment, last = hparams_tab(tmp_path / BOARD)
    assert [info.name for info in experiment.hparam_infos] == ["loss"]
    shown = [info.display_name for info in experiment.metric_infos]
    assert shown == [
        "mae at 0", "mae at 0.4", "best epoch at 0", "best epoch at 0.4", "steps to target at 0",
        "steps to target at 0.4", "diverged at 0", "diverged at 0.4",
    ]  # fmt: skip
    known = [info.name.tag for info in experiment.metric_infos]
    for place in study:
        clean, corrupted = summarise([load(place)])
        numbers = [last[place.parent.name][tag].value for tag in known[:4]]
        wanted = [clean.last.value, corrupted.last.value, clean.best.value, corrupted.best.value]
        np.testing.assert_allclose(numbers, wanted, rtol=1e-6)


def test_a_learning_rate_that_varies_is_a_column(tmp_path, made_up):
    for digits, lr in (("0", 0.003), ("1", 0.01)):
        save(home(tmp_path, digits=digits), [made_up(lr=lr)], {})
    save(home(tmp_path, "mae"), [made_up(loss="mae", weighting="irls")], {})
    refresh(tmp_path, [home(tmp_path)])
    experiment, _ = hparams_tab(tmp_path / BOARD)
    assert {info.name for info in experiment.hparam_infos} == {"loss", "weighting", "lr"}
    assert not any("learning rate" in info.display_name for info in experiment.metric_infos)


def test_learning_rates_of_a_run_with_several_are_numbers_at_the_end(tmp_path, made_up):
    for digits, rate, lr in (("0", 0.0, 0.003), ("1", 0.1, 0.01)):
        save(home(tmp_path, digits=digits), [made_up(corruption_rate=rate, lr=lr)], {})
    refresh(tmp_path, [home(tmp_path)])
    experiment, last = hparams_tab(tmp_path / BOARD)
    assert [i.display_name for i in experiment.metric_infos][-2:] == ["learning rate at 0", "learning rate at 0.1"]
    numbers = [last["huber"][info.name.tag].value for info in experiment.metric_infos[-2:]]
    np.testing.assert_allclose(numbers, [0.003, 0.01], rtol=1e-6)


def layout(output):
    (event,) = read(output / BOARD / "(overview)").Tensors("custom_scalars__config__")
    return layout_pb2.Layout.FromString(tensor_util.make_ndarray(event.tensor_proto).item())


def test_custom_scalars_have_a_chart_per_metric_and_rate_with_all_losses(study, tmp_path):
    refresh(tmp_path, study)
    found = layout(tmp_path)
    assert [(category.title, category.closed) for category in found.category] == [
        ("primary: test mae", False), ("primary: test mae, mean and spread over seeds", True),
        ("test rmse", True), ("test rmse, mean and spread over seeds", True),
        ("train gradient_norm", True), ("train loss", True), ("validation mae", True), ("validation rmse", True),
    ]  # fmt: skip
    for name in ("huber", "mae", "mse"):
        known = tags(tmp_path / BOARD / name)
        for chart in (chart for category in found.category for chart in category.chart):
            if chart.HasField("multiline"):
                (pattern,) = chart.multiline.tag
                assert len([tag for tag in known if re.match(pattern, tag)]) == 1
            else:
                (series,) = chart.margin.series
                assert {series.value, series.lower, series.upper} <= known
    first, second = found.category[:2]
    assert [chart.title for chart in first.chart] == ["outliers 0", "outliers 0.4"]
    assert [chart.title for chart in second.chart] == ["outliers 0.4", "outliers 0"]  # shown the last first


def verdict(output):
    run = output / BOARD / "(overview)"
    if "verdict/outliers" not in tags(run):
        return ""
    (event,) = read(run).Tensors("verdict/outliers")
    return tensor_util.make_ndarray(event.tensor_proto).item().decode()


def test_the_verdict_is_text_once_all_is_trained(study, tmp_path):
    refresh(tmp_path, study)
    assert verdict(tmp_path) == ""
    refresh(tmp_path, study, ended=True)
    text = verdict(tmp_path)
    assert "- **Corruption rate 0.4:** mae is recommended" in text
    assert "### Corruption rate 0.4" in text
    header, rule, *rows = text.split("### Corruption rate 0.4\n\n")[1].split("\n\n")[0].splitlines()
    assert header.startswith("| recommended | loss | test mae ↓ |")
    assert set(rule) == set("| -")
    assert [row.split(" | ")[1] for row in rows] == ["mae", "huber", "mse"]
    assert rows[0].startswith("| ✓ |")


def test_one_loss_has_no_verdict(folder, tmp_path):
    refresh(tmp_path, [folder], ended=True, pictures=True)
    assert verdict(tmp_path) == ""
    assert pictures(tmp_path / BOARD / "(overview)") == []


def pictures(run):
    """``[(tag, step, image)]``, as TensorBoard's IMAGES tab takes them."""
    accumulator, found = read(run), []
    for tag in sorted(accumulator.Tags()["tensors"]):
        if accumulator.SummaryMetadata(tag).plugin_data.plugin_name == "images":
            for event in accumulator.Tensors(tag):
                width, height, *contents = tensor_util.make_ndarray(event.tensor_proto).tolist()
                (image,) = (Image.open(BytesIO(content)) for content in contents)
                assert (image.format, image.size) == ("PNG", (int(width), int(height)))
                found.append((tag, event.step, np.array(image.convert("RGB"))))
    return found


@pytest.mark.slow
def test_pictures_of_losses_are_drawn_where_asked_for_and_go_when_they_are_old(study, tmp_path, made_up):
    run = tmp_path / BOARD / "(overview)"
    refresh(tmp_path, study, ended=True)
    assert pictures(run) == []
    refresh(tmp_path, study, ended=True, pictures=True)
    assert [tag for tag, *_ in pictures(run)] == ["robustness/outliers", "shapes of losses/error"]
    before = files(run)
    refresh(tmp_path, study, ended=True, pictures=True)
    assert files(run) == before
    save(study[0], [made_up(corruption_rate=r, seed=4) for r in (0.0, 0.4)], {})
    refresh(tmp_path, study, ended=True)
    assert pictures(run) == []


@pytest.mark.slow
def test_a_loss_that_cannot_be_drawn_is_left_out(study, tmp_path, made_up):
    strange = home(tmp_path, "strange")
    save(strange, [made_up(loss="strange", corruption_rate=r) for r in (0.0, 0.4)], {"loss": {"name": "not installed"}})
    refresh(tmp_path, study, ended=True, pictures=True)
    assert len(pictures(tmp_path / BOARD / "(overview)")) == 2


@pytest.mark.slow
def test_curves_that_are_written_anew_do_not_hide_pictures(study, tmp_path, made_up):
    """TensorBoard forgets what it has read of a run when that begins again, and reads files in the order of names."""
    refresh(tmp_path, study, ended=True, pictures=True)
    run = tmp_path / BOARD / "(overview)"
    (old,) = run.glob("*.lossbench")
    latest = max(int(path.name.split(".")[3]) for path in files(run))
    old.rename(run / f"events.out.tfevents.{latest + 1}.old.lossbench")  # as if it were of other content
    refresh(tmp_path, study, ended=True, pictures=True)
    curves, drawn = files(run)
    assert (curves.suffix, drawn.suffix) == (".lossbench", ".pictures")
    assert len(pictures(run)) == 2


PREDICTED = "test predictions, outliers {rate}/{epoch} epoch"


def test_the_first_seed_is_drawn(tmp_path, pictured):
    some = [pictured(n_shown=3, seed=seed, corruption_rate=rate) for rate in (0.0, 0.1) for seed in (2, 1)]
    folder, run = home(tmp_path, task="boxes"), tmp_path / "tensorboard" / "boxes" / "friedman1-mlp" / "huber"
    save(folder, some, {})
    refresh(tmp_path, [folder], ended=True)
    assert pictures(run) == []  # they come at the end
    assert refresh(tmp_path, [folder], predictions=True).n_undrawn == 0
    found = {tag: (step, image) for tag, step, image in pictures(run)}
    assert found.keys() == {PREDICTED.format(rate=r, epoch=e) for r in ("0", "0.1") for e in ("best", "last")}
    first = next(r for r in some if (r.row["seed"], r.row["corruption_rate"]) == (1, 0.0))
    for epoch, step in (("best", 450), ("last", 500)):
        figure = draw_gallery(
            Picture.BOX, first.samples.inputs, first.samples.targets, first.predictions[epoch], columns=4
        )
        drawn = found[PREDICTED.format(rate=0, epoch=epoch)]
        assert drawn[0] == step
        np.testing.assert_array_equal(drawn[1], np.array(Image.open(BytesIO(render_png(figure))).convert("RGB")))
    told = read(run).SummaryMetadata(PREDICTED.format(rate=0, epoch="last")).summary_description
    assert "seed 1" in told
    assert len(points(run, CURVE.format(rate=0))) == 21  # the curves are still there


def test_equal_epochs_are_drawn_once(tmp_path, pictured):
    record = pictured(n_shown=2)
    record.predictions["best"][:] = record.predictions["last"]
    folder, run = home(tmp_path, task="boxes"), tmp_path / "tensorboard" / "boxes" / "friedman1-mlp" / "huber"
    save(folder, [record], {})
    refresh(tmp_path, [folder], predictions=True)
    assert [tag for tag, *_ in pictures(run)] == [PREDICTED.format(rate=0, epoch="last")]


def test_where_all_diverged_the_last_picture_is_empty(tmp_path, pictured):
    record = pictured(n_shown=2, status="diverged")
    record.predictions["last"][:] = np.nan
    folder, run = home(tmp_path, task="boxes"), tmp_path / "tensorboard" / "boxes" / "friedman1-mlp" / "huber"
    save(folder, [record], {})
    refresh(tmp_path, [folder], predictions=True)
    assert len(pictures(run)) == 2


@pytest.mark.slow
def test_only_the_first_are_drawn_and_none_twice(tmp_path, pictured, made_up, monkeypatch):
    monkeypatch.setattr(overview, "MOST_PICTURED", 3)
    folders = [home(tmp_path, name, task="boxes") for name in "abcd"]
    save(folders[0], [made_up(loss="a", task="boxes")], {})
    for folder in folders[1:]:
        save(folder, [pictured(n_shown=1, loss=folder.parent.name, corruption_rate=rate) for rate in (0.0, 0.1)], {})
    board = tmp_path / "tensorboard" / "boxes" / "friedman1-mlp"
    assert refresh(tmp_path, folders, predictions=True).n_undrawn == 3
    drawn = sorted(path.parent.name for path in board.glob("*/*.pictures"))
    assert drawn == ["b", "c"]
    with monkeypatch.context() as patched:
        patched.setattr(overview, "load", None)
        assert refresh(tmp_path, folders, predictions=True).n_undrawn == 3
    monkeypatch.setattr(overview, "MOST_PICTURED", 6)
    assert refresh(tmp_path, folders, predictions=True).n_undrawn == 0
    assert sorted(path.parent.name for path in board.glob("*/*.pictures")) == ["b", "c", "d"]


@pytest.mark.slow
def test_neither_torch_nor_tensorflow_is_imported():
    code = (
        "import sys, lossbench.report.tensorboard.writer, lossbench.report.tables.summaries; "
        "sys.exit(bool({'torch', 'matplotlib', 'lightning', 'pytorch_lightning', 'tensorflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_common_folder_of_outputs_that_are_spelt_in_two_ways(monkeypatch, tmp_path):
    """As of `-m output=results,/elsewhere/results`."""
    monkeypatch.chdir(tmp_path)
    assert find_common_parent([Path("one/a"), Path("one/b")]) == Path("one")
    assert find_common_parent([Path("one/a"), tmp_path / "two" / "a"]) == tmp_path
