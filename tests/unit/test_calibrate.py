"""Calibration of the pipeline: its data, its tables, and a short run of the whole."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lossbench import plugins

SCRIPTS = Path(__file__).parents[2] / "scripts"


def script(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def calibrate():
    yield script("calibrate")
    del sys.modules["calibrate"]


@pytest.fixture(scope="module")
def shown():
    yield script("calibration_tables")
    del sys.modules["calibration_tables"]


@pytest.fixture(scope="module")
def scenarios(forgetting):
    plugins.load([str(SCRIPTS / "scenarios.py")])
    return sys.modules["scenarios"]


@pytest.fixture(scope="module")
def forgetting():
    """What the plug-in registers is gone afterwards."""
    from lossbench import registry

    yield
    for names in registry.ALL.values():
        names.forget("scenarios")
    plugins._loaded.pop("scenarios", None)
    sys.modules.pop("scenarios", None)


def test_draws_differ_and_repeat_themselves(scenarios):
    for kind in (scenarios.Noisy, scenarios.Counts, scenarios.UpperEdge, scenarios.DrawnDigits, scenarios.LongTail):
        one, same, other = (kind(draw=d).load() for d in (1, 1, 2))
        np.testing.assert_array_equal(one.inputs, same.inputs)
        np.testing.assert_array_equal(one.targets, same.targets)
        assert not np.array_equal(one.inputs, other.inputs)


@pytest.mark.parametrize("noise", ["gaussian", "laplace", "student_t2", "small"])
def test_noise_is_on_the_pool_and_not_on_test_rows(scenarios, noise):
    data = scenarios.Noisy(noise=noise, n_test=1000).load()
    off = data.targets[:, 0] - scenarios.surface(data.inputs.astype(np.float64))
    assert data.test.tolist() == list(range(scenarios.POOL, scenarios.POOL + 1000))
    assert np.abs(off[data.test]).max() < 1e-5
    assert np.abs(off[: scenarios.POOL]).mean() > 0.1


def test_surface_is_standardised(scenarios):
    values = scenarios.surface(np.random.default_rng(0).uniform(-1, 1, (200_000, 2)))
    assert values.mean() == pytest.approx(0, abs=0.01)
    assert values.std() == pytest.approx(1, abs=0.05)


def test_the_upper_edge_is_the_quantile(scenarios):
    data = scenarios.UpperEdge(n_test=100).load()
    pool = slice(0, scenarios.POOL)
    x = data.inputs[pool].astype(np.float64)
    edge = scenarios.surface(x) + 0.9 * (2 + x[:, 1])
    assert (data.targets[pool, 0] < edge).mean() == pytest.approx(0.9, abs=0.03)


def test_outputs_are_alike(scenarios):
    targets = np.concatenate([scenarios.Exchangeable(draw=d, n_test=100).load().targets for d in range(20)])
    assert targets.shape[1] == scenarios.OUTPUTS
    np.testing.assert_allclose(targets.std(0), targets.std(), rtol=0.03)


def test_the_long_tail(scenarios):
    data = scenarios.LongTail().load()
    assert np.bincount(data.targets[data.test]).tolist() == [50] * 10
    counts = np.bincount(np.delete(data.targets, data.test))
    assert (np.diff(counts) < 0).all()
    assert counts[0] / counts[-1] == pytest.approx(50, rel=0.25)


def test_one_output_is_taught_its_mean_only(scenarios):
    prediction = torch.zeros(5, 8, requires_grad=True)
    scenarios.AllBut(without=3.0)(prediction, torch.ones(5, 8)).sum().backward()
    assert (prediction.grad[:, 3] == 0).all()
    assert (prediction.grad[:, [0, 1, 2, 4, 5, 6, 7]] < 0).all()


def test_metrics_against_scikit_learn(scenarios):
    from sklearn.metrics import mean_pinball_loss, mean_poisson_deviance

    draw = np.random.default_rng(0)
    target, prediction = draw.poisson(3, (50, 1)).astype(float), draw.uniform(0.5, 9, (50, 1))
    given = torch.from_numpy(prediction)[None], torch.from_numpy(target)[None]
    assert scenarios.UpperPinball()(*given).item() == pytest.approx(mean_pinball_loss(target, prediction, alpha=0.9))
    assert scenarios.PoissonDeviance()(*given).item() == pytest.approx(mean_poisson_deviance(target, prediction))


@pytest.mark.slow
def test_right_and_wrong_losses_compete(calibrate, scenarios, tmp_path):
    from lossbench.config.resolve import make_plan

    for name, scenario in calibrate.SCENARIOS.items():
        made = make_plan(calibrate.configuration(scenario, 0, calibrate.Sizes(), str(tmp_path)))
        labels = {e.template.loss.label for e in made.experiments}
        assert len(labels) == (1 if scenario.clones else 8), name
        assert {*scenario.right, *scenario.wrong} <= labels


def test_wilson(shown):
    from scipy.stats import binomtest

    for hits, n in ((0, 10), (7, 10), (195, 200), (200, 200)):
        wanted = binomtest(hits, n).proportion_ci(0.95, method="wilson")
        assert shown.wilson(hits, n) == pytest.approx((wanted.low, wanted.high), abs=1e-4)


def test_tables_count_what_was_said(shown, tmp_path):
    scenario = SimpleNamespace(right=("a",), wrong=("b",), metric="rmse", most=1.5, null=False, clones=False)
    said = [["a"], ["a"], ["b"], ["a", "b"]]
    lines = [
        {"kind": "repeat", "scenario": "x", "repeat": n, "recommended": own, "values": {"a": 1.0, "b": 2.0},
         "lrs": {"a": 0.1, "b": 0.1}, "seconds": 1.0}
        for n, own in enumerate(said)
    ]  # fmt: skip
    values = {"a": {"0.1": 1.0, "1": None}, "b": {"0.1": 1.5, "1": 1.2}}
    lines += [{"kind": "truth", "scenario": "x", "repeat": n, "values": values, "seconds": 1.0} for n in (0, 1)]
    path = tmp_path / "lines.jsonl"
    path.write_text("\n".join([*map(json.dumps, [*lines, lines[0]]), '{"kind": "repe']))
    text = shown.tables([str(path)], {"x": scenario})
    share = "75.0% [30.1, 95.4]"
    assert f"| x | 4 | {share} | {share} | 1.25 ± 0.25 | missed: right 95%, b 85% |" in text
    assert "| x | b | 20% ± 0.0 | 50.0% [15.0, 85.0] |" in text
    assert "| a | right | 1 | best | 1 | 75.0% | 0.1: 100% |" in text
    assert "| b | wrong | 1.2 | 20% ± 0.0 | 2 | 50.0% | 0.1: 100% |" in text


@pytest.mark.slow
def test_short_run_of_the_whole(calibrate, scenarios, monkeypatch):
    short = calibrate.Sizes(seeds=5, tuning_seeds=2, grid_extensions=0, epochs=3)
    one = replace(calibrate.SCENARIOS["one_sided"], losses=("mse", "mae", "tukey"), lrs=(0.02, 0.06))
    monkeypatch.setitem(calibrate.SCENARIOS, "one_sided", one)
    found = calibrate.repeat("one_sided", 0, short)
    assert "tukey" in found["recommended"]
    assert "mse" not in found["recommended"]
    assert found["values"]["mse"] > 3 * found["values"]["tukey"]

    clones = replace(calibrate.SCENARIOS["null_clones"], lrs=(0.06,))
    monkeypatch.setitem(calibrate.SCENARIOS, "null_clones", clones)
    found = calibrate.repeat("null_clones", 0, short)
    assert len(set(found["values"].values())) == 8
    assert found["different"] == []
