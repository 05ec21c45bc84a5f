"""One study, read once, is enough for the table, the comparisons and the boards."""

from dataclasses import fields, replace

import pytest

from lossbench.analysis import study, summarise
from lossbench.analysis.comparison import ComparisonOptions, compare
from lossbench.analysis.summary import summarise_trials
from lossbench.records import load, save
from lossbench.seeds import FIRST_TUNING_SEED

LOSSES = ("huber", "mae", "mse")
STATUSES = {3: {"status": "diverged"}, 4: {"status": "failed", "reason": "out of memory"}}  # by seed


@pytest.fixture
def folders(tmp_path, made_up):
    """Three losses at two rates, of which some trials diverged or failed, and mse has seeds for tuning, too."""
    found = [tmp_path / loss for loss in LOSSES]
    for folder in found:
        some = [
            made_up(loss=folder.name, corruption_rate=r, seed=s, n_groups=40, **STATUSES.get(s, {}))
            for r in (0.0, 0.4)
            for s in range(5)
        ]
        save(folder, some, {})
    save(tmp_path / "mse", [made_up(loss="mse", corruption_rate=0.0, seed=FIRST_TUNING_SEED + s) for s in range(2)], {})
    return found


def reported(folder):
    """Its records without those for tuning, which a table does not show."""
    results = load(folder)
    return replace(results, trials=results.trials[results.trials["seed"] < FIRST_TUNING_SEED])


def test_the_table_from_a_study_is_the_one_from_the_records(folders):
    from_records = summarise([reported(folder) for folder in folders])
    assert len(from_records) == 6
    for own, other in zip(study.read_study(folders).summarise(), from_records, strict=True):
        for name in (field.name for field in fields(own)):
            # by their repr, as NaN is no equal of itself; to the last digit
            assert repr(getattr(own, name)) == repr(getattr(other, name)), name
    assert own.best.n_examples == 40
    assert (own.reasons, own.n_failed, own.n_diverged) == (("out of memory",), 1, 1)


def test_reasons_of_what_was_not_finite_from_the_start_are_known(tmp_path, made_up):
    save(tmp_path, [made_up(status="diverged", diverged_step=0, reason="it has no finite value"), made_up(seed=1)], {})
    (summary,) = study.read_study([tmp_path]).summarise()
    assert summary.reasons == ("it has no finite value",)


def test_summaries_are_computed_once_per_confidence(folders, monkeypatch):
    calls = []

    def counted(trials, measurements, confidence):
        calls.append(confidence)
        return summarise_trials(trials, measurements, confidence)

    monkeypatch.setattr(study, "summarise_trials", counted)
    found = study.read_study(folders)
    narrow, wide = found.summarise(0.8), found.summarise()
    assert compare(found, ComparisonOptions())[0].first in wide
    compare(found, ComparisonOptions(confidence=0.8))
    assert narrow[0].last.high < wide[0].last.high
    assert calls == [0.8, 0.95, 0.95, 0.8]  # of what is reported, and of the trials for tuning


def test_what_is_selected_is_a_study_of_its_own(folders):
    found = study.read_study(folders)
    few = found.trials["trial"][found.trials["loss"] != "mae"]
    selected = found.select(few)
    assert {s.loss for s in selected.summarise()} == {"huber", "mse"}
    assert {row.name for level in compare(selected, ComparisonOptions())[0].levels for row in level.rows} == {
        "huber",
        "mse",
    }
    assert len(found.summarise()) == 6  # is as it was
    assert found.select(found.trials["trial"]) is found


def test_trials_for_tuning_are_apart(folders):
    found = study.read_study(folders)
    assert (len(found.reported), len(found.tuning)) == (30, 2)
    (tuned,) = found.summarise_tuning()
    assert (tuned.loss, tuned.seeds) == ("mse", (FIRST_TUNING_SEED, FIRST_TUNING_SEED + 1))


def test_a_folder_without_the_metric_is_no_damaged_one(tmp_path, made_up):
    save(tmp_path / "a", [made_up(seed=s) for s in range(2)], {})
    other = {"task": "binary", "metric": "auroc", "higher_is_better": True, "perfect": 1.0}
    save(tmp_path / "b", [made_up(seed=s, **other) for s in range(2)], {})
    found = study.read_study([tmp_path], metric="mae")
    assert found.problems == ()
    assert len(found.trials) == 4
