"""The data that the replicas of a stack see: splits, exact and nested corruption, standardisation, order."""

import re
from itertools import product

import numpy as np
import pytest
import torch

from lossbench import registry
from lossbench.losses.sequence import count_steps_needed
from lossbench.training import data as preparing
from lossbench.training.batches import Batches, Sampler
from lossbench.training.data import prepare

RATES = "rates=[0,0.1,0.25,0.4]"
CORRUPTIONS = {
    "boxes": ("box_jitter", "box_truncation", "box_swap", "box_outliers", "feature_outliers"),
    "regression": ("one_sided_outliers", "symmetric_outliers", "heavy_tails", "feature_outliers"),
    "binary": ("symmetric_flips", "asymmetric_flips", "feature_outliers"),
    "multiclass": ("symmetric_flips", "asymmetric_flips", "feature_outliers"),
    "multilabel": ("missing_positives", "label_flips", "feature_outliers"),
    "embedding": ("wrong_identities", "feature_outliers"),
    "ctc": ("token_substitutions", "token_deletions", "token_insertions", "feature_outliers"),
}
DRAWN = {"boxes", "multilabel", "ctc"}
"""Tasks whose data are drawn first, which takes a second."""
CASES = [
    pytest.param(task, kind, marks=[pytest.mark.slow] * (task in DRAWN))
    for task, kinds in CORRUPTIONS.items()
    for kind in kinds
]


def seen(prepared, replica, part="train"):
    split = getattr(prepared.variants[replica], part)
    return prepared.inputs[split.inputs], prepared.targets[split.targets]


def changed(prepared, clean, dirty, part="train"):
    """Positions of the split at which two replicas of the stack see something else."""
    pairs = zip(seen(prepared, clean, part), seen(prepared, dirty, part), strict=True)
    return np.any([(a != b).reshape(len(a), -1).any(1) for a, b in pairs], axis=0)


@pytest.mark.parametrize(("task", "kind"), CASES)
def test_exactly_the_asked_share_is_corrupted_and_higher_rates_contain_lower(task, kind, make_trials):
    trials = make_trials(f"task={task}", f"corruption={kind}", RATES, "seeds=2")
    prepared, _ = prepare(trials)
    for part, seed in product(("train", "validation"), (0, 1)):
        replica_of = {t.corruption_rate: r for r, t in enumerate(trials) if t.seed == seed}
        before = last = None
        for rate, replica in replica_of.items():
            now = changed(prepared, replica_of[0.0], replica, part)
            assert now.sum() == round(rate * len(now)), (part, seed)
            assert getattr(prepared.variants[replica], part).realised == now.sum() / len(now)
            if before is not None:
                assert (now[before]).all(), (part, seed)
                # what is corrupted at both rates is corrupted to the same values
                for a, b in zip(seen(prepared, last, part), seen(prepared, replica, part), strict=True):
                    np.testing.assert_array_equal(a[before], b[before], err_msg=f"{part}, seed {seed}")
            before, last = now, replica


def test_clean_validation_is_clean(make_trials):
    trials = make_trials("task=regression", "validation=clean", RATES, "seeds=1")
    prepared, _ = prepare(trials)
    assert not changed(prepared, 0, 3, "validation").any()
    assert changed(prepared, 0, 3, "train").any()


@pytest.mark.slow
@pytest.mark.parametrize("task", CORRUPTIONS)
def test_splits_are_disjoint_and_the_test_split_is_the_same_for_all(task, make_trials):
    trials = make_trials(f"task={task}", "rates=[0]", "seeds=3")
    prepared, _ = prepare(trials)
    everything = set(range(len(registry.datasets.build(trials[0].data).load().inputs)))
    trained = []
    for variant in prepared.variants:
        parts = [set(variant.train.inputs), set(variant.validation.inputs), set(prepared.test)]
        assert set.union(*parts) == everything
        assert sum(map(len, parts)) == len(everything)
        trained.append(frozenset(parts[0]))
    assert len(set(trained)) == 3  # but train and validation differ by seed
    alone, _ = prepare(trials[1:2])
    np.testing.assert_array_equal(alone.test, prepared.test)


