import pytest
import torch


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same, whatever ran before it, and leaves the generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield
