"""Hydra composes the jobs of a sweep with less work, and the same result."""

import copy

import pytest
from hydra import initialize_config_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from lossbench.cli.hydra.compat import compose_quickly
from lossbench.cli.hydra.store import register_choices
from lossbench.errors import InvalidValue


@pytest.fixture
def loader():
    register_choices()
    with initialize_config_module("lossbench.configs", version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


@pytest.fixture
def master(loader):
    return loader.load_configuration("config", ["task=binary"], run_mode=RunMode.MULTIRUN)


@pytest.mark.slow
def test_jobs_are_the_same(loader, master):
    jobs = [["loss=focal"], ["loss=bce", "epochs=3"]]
    plain = [loader.load_sweep_config(master, job) for job in jobs]
    with compose_quickly():
        checked = [loader.load_sweep_config(master, job) for job in jobs]
        launched = [loader.load_sweep_config(master, job) for job in jobs]
        again = loader.load_sweep_config(master, jobs[0])
    assert plain == checked
    assert [ours is theirs for ours, theirs in zip(checked, launched, strict=True)] == [True, True]
    assert again == plain[0]
    assert again is not launched[0], "what the launcher has is the launcher's"


@pytest.mark.slow
def test_another_sweep_has_its_own(loader, master):
    other = loader.load_configuration("config", ["task=regression"], run_mode=RunMode.MULTIRUN)
    other.hydra.overrides.hydra = ["hydra.job.name=other"]
    with compose_quickly():
        loader.load_sweep_config(master, ["epochs=3"])
        assert loader.load_sweep_config(other, ["epochs=3"]).hydra.job.name == "other"


def test_a_configuration_can_be_changed_and_the_store_stays(loader, master):
    with compose_quickly():
        loader.load_sweep_config(master, ["loss=focal"]).loss.gamma = 7.0
        assert loader.load_sweep_config(master, ["loss=focal", "epochs=3"]).loss.gamma == 2.0


def test_hydra_is_as_before():
    plain = ConfigLoaderImpl.load_sweep_config
    with compose_quickly():
        assert copy.deepcopy(ConfigStore.instance()) is ConfigStore.instance()
    with pytest.raises(InvalidValue), compose_quickly():
        raise InvalidValue("unfit")
    assert ConfigLoaderImpl.load_sweep_config is plain
    assert not hasattr(ConfigStore, "__deepcopy__")