def test_classes_are_kept_in_proportion(make_trials):
    (trial,) = make_trials("task=multiclass", "rates=[0]", "seeds=1")
    prepared, _ = prepare([trial])
    for index in (prepared.variants[0].train.targets, prepared.variants[0].validation.targets, prepared.test):
        shares = np.bincount(prepared.targets[index]) / len(index)
        np.testing.assert_allclose(shares, 0.1, atol=0.012)


def test_features_are_standardised_on_each_rows_own_training_rows(make_trials):
    trials = make_trials("task=regression", "corruption=feature_outliers", "rates=[0,0.3]", "seeds=2")
    prepared, _ = prepare(trials)
    batches = Batches(prepared).double()
    everything = torch.arange(prepared.problem.n_examples).expand(len(batches.order_seeds), -1)
    batch = next(batches.iterate(everything[None]))
    torch.testing.assert_close(batch.inputs.mean(1), torch.zeros_like(batch.inputs[:, 0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        batch.inputs.std(1, correction=0), torch.ones_like(batch.inputs[:, 0]), atol=1e-4, rtol=0
    )
    assert not torch.allclose(batches.centre[0], batches.centre[-1])


def test_targets_are_scaled_by_the_median_and_mad_of_the_corrupted_targets(make_trials):
    trials = make_trials("task=regression", "rates=[0,0.3]", "seeds=1")
    prepared, _ = prepare(trials)
    for replica in range(2):
        targets = seen(prepared, replica)[1]
        variant = prepared.variants[replica]
        median = np.median(targets)
        assert variant.shift == pytest.approx(median)
        assert variant.scale == pytest.approx(1.4826 * np.median(np.abs(targets - median)))


def test_more_than_can_be_corrupted_is_refused(make_trials):
    trials = make_trials("task=binary", "corruption=asymmetric_flips", "rates=[0.2,0.9]", "seeds=1")
    prepared, rejected = prepare(trials)
    assert [t.corruption_rate for t in prepared.trials] == [0.2]
    (reason,) = rejected.values()
    assert re.search(r"needs 306 of 340 training examples, and only \d+ can be corrupted", reason)


def test_order_is_a_stream_of_permutations_cut_into_whole_batches():
    sampler = Sampler([5, 6], n_examples=10, batch_size=4, edges=[0, 3, 5])
    blocks = list(sampler)
    assert [tuple(b.shape) for b in blocks] == [(3, 2, 4), (2, 2, 4)]
    streams = torch.cat(blocks).transpose(0, 1).flatten(1)  # [S, 20]
    for stream in streams:
        assert stream[:10].sort().values.tolist() == list(range(10))
        assert stream[10:].sort().values.tolist() == list(range(10))
    assert not torch.equal(streams[0], streams[1])
    assert not torch.equal(streams[0, :10], streams[0, 10:])


def test_order_does_not_depend_on_the_evaluation_points_or_on_the_other_streams():
    one = torch.cat(list(Sampler([5, 6], 10, 4, [0, 5])))
    other = torch.cat(list(Sampler([6], 10, 4, [0, 2, 5])))
    assert torch.equal(one[:, 1], other[:, 0])


def test_fewer_examples_than_the_batch_are_the_batch():
    (block,) = Sampler([1], n_examples=3, batch_size=64, edges=[0, 2])
    assert block.shape == (2, 1, 3)


@pytest.mark.parametrize("loss", ["ctc", "focal_ctc", "smoothed_ctc"])
def test_transcripts_that_are_too_long_fail_only_the_trials_that_have_them(loss, make_trials, monkeypatch):
    """The model reads just enough steps for all lines as they are; insertions make some longer."""
    lines = registry.datasets.get("digit_lines", n=60).load()
    steps = int(count_steps_needed(torch.from_numpy(lines.targets)).max())
    monkeypatch.setattr(preparing, "count_sequence_steps", lambda model, shape: steps)
    words = ("task=ctc", f"loss={loss}", "data.n=60", "corruption=token_insertions", "corruption.share=1")
    prepared, rejected = prepare(make_trials(*words, "seeds=1", "rates=[0,1]"))
    assert [t.corruption_rate for t in prepared.trials] == [0]
    (reason,) = rejected.values()
    assert f"need more than the {steps} steps that the model reads" in reason
    assert "loss.zero_infinity=true" in reason
    ignoring = make_trials(*words, "seeds=1", "rates=[0,1]", "loss.zero_infinity=true")
    assert prepare(ignoring)[1] == {}
