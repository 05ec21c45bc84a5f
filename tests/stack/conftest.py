import pytest
from hydra import compose, initialize_config_module

from lossbench.cli.hydra.store import register_choices
from lossbench.config.resolve import resolve
from lossbench.types import Trial


@pytest.fixture(scope="session")
def make_trials():
    """Trials from overrides, through the public configuration."""
    register_choices()

    def make(*overrides: str) -> tuple[Trial, ...]:
        with initialize_config_module("lossbench.configs", version_base="1.3"):
            experiments = resolve(compose("config", overrides=list(overrides)))
        return tuple(t for e in experiments for t in e.list_trials())

    return make
