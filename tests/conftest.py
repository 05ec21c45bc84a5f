import os
import shutil
import tempfile

import pytest
import torch


def pytest_configure(config):
    """Nothing is kept in the user's cache, by no test, no doctest and no process that they start.

    No fixture: data sets are also loaded while tests are collected. Workers of xdist share the folder of their parent.
    """
    if not hasattr(config, "workerinput"):
        os.environ["LOSSBENCH_CACHE"] = tempfile.mkdtemp(prefix="lossbench-tests-")


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["LOSSBENCH_CACHE"], ignore_errors=True)


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same, whatever ran before it, and leaves the generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield
