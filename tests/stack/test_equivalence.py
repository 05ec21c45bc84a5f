"""In float64 a trial in a stack equals the trial alone: own order, own labels, own learning rate, own fields."""

from dataclasses import replace

import numpy as np
import pytest

from lossbench.seeds import group_stacks
from lossbench.training.data import prepare
from lossbench.training.run import run_stack
from lossbench.types import Stack

IMAGES = ("data.n=200", "batch_size=8", "model.channels=2")
GCE = "generalized_cross_entropy"
# every kind of loss that the interfaces tell apart; two values of a field where there is one, so that it is stacked
KINDS = {
    "plain": ("task=regression", "losses=[mse,mae,{huber:{delta:0.5}},{huber:{delta:2}},log_cosh]"),
    "facts: residual scale": ("task=regression", "losses=[tukey,{tukey:{c:3}}]"),
    "two heads": ("task=regression", "losses=[gaussian_nll]"),
    "two heads of rates": ("task=regression", "losses=[zero_inflated_poisson,{student_t_nll:{df:1}},student_t_nll]"),
    "positive space": ("task=regression", "losses=[msle]"),
    "log rates": ("task=regression", "losses=[poisson_nll,tweedie,{tweedie:{power:1.2}},gamma_deviance]"),
    "limits of a field": ("task=regression", "losses=[barron,{barron:{alpha:0}},{barron:{alpha:-inf}}]"),
    "trainable": ("task=regression", "losses=[barron_adaptive,mse]"),
    "weighting: residual scale": ("task=regression", "losses=[mse]", "weighting=irls"),
    "binary": ("task=binary", "losses=[bce,brier,hinge,focal,{focal:{gamma:1}}]"),
    "batch_level": ("task=binary", "losses=[dice,bce]"),
    "classes": ("task=multiclass", "losses=[cross_entropy,{cross_entropy:{label_smoothing:0.1}},brier,multi_margin]"),
    "stacked q": (
        "task=multiclass",
        f"losses=[{{{GCE}:{{q:0.5}}}},{{{GCE}:{{q:0.9}}}}]",
    ),
    "facts: class counts": ("task=multiclass", "losses=[logit_adjusted,{logit_adjusted:{tau:0.5}}]"),
    "embedding head": ("task=multiclass", "losses=[{arcface:{scale:8}},{arcface:{margin:0.2}}]"),
    "state": ("task=multiclass", "losses=[elr,{elr:{beta:0.9}}]"),
    "weighting: counts": ("task=binary", "losses=[bce]", "weighting=balanced"),
    "weighting: by errors": ("task=multiclass", "losses=[cross_entropy]", "weightings=[focal,{focal:{gamma:1}},ghm]"),
    "weighting: by losses": ("task=regression", "losses=[mse]", "weightings=[trimmed,{trimmed:{tau:0.5}},self_paced]"),
    "weighting: deferred": (
        "task=multiclass",
        "losses=[cross_entropy]",
        "weightings=[deferred,{deferred:{after:0.5}},{deferred:{scheme:focal}},effective_number]",
    ),
    "weighting: labels": (
        "task=multilabel",
        "losses=[bce,asymmetric]",
        "weightings=[none,pos_weight,focal,{focal:{gamma:1}},trimmed]",
        "model=cnn_max",
        *IMAGES,
    ),
    "combined": (
        "task=regression",
        "data=friedman_outputs",
        "data.n=300",
        "losses=[{combined:{terms:[mse,{tukey:{c:3}}]}},{combined:{terms:[{name:mse,outputs:[y1]},"
        "{name:barron_adaptive,weight:0.5,outputs:[y0,2]}]}},mse]",
    ),
    "combined, batch-level": ("task=binary", "loss=combined", "loss.terms=[bce,{name:dice,weight:0.1}]"),
    "combined, with a state": ("task=multiclass", "loss=combined", "loss.terms=[elr,{name:brier,weight:0.1}]"),
    "weightings of terms": (
        "task=regression",
        "data=friedman_outputs",
        "data.n=300",
        "epochs=4",
        "loss=combined",
        "loss.terms=[{name:mse,outputs:each}]",
        "weightings=[none,uncertainty,dwa,{dwa:{temperature:1}},random,gradnorm,{gradnorm:{alpha:0.5}},pcgrad]",
    ),
    "looped": ("task=regression", "losses=[{trimmed_mae:{cut:1}},{trimmed_mae:{cut:2}}]"),
    "external": ("task=regression", "loss=external", "loss.target=torch.nn.HuberLoss", "loss.params={delta:2.0}"),
    "convolutions": ("task=multiclass", "model=cnn", "model.channels=4", "losses=[cross_entropy]"),
    "cosine head": ("task=multiclass", "head=cosine", "losses=[cross_entropy]"),
    "boxes": (
        "task=boxes",
        "losses=[giou,smooth_l1,{smooth_l1:{beta:0}},nwd]",
        "model=cnn_flat",
        *IMAGES,
    ),
    "held-out classes": (
        "task=embedding",
        "losses=[triplet,{triplet:{margin:0.5}},contrastive,arcface]",
        "model=mlp",
        "data.n=600",
    ),
    "multilabel": (
        "task=multilabel",
        "losses=[bce,asymmetric,{asymmetric:{clip:0}},two_way]",
        "model=cnn_max",
        *IMAGES,
    ),
    "sequences": (
        "task=ctc",
        "losses=[ctc,focal_ctc,{focal_ctc:{gamma:0.5}},smoothed_ctc]",
        "model=recogniser",
        *IMAGES,
    ),
    "sgd, decay, warm-up, clipping": (
        "task=regression",
        "losses=[mse,huber]",
        "optimizer.name=sgd",
        "optimizer.weight_decay=0.01",
        "optimizer.warmup=0.2",
        "clip.mode=norm",
        "lr=0.01",
    ),
    "clipping per tensor": ("task=regression", "losses=[mse]", "clip.mode=per_tensor", "clip.threshold=0.1"),
    "clipping by value": ("task=regression", "losses=[mse]", "clip.mode=value", "clip.threshold=0.01"),
}
SMALL = ("seeds=2", "rates=[0,0.2]", "model.depth=1", "precision=64", "batch_size=32", "evaluations=4")


