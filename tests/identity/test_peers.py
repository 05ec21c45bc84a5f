"""What is said of other libraries' losses, against values and gradients that these libraries gave.

`scripts/verify/peers.py` writes tests/peers/*.json in an environment of its own.
"""

import json
from pathlib import Path

import pytest
import torch

from lossbench import registry
from lossbench.interfaces.encodings import ENCODINGS
from lossbench.types import Problem, Requirement

FILES = sorted((Path(__file__).parents[1] / "peers").glob("*.json"))
CASES = [(path.stem, case) for path in FILES for case in json.loads(path.read_text())["cases"]]
CLAMPS = {"active_passive": 2e-6, "keras": 2e-6, "adaface": 3e-3, "mmdet": 1e-7, "dist": 1e-9}
"""Tolerance where a peer clamps probabilities or cosines, or adds an epsilon, which ours need not."""


def call_ours(case):
    loss = registry.losses.get(case["loss"], **case["fields"])
    prediction = torch.tensor(case["prediction"], dtype=torch.float64, requires_grad=True)
    whole = ENCODINGS[loss.encoding].whole
    target = torch.tensor(case["target"], dtype=torch.long if whole else torch.float64)
    given = {name: torch.tensor(value, dtype=torch.float64) for name, value in case["requires"].items()}
    requires = {"parameters": given} if given else {}
    if Requirement.STATE in loss.requires:
        requires["state"] = loss.init_state(Problem((4,), 5, 9)).double()
    result = loss(prediction, target, **requires)
    value = (result[0] if Requirement.STATE in loss.requires else result).mean()
    return value.item(), *torch.autograd.grad(value, prediction)


@pytest.mark.parametrize(("file", "case"), CASES, ids=[f"{case['loss']}: {case['peer']}" for _, case in CASES])
def test_peer(file, case):
    value, gradient = call_ours(case)
    theirs, their_gradient = case["value"], torch.tensor(case["gradient"], dtype=torch.float64)
    if case["same"]:
        tolerance = CLAMPS.get(file, 1e-9)
        assert value == pytest.approx(theirs, rel=tolerance)
        if case["same"] != "value":
            torch.testing.assert_close(gradient, their_gradient, rtol=tolerance, atol=tolerance)
    else:
        assert value != pytest.approx(theirs, rel=1e-3)


def test_every_file_names_its_source():
    assert FILES
    for path in FILES:
        document = json.loads(path.read_text())
        assert document["version"]
        assert document["made_by"] == "scripts/verify/peers.py"
