"""What the ctc task takes, refuses and shows."""

import re

import numpy as np
import pytest
import torch

from lossbench import metrics, tasks
from lossbench.errors import Incompatible
from lossbench.interfaces import Scaling
from lossbench.types import Encoding, Examples, Head, Picture, Problem, Space

CTC = tasks.get("ctc")
PROBLEM = Problem((1, 12, 64), 4, 10, ("a", "b", "c"))
PLAIN = Scaling(torch.zeros(1), torch.ones(1))
GOOD = np.array([[1, 2, -1], [3, 3, 1], [-1, -1, -1]])


def examples(targets, names=()):
    return Examples(np.zeros((len(targets), 1, 12, 64)), np.asarray(targets), names)


def test_outputs_are_the_tokens_and_the_blank():
    assert CTC.count_outputs(examples(GOOD)) == 4
    assert CTC.count_outputs(examples(GOOD, tuple("abcdef"))) == 7
    assert CTC.count_outputs(examples(GOOD.astype(np.int8))) == 4
    assert CTC.get_head_width(Head.LINEAR, PROBLEM) == 4


@pytest.mark.parametrize(
    ("targets", "names", "message"),
    [
        ([[1, 2], [2, 0]], (), "The target of example 1 is [2, 0]: token 0 stands for the blank"),
        ([[1, 2], [2, 3], [4, 1]], ("a", "b", "c"), "The target of example 2 is [4, 1]: the ctc task takes tokens from "
         "1 to 3, and -1 after the end"),
        ([[1, -2], [2, 3]], (), "The target of example 0 is [1, -2]: the ctc task takes tokens from 1 to 3"),
        ([[1, 2], [-1, 3]], (), "The target of example 1 is [-1, 3]: no token may follow -1"),
        ([[1.0, 2.0]], (), "whole-number targets of shape [N, S]. Got float64"),
        ([1, 2], (), "whole-number targets of shape [N, S]. Got int64 of shape [2]"),
        ([[-1, -1]], (), "at least one token. Got only empty targets"),
    ],
)  # fmt: skip
def test_targets_that_do_not_fit(targets, names, message):
    with pytest.raises(Incompatible, match=re.escape(message)):
        CTC.count_outputs(examples(targets, names))


def test_logits_and_tokens_pass_as_they_are():
    raw = torch.randn(2, 5, 4)
    assert torch.equal(CTC.convert(raw, Space.SEQUENCE_LOGIT, PLAIN), raw)
    assert torch.equal(CTC.predict(raw, Space.SEQUENCE_LOGIT, PROBLEM, PLAIN), raw)
    encoded = CTC.encode(torch.as_tensor(GOOD).int(), Encoding.TOKENS, PROBLEM, PLAIN)
    assert encoded.dtype == torch.int64
    assert encoded.tolist() == GOOD.tolist()


def test_shown_is_what_is_read():
    assert CTC.picture is Picture.TEXT
    path = torch.tensor([[0, 2, 2, 0, 2, 1], [0, 0, 0, 0, 0, 0]])
    point = torch.nn.functional.one_hot(path, 4).float().expand(3, 2, 6, 4)
    shown = CTC.decode_for_picture(point)
    assert shown.tolist() == [[[2, 2, 1, -1, -1, -1], [-1] * 6]] * 3


@pytest.mark.parametrize(
    ("targets", "wanted"),
    [
        # lengths 3, 2, 2: two tokens, 1 and 1, which need a blank between them
        ([[1, 1, 3], [1, 1, -1], [2, 3, -1]], [1, 1]),
        ([[3, 2, 1]], [3, 2, 1]),
        ([[-1, -1, -1], [-1, -1, -1], [3, 1, -1]], []),
        # half a token more than two is two
        ([[1, 2, -1], [1, 2, 3]], [1, 2]),
    ],
)
def test_trivial_is_the_most_common_string(targets, wanted):
    trivial = CTC.predict_baseline(np.array(targets), 5, PROBLEM)
    assert trivial.shape == (5, 2 * len(wanted) + 1, 4)
    shown = CTC.decode_for_picture(torch.as_tensor(trivial))
    assert (shown == shown[0]).all()
    assert [t for t in shown[0].tolist() if t > 0] == wanted


def test_trivial_of_equal_transcripts_is_perfect():
    targets = np.tile([[2, 2, 1, -1]], (6, 1))
    trivial = torch.as_tensor(CTC.predict_baseline(targets, 6, PROBLEM))[None]
    for name in CTC.metrics:
        metric = metrics.get(name)
        assert metric(trivial, torch.as_tensor(targets)[None]) == metric.limit


def test_tokens_have_no_scale_and_no_counts():
    shift, scale = CTC.fit_scaling(GOOD)
    assert (shift.tolist(), scale.tolist()) == ([0], [1])
    assert CTC.count_per_class(GOOD, PROBLEM) is None
