"""Weightings from labels, the data's own weights and deferred ones, against scikit-learn, torch and closed forms."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from torch.nn import functional

from lossbench import registry, weightings
from lossbench.errors import InvalidValue, UnknownName
from lossbench.registry import compute_fingerprint
from lossbench.types import Choice, Encoding, Requirement, Space
from lossbench.weightings import NoWeighting

COUNTS = torch.tensor([[400, 25, 1, 9]])
INDEX = torch.arange(4).repeat_interleave(COUNTS[0])


def weigh(name, index=INDEX, counts=COUNTS, **fields):
    losses = torch.ones(index.shape, dtype=torch.float64)
    return weightings.get(name, **fields)(losses, None, index, class_counts=counts)


def expected(by_class):
    """scikit-learn's weights from weights by class, of mean 1 over the examples."""
    weights = compute_sample_weight(dict(enumerate(by_class)), INDEX.numpy())
    return weights / weights.mean()


def test_balanced_is_scikit_learns_class_weight():
    by_class = compute_class_weight("balanced", classes=np.arange(4), y=INDEX.numpy())
    np.testing.assert_allclose(weigh("balanced"), by_class[INDEX.numpy()], rtol=1e-12)


def test_inverse_sqrt():
    np.testing.assert_allclose(weigh("inverse_sqrt"), expected([1 / 20, 1 / 5, 1, 1 / 3]), rtol=1e-12)


@pytest.mark.parametrize("beta", [0.3, 0.9, 0.999, 0.999999])
def test_effective_number(beta):
    # as the sum of which the authors' formula is the closed form
    numbers = [sum(beta**i for i in range(int(n))) for n in COUNTS[0]]
    np.testing.assert_allclose(weigh("effective_number", beta=beta), expected([1 / e for e in numbers]), rtol=1e-9)


@pytest.mark.parametrize("name", ["inverse_sqrt", "effective_number", "balanced"])
def test_an_absent_class_counts_as_one_example(name):
    weights = weigh(name, torch.tensor([0, 1, 2]), torch.tensor([[30, 0, 1]]))
    assert weights.isfinite().all()
    assert weights[1] == weights[2] > weights[0]


@pytest.mark.parametrize("beta", [-0.1, 1.0, 2.0])
def test_effective_number_refuses(beta):
    with pytest.raises(
        InvalidValue, match=r"'beta' parameter of EffectiveNumber must be a float in the range \[0, 1\)"
    ):
        weightings.get("effective_number", beta=beta)


def drawn_labels(n=200):
    draw = torch.Generator().manual_seed(0)
    shares = torch.tensor([0.5, 0.1, 0.02, 0.9])
    logits = 3 * torch.randn(n, 4, generator=draw, dtype=torch.float64)
    return logits, (torch.rand(n, 4, generator=draw) < shares).double()


def torchs(logits, target, ratio):
    return functional.binary_cross_entropy_with_logits(logits, target, pos_weight=ratio, reduction="none")


