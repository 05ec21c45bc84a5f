import pytest
from unit.data_files import Web, no_network


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No test asks the network, or touches the user's folders."""
    no_network(monkeypatch)
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LOSSBENCH_DATA", str(tmp_path / "data"))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def web(monkeypatch):
    return Web(monkeypatch)
