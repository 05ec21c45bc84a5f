"""Made-up studies to draw."""

import pytest

from lossbench.analysis import study
from lossbench.records import save


@pytest.fixture
def make_study(tmp_path, made_up):
    """A function that saves made-up trials, a folder per loss, and reads them."""

    def make(*losses, rates=(0.0, 0.4), seeds=range(4), **changes):
        for loss in losses:
            some = [made_up(loss=loss, corruption_rate=r, seed=s, **changes) for r in rates for s in seeds]
            save(tmp_path / loss, some, {})
        return study.read_study([tmp_path])

    return make
