"""Conversions, encodings and refusals of the multilabel task."""

import numpy as np
import pytest
import torch
from scipy.special import expit, log_expit

from lossbench import tasks
from lossbench.errors import Incompatible
from lossbench.interfaces import Scaling
from lossbench.types import Encoding, Examples, Head, Problem, Space

TASK = tasks.get("multilabel")
THREE = Problem((4,), 3, 10, ("cat", "dog", "bird"))
PLAIN = Scaling(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
TARGETS = np.array([[1, 0, 1], [0, 0, 0], [1, 0, 0], [1, 0, 0]])
INPUTS = np.zeros((4, 1))


@pytest.mark.parametrize(
    ("space", "oracle"),
    [(Space.LOGIT, np.asarray), (Space.SCORE, np.asarray), (Space.PROBABILITY, expit),
     (Space.LOG_PROBABILITY, log_expit)],
)  # fmt: skip
def test_spaces(space, oracle):
    raw = torch.tensor([[-800.0, -1.5, 0.0], [3.0, 0.2, 800.0]], dtype=torch.float64)
    np.testing.assert_allclose(TASK.convert(raw, space, PLAIN), oracle(raw.numpy()), rtol=1e-12)


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [(Encoding.MULTI_HOT, [[1.0, 0.0, 1.0]]), (Encoding.SIGNED, [[1.0, -1.0, 1.0]])],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_encodings_take_the_scalings_precision(encoding, expected, dtype):
    encoded = TASK.encode(torch.tensor([[1, 0, 1]]), encoding, THREE, Scaling(*(part.to(dtype) for part in PLAIN)))
    assert encoded.dtype == dtype
    assert encoded.tolist() == expected


def test_one_output_per_label():
    assert TASK.count_outputs(Examples(INPUTS, TARGETS, THREE.class_names)) == 3
    assert TASK.count_outputs(Examples(INPUTS, TARGETS)) == 3
    assert TASK.get_head_width(Head.LINEAR, THREE) == 3


def test_trivial_is_the_log_odds_of_each_label():
    trivial = TASK.predict_baseline(TARGETS, 2, THREE)
    # three of four; never, of which half an example is made; one of four
    np.testing.assert_allclose(np.exp(trivial), [[3, 0.5 / 4, 1 / 3]] * 2)
    assert np.isfinite(TASK.predict_baseline(np.ones((5, 3), int), 1, THREE)).all()


def test_class_counts_are_the_positives():
    assert TASK.count_per_class(TARGETS, THREE).tolist() == [3, 0, 1]


@pytest.mark.parametrize(
    ("targets", "names", "message"),
    [
        ([0, 1, 2, 0], (), r"whole-number targets of shape \[N, L\]. Got int64 of shape \[4\]"),
        ([[0.0, 1.0]] * 4, (), r"whole-number targets of shape \[N, L\]. Got float64 of shape \[4, 2\]"),
        ([[-1, 1]] * 4, (), "targets of 0 and 1. Got -1 to 1"),
        ([[3, 0, -1]] * 4, (), "targets of 0 and 1. Got -1 to 3"),  # a list of labels, padded
        ([[0, 1]] * 4, ("a", "b", "c"), "have 2 labels. Got 3 names"),
    ],
)
def test_targets_that_do_not_fit(targets, names, message):
    with pytest.raises(Incompatible, match=message):
        TASK.count_outputs(Examples(INPUTS, np.array(targets), names))