@pytest.mark.parametrize("ratio", [0.0, 0.3, 7.0])
def test_pos_weight_is_torchs_but_for_one_number(ratio):
    logits, target = drawn_labels()
    positives = target.sum(0)
    by_label = (len(target) - positives) / positives if ratio == 0 else torch.full((4,), ratio, dtype=torch.float64)
    losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    facts = {"class_counts": positives[None], "n_examples": len(target)}
    weights = weightings.get("pos_weight", ratio=ratio)(losses, None, target, **facts)
    wanted = torchs(logits, target, by_label)
    mean = torchs(torch.zeros_like(logits), target, by_label).mean() / np.log(2)  # every loss is log 2
    torch.testing.assert_close(weights * losses, wanted / mean, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ratio", [0.0, 5.0])
def test_pos_weight_of_one_label_takes_negatives_and_positives(ratio):
    logits, target = (x[:, 1:2] for x in drawn_labels())
    positives = target.sum()
    counts = torch.stack([len(target) - positives, positives])[None]
    losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    weights = weightings.get("pos_weight", ratio=ratio)(losses, None, target, class_counts=counts, n_examples=200)
    by_label = counts[0, :1] / counts[0, 1:] if ratio == 0 else torch.tensor([ratio], dtype=torch.float64)
    wanted = torchs(logits, target, by_label)
    torch.testing.assert_close(weights * losses * (wanted.sum() / (weights * losses).sum()), wanted)
    np.testing.assert_allclose(weights.mean(), 1)


def test_pos_weight_of_labels_that_never_or_always_hold():
    target = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    facts = {"class_counts": torch.tensor([[0.0, 3.0]]), "n_examples": 3}
    weights = weightings.get("pos_weight")(target, None, target, **facts)
    assert weights.isfinite().all()
    assert (weights > 0).all()
    np.testing.assert_allclose(weights.mean(), 1, rtol=1e-6)


def test_pos_weight_refuses():
    with pytest.raises(InvalidValue, match="'ratio' parameter of PosWeight must be a float in the range"):
        weightings.get("pos_weight", ratio=-1)


def test_sample_is_what_it_is_given():
    weights = torch.tensor([0.5, 1.5], dtype=torch.float64)
    given = weightings.get("sample")(torch.ones(2), None, None, sample_weight=weights)
    torch.testing.assert_close(given, weights.float())


@pytest.mark.parametrize(("progress", "on"), [(0.0, False), (0.749, False), (0.75, True), (1.0, True)])
def test_deferred_starts_at_its_share(progress, on):
    deferred = weightings.get("deferred", scheme="balanced", after=0.75)
    losses = torch.ones(INDEX.shape)
    weights = deferred(losses, None, INDEX, class_counts=COUNTS, progress=progress)
    plain = weightings.get("balanced")(losses, None, INDEX, class_counts=COUNTS)
    torch.testing.assert_close(weights, plain if on else losses, rtol=0, atol=0)


def test_deferred_declares_what_its_scheme_does():
    focal = weightings.get("deferred", scheme={"name": "focal", "gamma": 1})
    assert (focal.space, focal.encodings) == (Space.LOGIT, (Encoding.MULTI_HOT, Encoding.INDEX))
    assert (focal.requires, focal.differentiable) == ((Requirement.PROGRESS,), True)
    irls = weightings.get("deferred", scheme="irls")
    assert (irls.tasks, irls.requires) == (("regression",), (Requirement.RESIDUAL_SCALE, Requirement.PROGRESS))
    assert not weightings.get("deferred", scheme="none").per_example
    assert weightings.get("deferred", scheme="trimmed").requires == (Requirement.PROGRESS,)


@pytest.mark.parametrize("scheme", [3, None, {"gamma": 2}, {"name": 3}, ["focal"]])
def test_deferred_refuses_what_is_no_scheme(scheme):
    with pytest.raises(InvalidValue, match="'scheme' parameter of Deferred must be a weighting's name, or a mapping"):
        weightings.get("deferred", scheme=scheme)


def test_deferred_helps_with_an_unknown_scheme():
    with pytest.raises(UnknownName, match="Did you mean 'balanced'"):
        weightings.get("deferred", scheme="balancd")
    with pytest.raises(UnknownName, match="'gama'"):
        weightings.get("deferred", scheme={"name": "focal", "gama": 2})
    with pytest.raises(InvalidValue, match="'after' parameter of Deferred"):
        weightings.get("deferred", after=1.5)


def test_a_trial_follows_the_source_of_a_deferred_scheme(monkeypatch):
    """A stranger's scheme, changed, must be trained again: it is in the hash that finished trials are found by."""
    monkeypatch.setattr(registry.weightings, "_entries", dict(registry.weightings.entries()))
    registry.weightings.register("strange", type("Strange", (NoWeighting,), {"__module__": __name__}), "test")

    def of(scheme):
        return compute_fingerprint(("weightings", Choice.from_fields("deferred", {"scheme": scheme})))

    assert of("focal") == of({"name": "focal", "gamma": 1}) == compute_fingerprint(("weightings", Choice("deferred")))
    assert of("strange") == of({"name": "strange"}) != of("focal")
