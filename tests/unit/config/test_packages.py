"""Packages that ship presets and studies: found, and left out with a reason where they are broken."""

from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_module
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from lossbench.cli import main
from lossbench.cli.hydra.store import register_choices
from lossbench.config import presets
from lossbench.config.resolve import resolve

PRESET = "defaults: [huber]\ndelta: 3.0\n"


@pytest.fixture
def ship(tmp_path, monkeypatch):
    """`ship(name, files)`: a package of files, and its entry point."""
    points = []
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(presets, "entry_points", lambda group: points)

    def make(name, files):
        for path, text in {"__init__.py": "", **files}.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(text)
        point(name)

    def point(name):
        found = EntryPoint(name, name, presets.GROUP)
        vars(found)["dist"] = SimpleNamespace(name=f"the-{name}", version="1.0")
        points.append(found)
        presets._read_packages.cache_clear()

    make.point = point
    yield make
    presets._read_packages.cache_clear()


def test_files_in_groups_are_found_and_no_others(ship):
    ship("shipped_a", {"loss/soft.yaml": PRESET, "loss/mine/softer.yaml": PRESET, "config.yaml": "", "loss/a.txt": ""})
    ours, other = presets.list_packages()
    assert (ours.source, other.source) == ("lossbench", "the-shipped_a 1.0")
    assert "experiment/label_noise" in ours.configs
    assert other.configs == ("loss/mine/softer", "loss/soft")
    assert presets.list_problems() == ()


def test_a_preset_is_a_choice_and_an_entry_of_a_list(ship):
    ship("shipped_b", {"loss/soft.yaml": PRESET, "experiment/soft_study.yaml": "# @package _global_\nrates: [0.3]\n"})
    register_choices()
    with initialize_config_module("lossbench.configs", version_base="1.3"):
        (chosen,) = resolve(compose("config", ["loss=soft", "experiment=soft_study"]))
        listed = resolve(compose("config", ["losses=[mse,soft]"]))
    assert (chosen.template.loss.label, chosen.rates) == ("huber(delta=3.0)", (0.3,))
    assert [e.template.loss.label for e in listed] == ["mse", "huber(delta=3.0)"]


BROKEN = {
    "raises": ({"__init__.py": "raise RuntimeError('too old')"}, "RuntimeError: too old"),
    "empty": ({}, "empty holds no file like loss/NAME.yaml"),
    "misspelt": ({"losses/soft.yaml": PRESET}, "Unknown folder of configurations 'losses'. Did you mean 'loss'?"),
    "takes_a_name": ({"loss/huber.yaml": PRESET}, "loss/huber.yaml clashes with 'huber' of lossbench"),
    "takes_a_preset": ({"loss/label_smoothing.yaml": PRESET}, "clashes with 'label_smoothing' of lossbench"),
    "takes_anothers": ({"loss/soft.yaml": PRESET}, "clashes with 'soft' of the-good 1.0"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_one_is_left_out_with_its_reason(ship, name):
    files, reason = BROKEN[name]
    ship("good", {"loss/soft.yaml": PRESET})
    ship(name, files)
    assert [p.name for p in presets.list_packages()] == [presets.BUILT_IN, "good"]
    (problem,) = presets.list_problems()
    assert (problem.group, problem.name, problem.source) == ("lossbench.configs", name, f"the-{name} 1.0")
    assert reason in problem.reason


def test_a_missing_one_is_told_where_a_name_is_unknown(ship, capsys):
    ship.point("nowhere_to_be_found")
    for asked in ("experiment=soft_study", "loss=soft_preset", "loss=soft/preset"):
        assert main([asked]) == 2
        told = "the-nowhere_to_be_found 1.0 failed to load (lossbench.configs: nowhere_to_be_found): ModuleNotFound"
        assert told in capsys.readouterr().err


def test_other_applications_search_where_they_did():
    from hydra._internal.config_search_path_impl import ConfigSearchPathImpl

    path = ConfigSearchPathImpl()
    path.append("main", "pkg://theirs")
    (plugin,) = [kind for kind in Plugins.instance().discover(SearchPathPlugin) if "lossbench" in kind.__module__]
    plugin().manipulate_search_path(path)
    assert [element.path for element in path.get_path()] == ["pkg://theirs"]
    assert path.find_first_match(SearchPathQuery("main", "pkg://theirs")) == 0
