"""`lossbench.tasks.get` and `names`."""

import pytest

from lossbench import tasks
from lossbench.errors import UnknownName


def test_names():
    assert {"regression", "binary", "multiclass"} <= set(tasks.list_names())


def test_unknown_task_gets_help():
    with pytest.raises(UnknownName, match="Did you mean 'regression'"):
        tasks.get("regresion")
