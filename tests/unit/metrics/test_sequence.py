"""Metrics of transcripts against torchmetrics and a plain Levenshtein distance."""

import itertools

import numpy as np
import pytest
import torch
from torchmetrics.text import CharErrorRate

from lossbench import metrics
from lossbench.metrics.sequence import compute_edit_distances
from lossbench.numerics.decoding import drop_blanks, find_best_path

R, N, T, C, S = 3, 40, 12, 5, 6
RATE, RIGHT = metrics.get("character_error_rate"), metrics.get("sequence_accuracy")


def padded(rows, width):
    return torch.tensor([[*row, *[-1] * (width - len(row))] for row in rows])


def logits_for(path, n_tokens=C):
    """Scores whose best path is `path`."""
    return torch.nn.functional.one_hot(torch.as_tensor(path), n_tokens).double()


def read(logits):
    """What greedy decoding puts out, step by step."""
    best = logits.argmax(-1).tolist()
    return [token for token, _ in itertools.groupby(best) if token != 0]


def without_padding(row):
    return [token for token in row.tolist() if token >= 0]


def levenshtein(one, other):
    """Wagner and Fischer's table, as textbooks have it."""
    table = np.zeros((len(one) + 1, len(other) + 1), int)
    table[:, 0], table[0] = range(len(one) + 1), range(len(other) + 1)
    for i, j in itertools.product(range(1, len(one) + 1), range(1, len(other) + 1)):
        kept = table[i - 1, j - 1] + (one[i - 1] != other[j - 1])
        table[i, j] = min(kept, table[i - 1, j] + 1, table[i, j - 1] + 1)
    return table[-1, -1]


def drawn(seed, shared=False):
    """Paths with many repeats and blanks, some of them nothing else, and transcripts of 0 to S tokens."""
    draw = torch.Generator().manual_seed(seed)
    path = torch.randint(C, (R, N, T), generator=draw)
    path = torch.where(torch.rand(R, N, T, generator=draw) < 0.4, 0, path).repeat_interleave(2, -1)[..., :T]
    path[:, ::9] = 0
    rows = 1 if shared else R
    lengths = torch.randint(S + 1, (rows, N, 1), generator=draw)
    target = torch.where(torch.arange(S) < lengths, torch.randint(1, C, (rows, N, S), generator=draw), -1)
    return logits_for(path) + 0.1 * torch.rand(R, N, T, C, generator=draw), target


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_distances_as_in_textbooks(seed, shared):
    prediction, target = drawn(seed, shared)
    every = target.expand(R, -1, -1)
    got = compute_edit_distances(prediction, target)
    wanted = [
        [levenshtein(read(p), without_padding(t)) for p, t in zip(*row, strict=True)]
        for row in zip(prediction, every, strict=True)
    ]
    assert got.tolist() == [[int(x) for x in row] for row in wanted]
    assert torch.equal(RIGHT.score_examples(prediction, target) == 1, torch.tensor(wanted) == 0)
    assert {0, 1, S} <= {x for row in wanted for x in row}


@pytest.mark.parametrize("seed", range(3))
def test_the_rate_is_that_of_torchmetrics(seed):
    prediction, target = drawn(seed)
    for row, (logits, tokens) in enumerate(zip(prediction, target, strict=True)):
        oracle = CharErrorRate()
        wanted = oracle(
            ["".join("_abcd"[t] for t in read(p)) for p in logits],
            ["".join("_abcd"[t] for t in without_padding(t)) for t in tokens],
        )
        torch.testing.assert_close(RATE(prediction, target)[row].float(), wanted)


@pytest.mark.parametrize(
    ("path", "transcript", "distance"),
    [
        ([0, 0, 0, 0], [], 0),
        ([0, 0, 0, 0], [1, 2], 2),
        ([1, 2, 0, 3], [], 3),
        ([1, 1, 1, 1], [1], 0),
        ([1, 1, 1, 1], [1, 1], 1),
        ([1, 0, 0, 1], [1, 1], 0),
        ([2, 0, 1, 1], [1], 1),
        ([1, 2, 3, 4], [2, 3, 4], 1),
        ([1, 2, 3, 4], [4, 3, 2, 1], 4),
        ([0, 2, 2, 0], [1, 2, 3], 2),
        ([1, 2, 3, 4], [1, 3, 4, 2], 2),
    ],
)
def test_distances_by_hand(path, transcript, distance):
    prediction = logits_for([[path, [1, 0, 2, 0]]])
    target = padded([transcript, [1, 2]], 4)[None]
    assert compute_edit_distances(prediction, target).tolist() == [[distance, 0]]
    assert RATE(prediction, target).item() == pytest.approx(distance / (len(transcript) + 2))
    assert RIGHT.score_examples(prediction, target).tolist() == [[float(distance == 0), 1]]


def test_the_rate_is_the_ratio_of_sums():
    # 1 wrong of 1, 0 wrong of 3: a quarter of the tokens, not half
    prediction = logits_for([[[2, 0, 0, 0, 0], [1, 0, 2, 0, 3]]])
    assert RATE(prediction, padded([[1], [1, 2, 3]], 3)[None]).tolist() == [0.25]
    # by hand: the mean length is 2, and 1 - 0.25 * 1 and 0 - 0.25 * 3 are too much and too little
    assert RATE.compute_influence(prediction, padded([[1], [1, 2, 3]], 3)[None]).tolist() == [[0.375, -0.375]]
    assert RIGHT(prediction, padded([[1], [1, 2, 3]], 3)[None]).tolist() == [0.5]


def test_many_tokens_are_told_apart():
    n_tokens = 70_000  # 1 and 65,537 are the same in 16 bits
    prediction = torch.zeros(1, 1, 2, n_tokens)
    prediction[..., 0, 65_537] = 1
    assert RATE(prediction, torch.tensor([[[1]]])) == 1
    assert RATE(prediction, torch.tensor([[[65_537]]])) == 0


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_one_logit_that_is_not_finite_makes_its_example_and_row_nan(broken):
    prediction, target = drawn(0)
    prediction[1, 5, 3, 2] = broken
    for metric, n_broken in ((RATE, N), (RIGHT, 1)):  # of a ratio, all examples of the row
        scores = metric.score_examples(prediction, target)
        assert scores[1, 5].isnan()
        assert scores.isnan().sum() == n_broken
        assert metric(prediction, target).isnan().tolist() == [False, True, False]


def test_without_any_target_token_there_is_no_rate():
    prediction, target = logits_for([[[0, 0]], [[0, 1]]]), torch.full((1, 1, 3), -1)
    rates = RATE(prediction, target)
    assert rates[0].isnan()
    assert rates[1].isinf()
    assert RIGHT(prediction, target).tolist() == [1, 0]


@pytest.mark.parametrize("n_tokens", [C, 20])
def test_decoding_step_by_step(n_tokens):
    draw = torch.Generator().manual_seed(0)
    path = torch.randint(n_tokens, (2, 50, T), generator=draw).repeat_interleave(2, -1)[..., : T + 3]
    path = torch.where(torch.rand(path.shape, generator=draw) < 0.4, 0, path)
    got = drop_blanks(find_best_path(logits_for(path, n_tokens)))
    assert got.shape == path.shape
    assert got.dtype == torch.int64
    for tokens, steps in zip(got.flatten(0, 1), path.flatten(0, 1), strict=True):
        wanted = read(logits_for(steps, n_tokens))
        assert tokens.tolist() == [*wanted, *[-1] * (len(steps) - len(wanted))]


def test_of_equal_logits_the_first_token_is_read():
    assert drop_blanks(find_best_path(torch.tensor([[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]))).tolist() == [1, -1]
