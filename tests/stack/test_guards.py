"""Third-party losses that misbehave late: the culprit is named, and its neighbours train as if it were not there."""

import os
import random
import sys
import threading

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from waiting import PATIENCE

import lossbench
from lossbench.cli.hydra.store import register_choices
from lossbench.config.resolve import resolve
from lossbench.training.isolation import needs_input_guard, restore_process_state
from lossbench.training.run import run_stack
from lossbench.types import Stack

LATE = 0.6


def exits(prediction, target):
    sys.exit(0)


def clamps(prediction, target):
    with torch.no_grad():
        prediction.clamp_(-0.1, 0.1)


def zeroes_targets(prediction, target):
    target.zero_()


def switches_gradients_off(prediction, target):
    torch.set_grad_enabled(False)


def detaches(prediction, target):
    return (prediction.detach() - target).square().mean(-1)


def is_complex(prediction, target):
    return (prediction - target).square().mean(-1).to(torch.complex64)


def switches_gradients_off_and_raises(prediction, target):
    torch.set_grad_enabled(False)
    raise RuntimeError("on purpose")


HARM = {
    switches_gradients_off_and_raises: "on purpose",
    exits: "raises SystemExit",
    clamps: "changes its prediction in place",
    zeroes_targets: "changes its target in place",
    switches_gradients_off: "switches gradients off",
    detaches: "without a gradient",
    is_complex: "real numbers",
}


def leaves_the_folder(prediction, target):
    os.chdir("/")


def clears_the_environment(prediction, target):
    os.environ.clear()


def takes_standard_output(prediction, target):
    sys.stdout = None


def changes_the_default_type(prediction, target):
    torch.set_default_dtype(torch.float16)


HARMLESS = (leaves_the_folder, clears_the_environment, takes_standard_output, changes_the_default_type)


@pytest.fixture
def train(forgotten):
    """A function that trains huber, a loss that does something late, and mae in one stack."""

    def run(harm=None):
        names = ["huber", "mae"]
        if harm is not None:

            @lossbench.loss(tasks=("regression",), requires=("progress",), name="odd")
            def odd(prediction, target, *, progress=0.0):
                """Squared error that does something else late in training."""
                other = harm(prediction, target) if progress > LATE else None
                return (prediction - target).square().mean(-1) if other is None else other

            names.insert(1, "odd")
        register_choices()
        settings = [f"losses=[{','.join(names)}]", "seeds=[0,1]", "rates=[0]", "epochs=3", "evaluations=3"]
        with initialize_config_module("lossbench.configs", version_base="1.3"):
            experiments = resolve(compose("config", overrides=settings))
        trials = tuple(trial for experiment in experiments for trial in experiment.list_trials())
        return {(r.row["loss"], r.row["seed"]): r for r in run_stack(Stack(trials))}

    return run


def get_numbers(records, loss):
    return [records[loss, seed].curves["test", "mae"] for seed in (0, 1)]


@pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
def test_the_culprit_fails_and_its_neighbours_do_not_notice(train, harm):
    alone, together = train(), train(harm)
    for loss in ("huber", "mae"):
        assert {together[loss, seed].row["status"] for seed in (0, 1)} == {"finished"}
        np.testing.assert_array_equal(get_numbers(together, loss), get_numbers(alone, loss))
    for seed in (0, 1):
        assert together["odd", seed].row["status"] == "failed"
        assert HARM[harm] in together["odd", seed].row["reason"]
        assert "odd" in together["odd", seed].row["reason"].lower()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("harm", HARMLESS, ids=lambda harm: harm.__name__)
def test_the_process_is_as_it_was(train, harm):
    before = os.getcwd(), dict(os.environ), sys.stdout, torch.get_default_dtype(), random.getstate()
    records = train(harm)
    assert (os.getcwd(), dict(os.environ), sys.stdout, torch.get_default_dtype(), random.getstate()) == before
    assert {record.row["status"] for record in records.values()} == {"finished"}


def test_two_threads_leave_the_streams_as_they_were():
    before = sys.stdout, sys.stderr, os.getcwd()
    first_is_inside, second_is_inside = threading.Event(), threading.Event()

    def enter_first():
        with restore_process_state():
            first_is_inside.set()
            second_is_inside.wait(PATIENCE)

    def enter_second():
        first_is_inside.wait(PATIENCE)
        with restore_process_state():
            second_is_inside.set()
            first.join(PATIENCE)  # it leaves before the second does

    first, second = threading.Thread(target=enter_first), threading.Thread(target=enter_second)
    first.start()
    second.start()
    second.join()
    assert (sys.stdout, sys.stderr, os.getcwd()) == before


def test_what_a_loss_prints_goes_to_standard_error(train, capsys):
    train(lambda prediction, target: print("debug"))
    said = capsys.readouterr()
    assert "debug" not in said.out
    assert "debug" in said.err


def test_built_in_losses_are_called_without_guards():
    losses = lossbench.losses
    assert not needs_input_guard(losses.get("huber"))
    assert not needs_input_guard(losses.get("combined", terms=["mse", "mae"]))
    assert needs_input_guard(losses.get("external", target="torch.nn.MSELoss"))
    terms = ["mse", {"name": "external", "target": "torch.nn.MSELoss", "space": "value", "batch_level": False}]
    assert needs_input_guard(losses.get("combined", terms=terms))
