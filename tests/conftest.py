import os
import shutil
import sys
import tempfile

import pytest
from skips import SkipCheck

SKIPS = {
    "tests/stack/test_cuda.py": "needs a CUDA device",
    "tests/unit/report/tensorboard/test_browser.py": "needs chromium and chromedriver",
    "tests/end_to_end/test_survival.py::test_a_log_on_a_full_disk_stops_nothing": "needs Linux's /dev/full",
}
"""Why a test may be skipped: a machine lacks what scripts/setup cannot install. Any other skip fails the run."""


def pytest_configure(config):
    """Nothing is kept in the user's cache, by no test, no doctest and no process that they start.

    No fixture: data sets are also loaded while tests are collected. Workers of xdist share the folder of their parent.
    """
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipCheck(SKIPS))
        os.environ["LOSSBENCH_CACHE"] = tempfile.mkdtemp(prefix="lossbench-tests-")


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["LOSSBENCH_CACHE"], ignore_errors=True)


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same, whatever ran before it, and leaves the generator as it was."""
    import torch  # not above: the main process of pytest-xdist needs none

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


@pytest.fixture
def forgotten(monkeypatch):
    """What a test registers, and the modules that it comes from, are forgotten after it."""
    from hydra.core.config_store import ConfigStore

    from lossbench import plugins, registry
    from lossbench.registry import GROUPS

    before, known = set(sys.modules), {group: dict(names.entries()) for group, names in registry.ALL.items()}
    for group, names in registry.ALL.items():
        monkeypatch.setattr(names, "_entries", known[group].copy())
    monkeypatch.setattr(plugins, "_loaded", {})
    yield
    for group, names in GROUPS.items():
        for name in names.entries().keys() - known[names.group].keys():
            ConfigStore.instance().repo.get(group, {}).pop(f"{name}.yaml", None)
    for module in {entry.kind.__module__ for names in registry.ALL.values() for entry in names.entries().values()}:
        if module not in before and not module.startswith("lossbench"):
            del sys.modules[module]
