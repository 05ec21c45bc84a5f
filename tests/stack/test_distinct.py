"""Every loss is a comparison of its own: no two train alike, unless one of them says that it is the other."""

from collections import defaultdict
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from registered import built_in

from lossbench import registry
from lossbench.check.calls import draw_call
from lossbench.seeds import group_stacks
from lossbench.training.build import build_components
from lossbench.training.data import prepare
from lossbench.training.objective import sort_replicas
from lossbench.training.run import StackModule, fit

RATES = (0.0, 0.4)
IMAGES = ("data.n=200", "model.channels=2", "batch_size=8")
TASKS = {
    # several outputs, as one has no direction; all above 0, as some losses want
    "regression": ("model.width=8", "data=friedman_outputs", "data.n=400", "data.noise=0"),
    "binary": ("model.width=8",),
    "multiclass": ("model.width=8",),
    "multilabel": IMAGES,
    "boxes": IMAGES,
    "ctc": IMAGES,
    "embedding": ("data.n=200",),
}
# many steps and a high rate, so that losses that differ only far from the target get there
SETTINGS = ("seeds=1", f"rates={list(RATES)}", "precision=64", "lr=0.03")
STEPS = 25
ALIKE = 1e-7
"""Of the way that the weights have gone. Measured: up to 1e-9 between formulas for the same thing, which round
differently; more than 1e-6 between any others."""


def ends(trials):
    """Where the network of each trial ends, by head, loss and rate, with how far its weights have gone."""
    results = {}
    for stack in group_stacks(trials):
        prepared, refused = prepare([stack.trials[i] for i in sort_replicas(stack.trials)])
        components = build_components(prepared)
        start = components.replicas.theta.detach().clone()
        module = StackModule(prepared.trials, components)
        fit(module, components, "64")
        assert not refused
        assert not components.objective.get_failures()
        assert not (module.replica_optimizer.diverged_step >= 0).any()
        own = slice(sum(components.replicas.sizes))
        for trial, old, new in zip(prepared.trials, start, components.replicas.theta.detach().cpu(), strict=True):
            results[trial.head, trial.loss.name, trial.corruption_rate] = new[own], (new - old)[own].abs().max()
    return results


def itself(name):
    """The loss that a name stands for."""
    return registry.losses.find(name).same_as or name


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_losses_train_alike_if_and_only_if_they_are_declared_the_same(task, make_trials):
    names = [n for n in built_in(registry.losses, task) if not registry.list_required(registry.losses.find(n))]
    settings = (*SETTINGS, *TASKS[task], *(() if TASKS[task] == IMAGES else ("batch_size=32",)))
    trials = make_trials(f"task={task}", f"losses=[{','.join(names)}]", *settings)
    epochs = STEPS * trials[0].batch_size / prepare(trials[:1])[0].problem.n_examples
    results = ends([replace(t, epochs=epochs, evaluations=2) for t in trials])
    assert {name for name, (_, way) in results.items() if way == 0} == set(), "these do not train at all"

    def alike(one, other, head, rate):
        (a, way), (b, _) = results[head, one, rate], results[head, other, rate]
        return bool((a - b).abs().max() <= ALIKE * way)

    heads = defaultdict(dict)
    for head, name, _ in results:
        heads[head][name] = None
    pairs = [(head, one, other) for head, names in heads.items() for one, other in combinations(names, 2)]
    same = {(one, other) for head, one, other in pairs if all(alike(one, other, head, rate) for rate in RATES)}
    assert same == {(one, other) for _, one, other in pairs if itself(one) == itself(other)}


def test_losses_of_tasks_that_no_data_come_for_have_gradients_of_their_own():
    """On random predictions, as `lossbench check` draws them."""
    gradients = {}
    for name in registry.losses.names():
        kind = registry.losses.find(name)
        if not set(kind.tasks) & set(registry.tasks.names()) and not registry.list_required(kind):
            loss = registry.losses.get(name)
            call = draw_call(loss)
            call.prediction.requires_grad_()
            (gradient,) = torch.autograd.grad(call.evaluate(loss).sum(), call.prediction)
            gradients[name] = gradient
    assert len(gradients) > 5
    for (one, a), (other, b) in combinations(gradients.items(), 2):
        assert a.shape != b.shape or not torch.allclose(a, b, rtol=1e-9, atol=0), f"{one} is {other}"


def test_what_a_loss_says_it_is_is_itself_and_nothing_else():
    named = {name: registry.losses.find(name).same_as for name in registry.losses.names()}
    assert {same for same in named.values() if same and named.get(same) != ""} == set()


def test_there_are_more_than_110_losses_to_choose_from():
    assert len({itself(name) for name in built_in(registry.losses) if name not in ("external", "combined")}) > 110