def small(overrides):
    """What keeps runs short, as far as the model has it: a cnn has no width, a recogniser no depth."""
    width, depth = "model.width=8", "model.depth=1"
    lacking = {"cnn": {width}, "cnn_flat": {depth}, "cnn_max": {width, depth}, "recogniser": {depth}}
    left_out = set().union(*(lacking.get(o.removeprefix("model="), set()) for o in overrides))
    named = {o.split("=")[0] for o in overrides}
    return [o for o in (*SMALL, "model.width=8") if o not in left_out and o.split("=")[0] not in named]


def own_rates(trials, steps=40):
    """Each replica has its own learning rate, and few steps."""
    epochs = steps * trials[0].batch_size / prepare(trials[:1])[0].problem.n_examples
    return [
        replace(t, epochs=epochs, optimizer=replace(t.optimizer, lr=t.optimizer.lr * (1 + 0.1 * i)))
        for i, t in enumerate(trials)
    ]


QUICK = {"plain", "external", "two heads", "clipping by value"}
"""What `scripts/test --fast` has time for."""


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[pytest.mark.slow] * (k not in QUICK)) for k in KINDS])
def test_a_stack_equals_its_trials_alone(kind, make_trials):
    trials = own_rates(make_trials(*KINDS[kind], *small(KINDS[kind])))
    (stack,) = group_stacks(trials)
    together = run_stack(stack)
    assert all(r.row["status"] == "finished" for r in together), {r.row["reason"] for r in together}
    assert {r.row["steps"] for r in together} == {40}
    # one of each loss: two seeds at two corruption rates vary fastest, so that every
    # fifth has another seed or corruption rate, too
    for record, trial in list(zip(together, stack.trials, strict=True))[::5]:
        (alone,) = run_stack(Stack((trial,)))
        assert alone.curves.keys() == record.curves.keys()
        for key, curve in alone.curves.items():
            np.testing.assert_allclose(record.curves[key], curve, rtol=1e-10, atol=1e-10, err_msg=f"{trial.loss} {key}")
        for epoch, scores in alone.scores.items():
            np.testing.assert_allclose(record.scores[epoch], scores, rtol=1e-10, atol=1e-10)


def test_rows_really_differ(make_trials):
    """Else the test above would hold for replicas that all train the same thing."""
    trials = own_rates(make_trials(*KINDS["plain"], *SMALL, "model.width=8"))
    records = run_stack(Stack(tuple(trials)))
    finals = {round(float(r.curves["train", "loss"][-1]), 9) for r in records}
    assert len(finals) == len(records)


def test_the_same_stack_twice_gives_the_same_numbers(make_trials):
    trials = make_trials("task=regression", "losses=[mse,tukey]", "epochs=3", "seeds=2")
    first, second = run_stack(Stack(trials)), run_stack(Stack(trials))
    for a, b in zip(first, second, strict=True):
        for key in a.curves:
            np.testing.assert_array_equal(a.curves[key], b.curves[key])


def test_losses_of_a_comparison_share_weights_and_batches(make_trials):
    """Paired: before the first step all losses of a seed are the same network, seen by the same metrics."""
    trials = make_trials("task=multiclass", "losses=[cross_entropy,brier]", "seeds=2", "rates=[0]", "epochs=1")
    records = run_stack(Stack(trials))
    start = {(r.row["loss"], r.row["seed"]): r.curves["test", "accuracy"][0] for r in records}
    assert start["cross_entropy", 0] == start["brier", 0]
    assert start["cross_entropy", 1] == start["brier", 1]
