"""Conversions, encodings and refusals of the classification tasks."""

import numpy as np
import pytest
import torch
from scipy.special import expit, log_expit, log_softmax, softmax

from lossbench import tasks
from lossbench.errors import Incompatible
from lossbench.interfaces import Scaling
from lossbench.types import EMBEDDING_WIDTH, Encoding, Examples, Head, Problem, Space

BINARY, MULTICLASS = tasks.get("binary"), tasks.get("multiclass")
TWO, THREE = Problem((4,), 1, 10, ("no", "yes")), Problem((4,), 3, 10)
PLAIN = Scaling(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
INPUTS = np.zeros((4, 1))


@pytest.mark.parametrize(
    ("space", "oracle"),
    [(Space.LOGIT, np.asarray), (Space.SCORE, np.asarray), (Space.PROBABILITY, expit),
     (Space.LOG_PROBABILITY, log_expit)],
)  # fmt: skip
def test_binary_spaces(space, oracle):
    raw = torch.tensor([[-800.0], [-1.5], [0.0], [3.0], [800.0]], dtype=torch.float64)
    np.testing.assert_allclose(BINARY.convert(raw, space, PLAIN), oracle(raw.numpy()), rtol=1e-12)


@pytest.mark.parametrize(
    ("space", "oracle"),
    [(Space.LOGIT, np.asarray), (Space.SCORE, np.asarray), (Space.EMBEDDING, np.asarray),
     (Space.PROBABILITY, lambda z: softmax(z, -1)), (Space.LOG_PROBABILITY, lambda z: log_softmax(z, -1))],
)  # fmt: skip
def test_multiclass_spaces(space, oracle):
    raw = torch.tensor([[0.0, 1.0, -2.0], [800.0, -800.0, 0.0]], dtype=torch.float64)
    np.testing.assert_allclose(MULTICLASS.convert(raw, space, PLAIN), oracle(raw.numpy()), rtol=1e-12)


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [(Encoding.INDEX, [0, 1, 1]), (Encoding.ONE_HOT, [[0.0], [1.0], [1.0]]),
     (Encoding.MULTI_HOT, [[0.0], [1.0], [1.0]]), (Encoding.SIGNED, [[-1.0], [1.0], [1.0]])],
)  # fmt: skip
def test_binary_encodings(encoding, expected):
    assert BINARY.encode(torch.tensor([0, 1, 1]), encoding, TWO, PLAIN).tolist() == expected


def test_multiclass_encodings():
    target = torch.tensor([2, 0])
    assert MULTICLASS.encode(target.int(), Encoding.INDEX, THREE, PLAIN).tolist() == [2, 0]
    assert MULTICLASS.encode(target, Encoding.ONE_HOT, THREE, PLAIN).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_encoded_targets_take_the_scalings_precision():
    single = Scaling(torch.zeros(1), torch.ones(1))
    assert BINARY.encode(torch.tensor([1]), Encoding.SIGNED, TWO, single).dtype == torch.float32
    assert MULTICLASS.encode(torch.tensor([1]), Encoding.ONE_HOT, THREE, PLAIN).dtype == torch.float64


def test_head_widths():
    assert BINARY.get_head_width(Head.LINEAR, TWO) == 1
    widths = [MULTICLASS.get_head_width(head, THREE) for head in (Head.LINEAR, Head.COSINE, Head.EMBEDDING)]
    assert widths == [3, 3, EMBEDDING_WIDTH]


def test_binary_trivial_is_the_log_odds():
    np.testing.assert_allclose(BINARY.predict_baseline(np.array([1, 1, 1, 0]), 2, TWO), [[np.log(3)]] * 2)


def test_multiclass_trivial_is_the_log_share():
    trivial = MULTICLASS.predict_baseline(np.array([0, 1, 1, 2]), 2, THREE)
    np.testing.assert_allclose(softmax(trivial, -1), [[0.25, 0.5, 0.25]] * 2)


def test_trivial_without_a_class_is_finite():
    assert np.isfinite(BINARY.predict_baseline(np.ones(5, int), 1, TWO)).all()
    assert np.isfinite(MULTICLASS.predict_baseline(np.ones(5, int), 1, THREE)).all()


def test_class_counts_include_absent_classes():
    assert BINARY.count_per_class(np.zeros(3, int), TWO).tolist() == [3, 0]
    assert MULTICLASS.count_per_class(np.array([1, 1]), THREE).tolist() == [0, 2, 0]


def test_multiclass_outputs_come_from_the_names_or_the_targets():
    assert MULTICLASS.count_outputs(Examples(INPUTS, np.array([0, 1, 1, 0]), ("a", "b", "c"))) == 3
    assert MULTICLASS.count_outputs(Examples(INPUTS, np.array([0, 3, 1, 0]))) == 4


@pytest.mark.parametrize(
    ("task", "targets", "names", "message"),
    [
        (BINARY, [0, 1, 2, 0], (), "from 0 to 1. Got 0 to 2"),
        (BINARY, [-1, 1, 1, -1], (), "from 0 to 1. Got -1 to 1"),
        (BINARY, [0, 1, 1, 0], ("a", "b", "c"), "has two classes. Got 3 class names"),
        (BINARY, [0.0, 1.0, 1.0, 0.0], (), r"whole-number targets of shape \[N\]. Got float64"),
        (MULTICLASS, [[0], [1], [1], [0]], (), r"whole-number targets of shape \[N\]. Got int64 of shape \[4, 1\]"),
        (MULTICLASS, [0, 1, 2, 3], ("a", "b", "c"), "from 0 to 2. Got 0 to 3"),
        (MULTICLASS, [0, 0, 0, 0], (), "at least two classes"),
    ],
)
def test_targets_that_do_not_fit(task, targets, names, message):
    with pytest.raises(Incompatible, match=message):
        task.count_outputs(Examples(INPUTS, np.array(targets), names))
