"""The package as it is installed: everything is a choice, on the command line as well.

Run with the package installed: pip install plugins/lossbench-example && pytest plugins/lossbench-example.
"""

import pytest

from lossbench import registry
from lossbench.cli import main
from lossbench.config import presets

OFFERED = {
    "losses": "trimmed_mae",
    "weightings": "tilted",
    "corruptions": "underreporting",
    "tasks": "counts",
    "metrics": "within_one",
    "datasets": "poisson_counts",
    "models": "normed_mlp",
}
ALL = ["task=counts", "data=poisson_counts", "model=normed_mlp", "loss=trimmed_mae", "weighting=tilted"]
ALL += ["corruption=underreporting", "metric=within_one", "rates=[0.4]"]
QUICK = ["epochs=1", "seeds=1", "workers=1"]


@pytest.mark.parametrize(("kind", "name"), OFFERED.items())
def test_is_found_by_its_entry_point(kind, name):
    assert name in registry.ALL[kind].names()
    assert not [p for p in registry.ALL[kind].problems if "example" in p.source]


def test_presets_and_studies_are_found():
    (found,) = (p for p in presets.list_packages() if p.source.startswith("lossbench-example "))
    assert found.configs == ("experiment/example_study", "loss/gentle_trim")


def test_the_task_takes_what_is_made_for_regression_and_its_own_is_no_regressions():
    assert set(registry.losses.names("counts")) == set(registry.losses.names("regression"))
    assert "underreporting" not in registry.corruptions.names("regression")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        (ALL, "counts · poisson_counts · normed_mlp · corruption underreporting"),
        (["experiment=example_study", "rates=[0]"], "trimmed_mae (cut=6.0)"),
        (["task=counts", "losses=[mse,gentle_trim]", "rates=[0]"], "trimmed_mae (cut=6.0)"),
    ],
    ids=["all parts", "study", "preset in a list"],
)
def test_trains(asked, shown, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*asked, *QUICK]) == 0
    assert shown in capsys.readouterr().out
