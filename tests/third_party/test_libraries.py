"""Losses of other libraries run unchanged from configuration alone, in the task that they are for."""

import importlib.util
import sys
import warnings
from pathlib import Path

import pytest
import torch

from lossbench import registry
from lossbench.check import Status, check_loss
from lossbench.config.presets import list_library_presets

LIBRARIES = ("timm", "kornia", "monai", "segmentation_models_pytorch")
SCRIPT = Path(__file__).parents[2] / "scripts" / "third_party.py"
ROOTS = {"smp": "segmentation_models_pytorch"}
FEWEST = 5
"""Losses of each library."""
pytestmark = pytest.mark.filterwarnings("ignore")  # strangers warn of what they like


@pytest.fixture(scope="module")
def third_party():
    """The script that trains them all."""
    spec = importlib.util.spec_from_file_location("third_party", SCRIPT)
    module = sys.modules["third_party"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["third_party"]


@pytest.mark.slow
def test_the_libraries_do_not_warn_when_they_are_imported():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("timm.loss", "kornia.losses", "monai.losses", "segmentation_models_pytorch.losses"):
            importlib.import_module(name)


def test_every_preset_and_five_losses_of_each_library_are_tried(third_party):
    written = [text.split()[0] for losses in third_party.LOSSES.values() for text in losses]
    assert set(list_library_presets("loss")) <= set(written)
    roots = [ROOTS.get(root := text.replace("/", ".").split(".")[0], root) for text in set(written)]
    for name in ("torch", *LIBRARIES):
        assert roots.count(name) >= FEWEST, name


@pytest.mark.slow
@pytest.mark.parametrize("task", ["multiclass", "binary", "multilabel", "regression", "boxes", "ctc"])
def test_they_train(third_party, task):
    for found in third_party.outcomes(task, third_party.LOSSES[task]):
        assert found.record.row["status"] == "finished", (found.written, found.record.row["reason"])


@pytest.mark.parametrize(
    ("fields", "failed"),
    [
        ({"target": "timm.loss.BinaryCrossEntropy", "space": "logit", "encoding": "multi_hot"}, set()),
        ({"target": "kornia.losses.CharbonnierLoss"}, set()),
        ({"target": "segmentation_models_pytorch.losses.DiceLoss", "params": {"mode": "multiclass"}, "space": "logit",
          "encoding": "index", "batch_level": True}, set()),
        ({"target": "monai.losses.DiceLoss", "params": {"softmax": True, "batch": True}, "space": "logit",
          "encoding": "one_hot", "axes": 2, "batch_level": True}, set()),
        # its first third of the batch is what the others are views of: an order of its own
        ({"target": "timm.loss.JsdCrossEntropy", "space": "logit", "encoding": "index", "batch_level": True},
         {"order_does_not_matter", "extremes_are_finite", "extremes_are_finite_in_bfloat16",
          "finite_values_have_gradients"}),
        # log probabilities are wanted
        ({"target": "torch.nn.NLLLoss", "space": "logit", "encoding": "index"},
         {"certainty_does_not_fall_forever"}),
    ],
)  # fmt: skip
def test_the_contract_tells_what_they_do(fields, failed):
    results = check_loss(registry.losses.get("external", **fields))
    assert {r.check for r in results if r.status is Status.FAILED} == failed


def test_asymmetric_is_ours():
    """One formula, two implementations."""
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(8, 5, generator=draw)
    labels = torch.randint(2, (8, 5), generator=draw).float()
    theirs = registry.losses.get(
        "external", target="timm.loss.AsymmetricLossMultiLabel", space="logit", encoding="multi_hot"
    )
    torch.testing.assert_close(theirs(logits, labels), registry.losses.get("asymmetric")(logits, labels))
