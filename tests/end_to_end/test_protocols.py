"""Protocols from the command line: tuned on seeds of their own, reported on others, told in words."""

import json

import pandas as pd
import pytest

from lossbench.records import find_folders
from lossbench.seeds import FIRST_TUNING_SEED

pytestmark = pytest.mark.usefixtures("forgotten")

BASE = {
    "losses": "[mse,huber]",
    "seeds": "3",
    "rates": "[0,0.2]",
    "epochs": "2",
    "evaluations": "2",
    "model.width": "8",
    "protocol": "tuned",
    "protocol.tuning_seeds": "2",
    "protocol.grid_extensions": "0",
    "lr": "[0.003,0.03]",
}


def asked(*changes):
    """The command of most tests, with other settings or more."""
    return [f"{name}={value}" for name, value in {**BASE, **dict(c.split("=", 1) for c in changes)}.items()]


def recorded(folder):
    return pd.concat(
        [pd.read_parquet(f / "trials.parquet") for f in find_folders(folder / "results")], ignore_index=True
    )


def best_on_validation(tuning):
    means = tuning.groupby(["loss", "corruption_rate", "lr"])["validation/mae/last"].mean()
    return {(loss, rate): lr for loss, rate, lr in means.groupby(["loss", "corruption_rate"]).idxmin()}


def test_each_loss_is_reported_at_what_validation_chose_on_other_seeds(lossbench, tmp_path):
    code, out, err = lossbench(*asked())
    assert code == 0, err
    trials = recorded(tmp_path)
    tuning = trials["seed"] >= FIRST_TUNING_SEED
    assert tuning.sum() == 2 * 2 * 2 * 2  # losses, learning rates, rates, seeds
    reported = trials[~tuning]
    assert {*reported["seed"]} == {0, 1, 2}
    chosen = {(r.loss, r.corruption_rate): r.lr for r in reported.itertuples()}
    assert chosen == best_on_validation(trials[tuning])
    assert len(reported) == 2 * 2 * 3
    assert "Tuning 2 losses at 2 learning rates from 0.003 to 0.03, on 2 seeds, at each of 2 corruption rates." in err
    assert "on 2 tuning seeds" in " ".join(out.split())
    assert "untuned" not in out


def test_nothing_is_trained_twice_and_compare_says_the_same(lossbench):
    document = json.loads(lossbench("--json", *asked())[1])
    again = json.loads(lossbench("--json", *asked())[1])
    assert again["comparisons"] == document["comparisons"]
    _, out, _ = lossbench("compare", "results", "--format", "json")
    assert json.loads(out)["comparisons"] == document["comparisons"]


def test_at_rate_0_only(lossbench, tmp_path):
    lossbench(*asked("protocol.tune_at=clean"))
    trials = recorded(tmp_path)
    tuning = trials["seed"] >= FIRST_TUNING_SEED
    assert {*trials[tuning]["corruption_rate"]} == {0.0}
    assert trials[~tuning].groupby("loss")["lr"].nunique().max() == 1
    _, out, _ = lossbench("compare", "results")
    assert "for each loss at corruption rate 0 the best" in " ".join(out.split())


def test_at_rate_0_only_each_corruption_keeps_rates_of_its_own(lossbench, tmp_path):
    """`none` has one rate, and comes first."""
    code, _, err = lossbench(*asked("protocol.tune_at=clean", "corruptions=[none,one_sided_outliers]"))
    assert code == 0, err
    trials = recorded(tmp_path)
    reported = trials[trials["seed"] < FIRST_TUNING_SEED]
    rates = {
        corruption: {*own["corruption_rate"]} for corruption, own in reported.groupby(reported["corruption"].str[:9])
    }
    assert rates == {"none": {0.0}, "one_sided": {0.0, 0.2}}


def test_a_best_at_the_edge_widens_the_grid_for_all(lossbench, tmp_path):
    # too low to learn anything: the best is the highest
    _, _, err = lossbench(*asked("lr=[1e-5,2e-5]", "protocol.grid_extensions=1", "rates=[0]"))
    trials = recorded(tmp_path)
    tried = trials[trials["seed"] >= FIRST_TUNING_SEED].groupby("loss")["lr"].agg(lambda own: sorted(set(own)))
    assert {*map(tuple, tried)} == {(1e-5, 2e-5, 4e-5)}
    assert "the highest tried, 2e-05: 4e-05 is tried for all." in err


def test_variants_of_a_loss_compete_as_one(lossbench):
    _, out, _ = lossbench("--json", *asked("protocol.search_space={huber:{delta:[0.5,2]}}"))
    levels = json.loads(out)["comparisons"][0]["rates"]
    for level in levels:
        assert sorted(row["name"] for row in level["losses"]) == ["huber", "mse"]
        rows = {row["name"]: row for row in level["losses"]}
        assert rows["huber"]["tuned_fields"] in ("delta=0.5", "delta=2.0")
        assert (rows["huber"]["n_settings"], rows["mse"]["n_settings"]) == (4, 2)
        assert "unequally tuned" in level["verdict"]


def test_a_search_tries_as_many_for_each_loss_and_rate_and_is_the_same_again(lossbench, tmp_path):
    search = (
        "protocol.search=4",
        "protocol.batch=2",
        "protocol.search_space={huber:{delta:{low:0.1,high:10,log:true}}}",
    )
    _, first, _ = lossbench("--json", *asked(*search))
    trials = recorded(tmp_path)
    tuning = trials[trials["seed"] >= FIRST_TUNING_SEED]
    settings = tuning.assign(kind=tuning["loss"].str.partition("(")[0]).groupby(["kind", "corruption_rate"])[
        ["loss", "lr"]
    ]
    assert [len(own.drop_duplicates()) for _, own in settings] == [4] * 4
    assert tuning["lr"].between(0.003, 0.03).all()
    _, again, _ = lossbench("--json", *asked(*search))
    assert json.loads(again)["comparisons"] == json.loads(first)["comparisons"]
    assert len(recorded(tmp_path)) == len(trials)


def test_jobs_of_a_sweep_tune_together(lossbench, tmp_path):
    code, _, err = lossbench("-m", "loss=mse,huber", *asked("losses=null"))
    assert code == 0, err
    assert len(recorded(tmp_path)) == 2 * 2 * 2 * 2 + 2 * 2 * 3
    assert err.count("Trained") == 2  # once to choose, once to report


def test_a_loss_that_diverges_everywhere_stops_no_other(lossbench, tmp_path):
    (tmp_path / "bad.py").write_text(
        "from dataclasses import dataclass\nfrom lossbench import Encoding, Loss, Space\n\n\n"
        "@dataclass(frozen=True)\nclass Exploding(Loss):\n"
        '    """Nothing but NaN."""\n\n    tasks, space, encoding = ("regression",), Space.VALUE, Encoding.VALUE\n\n'
        "    def __call__(self, prediction, target):\n        return ((prediction - target) * float('nan')).mean(-1)\n"
    )
    _, out, _ = lossbench(*asked("plugins=[bad.py]", "losses=[mse,exploding]"))
    assert "mse is recommended" in out
    assert "exploding diverged in 3 of 3 trials" in " ".join(out.split())


@pytest.mark.parametrize("protocol", ["quick", "tuned", "rigorous"])
def test_there_are_three(lossbench, protocol):
    code, out, _ = lossbench("--cfg", "job", f"protocol={protocol}")
    assert code == 0
    assert f"name: {protocol}" in out
