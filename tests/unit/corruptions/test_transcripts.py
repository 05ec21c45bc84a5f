"""What the corruptions do to transcripts."""

from functools import partial

import numpy as np
import pytest
from counting import count_calls
from scipy import stats

from lossbench import corruptions
from lossbench.errors import InvalidValue
from lossbench.types import Examples

N, S, C = 4000, 8, 10
NAMES = ("token_substitutions", "token_deletions", "token_insertions")


def transcripts(n=N, seed=100):
    """Of 0 to S tokens: not from the stream that the corruptions are drawn from."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(0, S + 1, (n, 1))
    return np.where(np.arange(S) < lengths, generator.integers(1, C + 1, (n, S)), -1)


CLEAN = transcripts()
LENGTHS = (CLEAN > 0).sum(1)


def draw(name, targets=CLEAN, seed=0, n_tokens=C, **fields):
    examples = Examples(np.zeros((len(targets), 1)), targets, tuple(map(str, range(n_tokens))))
    return corruptions.get(name, **fields)(examples, np.random.default_rng(seed))


def wanted(share, lengths=LENGTHS):
    return np.maximum(1, np.round(share * lengths))


def is_part_of(short, long):
    """Whether `short` is left of `long` when some of it is left out."""
    rest = iter(long)
    return all(token in rest for token in short)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.int64, np.int8])
def test_corrupted_transcripts_are_transcripts(name, dtype):
    after = draw(name, CLEAN.astype(dtype)).targets
    assert (after.shape, after.dtype) == (CLEAN.shape, dtype)
    lengths = (after != -1).sum(1)
    np.testing.assert_array_equal(after != -1, np.arange(S) < lengths[:, None])  # no token behind padding
    assert after.max() == C
    assert after[after != -1].min() == 1


@pytest.mark.parametrize("share", [0.01, 0.34, 1.0])
def test_substitutions_replace_the_share_by_other_tokens(share):
    drawn = draw("token_substitutions", share=share)
    different = (drawn.targets != CLEAN).sum(1)
    np.testing.assert_array_equal(drawn.eligible, LENGTHS > 0)
    np.testing.assert_array_equal(different[drawn.eligible], wanted(share)[drawn.eligible])
    np.testing.assert_array_equal((drawn.targets > 0).sum(1), LENGTHS)


def test_substitutions_go_to_each_other_token_and_hit_each_place_alike():
    after = draw("token_substitutions").targets
    changed = after != CLEAN
    steps = (after - CLEAN)[changed] % C
    assert stats.chisquare(np.bincount(steps, minlength=C)[1:]).pvalue > 1e-3
    full = changed[LENGTHS == S]
    assert stats.chisquare(full.sum(0)).pvalue > 1e-3


def test_a_single_token_cannot_be_substituted():
    assert not draw("token_substitutions", np.ones((5, 3), int), n_tokens=1).eligible.any()


@pytest.mark.parametrize("share", [0.01, 0.34, 1.0])
def test_deletions_leave_out_the_share_and_keep_at_least_one(share):
    drawn = draw("token_deletions", share=share)
    np.testing.assert_array_equal(drawn.eligible, LENGTHS > 1)
    gone = LENGTHS - (drawn.targets > 0).sum(1)
    np.testing.assert_array_equal(gone, np.minimum(wanted(share), np.maximum(LENGTHS - 1, 0)))
    for before, after in zip(CLEAN, drawn.targets, strict=True):
        assert is_part_of(after[after > 0], before[before > 0])


def test_deletions_hit_each_place_alike():
    places = np.tile(np.arange(1, S + 1), (N, 1))
    left = draw("token_deletions", places).targets
    assert stats.chisquare(N - np.bincount(left[left > 0])[1:]).pvalue > 1e-3


@pytest.mark.parametrize("share", [0.01, 0.34, 1.0])
def test_insertions_add_the_share_as_far_as_there_is_room(share):
    drawn = draw("token_insertions", share=share)
    np.testing.assert_array_equal(drawn.eligible, LENGTHS < S)
    added = (drawn.targets > 0).sum(1) - LENGTHS
    np.testing.assert_array_equal(added, np.minimum(wanted(share), S - LENGTHS))
    for before, after in zip(CLEAN, drawn.targets, strict=True):
        assert is_part_of(before[before > 0], after[after > 0])


def test_insertions_write_each_token_at_each_place_alike():
    short = np.tile([3, 3, 3, -1], (N, 1))  # with one token more there are four places
    after = draw("token_insertions", short).targets
    places = (after != 3).argmax(1)[(after != 3).any(1)]
    assert stats.chisquare(np.bincount(places, minlength=4)).pvalue > 1e-3
    written = after.sum(1) - 9
    assert stats.chisquare(np.bincount(written, minlength=C + 1)[1:]).pvalue > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_eligible_rows_change_and_others_stay(name):
    drawn = draw(name)
    changed = (drawn.targets != CLEAN).any(1)
    np.testing.assert_array_equal(changed, drawn.eligible)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_a_share_that_is_none_is_refused(name, share):
    with pytest.raises(InvalidValue, match="'share'"):
        corruptions.get(name, share=share)


@pytest.mark.parametrize("name", NAMES)
def test_many_rows_are_no_loop(name):
    draw(name)  # what is only done once
    few, many = (count_calls(partial(draw, name, transcripts(n))) for n in (500, 50_000))
    assert many == pytest.approx(few, rel=0.1)
