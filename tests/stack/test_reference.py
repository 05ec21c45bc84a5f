"""A trial is what a plain PyTorch loop trains, written out here without anything of ours but the inputs."""

import numpy as np
import pytest
import torch
from torch import nn

from lossbench import registry
from lossbench.seeds import Purpose, derive_seed
from lossbench.training.batches import Sampler
from lossbench.training.build import build_network, count_steps
from lossbench.training.data import prepare
from lossbench.training.run import run_stack
from lossbench.types import Stack

BATCH, EPOCHS = 32, 5
OVERRIDES = ("seeds=[3]", "rates=[0.2]", "precision=64", f"batch_size={BATCH}", f"epochs={EPOCHS}", "evaluations=2")
CASES = {
    "regression": ("loss=mse", nn.MSELoss(), 0.0),
    "multiclass": ("loss=cross_entropy", nn.CrossEntropyLoss(), 0.0),
    "binary": ("loss=bce", nn.BCEWithLogitsLoss(), 0.1),
}


def standardised(prepared, split):
    train = prepared.inputs[prepared.variants[0].train.inputs].astype(np.float64)
    axes = (0, *range(2, train.ndim))
    mean, deviation = train.mean(axes, keepdims=True), train.std(axes, keepdims=True)
    return torch.from_numpy((prepared.inputs[split] - mean) / np.where(deviation > 0, deviation, 1))


def plain_targets(task, targets):
    if task == "regression":
        median = np.median(targets)
        scale = 1.4826 * np.median(np.abs(targets - median))
        return torch.from_numpy((targets - median) / scale), lambda out: out * scale + median
    if task == "binary":
        return torch.from_numpy(targets).double()[:, None], lambda out: out
    return torch.from_numpy(targets), lambda out: out


def final_metric(task, out, targets):
    if task == "regression":
        return float(np.abs(out.numpy() - targets).mean())
    chosen = (out[:, 0] > 0).long() if task == "binary" else out.argmax(1)
    return float((chosen.numpy() == targets).mean())


@pytest.mark.slow
@pytest.mark.parametrize("task", CASES)
def test_a_trial_is_a_plain_training(task, make_trials):
    loss, criterion, decay = CASES[task]
    (trial,) = make_trials(f"task={task}", loss, *OVERRIDES, f"optimizer.weight_decay={decay}", "clip.mode=norm")
    (record,) = run_stack(Stack((trial,)))

    prepared, _ = prepare([trial])
    train = prepared.variants[0].train
    inputs = standardised(prepared, train.inputs)
    targets, back = plain_targets(task, prepared.targets[train.targets])
    net = build_network(trial, registry.tasks.build(trial.task), prepared.problem).double()
    matrices = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=trial.optimizer.lr)
    steps = count_steps(trial, len(inputs))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    positions = Sampler([derive_seed(Purpose.ORDER, trial)], len(inputs), BATCH, [0]).get_positions(0, steps * BATCH)[0]
    for rows in positions.split(BATCH):
        optimizer.zero_grad()
        criterion(net(inputs[rows]), targets[rows]).backward()
        norm = nn.utils.get_total_norm([p.grad for p in net.parameters()])
        for p in net.parameters():
            p.grad.mul_(min(1.0, 1.0 / float(norm)))
        optimizer.step()
        schedule.step()

    with torch.no_grad():
        out = back(net(standardised(prepared, prepared.test)))
    result = record.row[f"test/{trial.metric}/last"]
    assert record.row["steps"] == steps
    # the tables are rounded to float32 once, after centring
    assert result == pytest.approx(final_metric(task, out, prepared.targets[prepared.test]), rel=1e-5)
