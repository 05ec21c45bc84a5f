"""What is left open of an External is found out from names and from calls, and can be set."""

import sys
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lossbench.errors import Incompatible, InvalidValue
from lossbench.losses import External
from lossbench.losses.composition.external.infer import infer_fields

SEEN = []


def mean_of(prediction, target):
    return F.cross_entropy(prediction, target)


def images_only(prediction, target):
    assert prediction.ndim == 4
    assert target.ndim == 3
    return F.cross_entropy(prediction, target, reduction="none")


def of_the_batch(prediction, target):
    return (prediction.softmax(0) - target).square().mean(1)


class Picky(nn.Module):
    """Has a reduction, of which none is not one."""

    def __init__(self, reduction="mean"):
        super().__init__()
        if reduction not in ("mean", "sum"):
            raise ValueError(reduction)

    def forward(self, y_true, y_pred):
        return F.binary_cross_entropy_with_logits(y_pred, y_true)


class Unlike(nn.Module):
    """A __call__ of its own."""

    def __call__(self, labels, logits):
        return {"parts": 0, "loss": F.cross_entropy(logits, labels, reduction="none")}


def recorded(prediction, target):
    SEEN.append(prediction.shape)
    return (prediction - target).square()


def probabilities_only(probs, target):
    assert (probs >= 0).all()
    return -(target * probs.log()).sum(1)


def with_weight(prediction, target, weight: torch.Tensor = None):
    return F.cross_entropy(prediction, target, weight, reduction="none")


@pytest.fixture(autouse=True)
def strange(monkeypatch):
    module = ModuleType("strange")
    functions = (mean_of, images_only, of_the_batch, Picky, Unlike, recorded, probabilities_only, with_weight)
    for thing in functions:
        setattr(module, thing.__name__, thing)
    module.keras = lambda y_true, y_pred: (y_true - y_pred).square()
    module.half_known = lambda first, y_true: first - y_true
    module.nameless = lambda a, b: a - b
    module.residuals = lambda error, power=2: error.abs() ** power
    module.optional = lambda embeddings, labels=None, memory=None: embeddings[:, 0] * labels
    module.keywords = lambda *, target, logits: (logits - target).square()
    module.three = lambda input, target, variance: input
    module.fails = lambda prediction, target: prediction / 0 + "x"
    module.nothing = lambda: 0.0
    monkeypatch.setitem(sys.modules, "strange", module)
    SEEN.clear()


LOGITS = {"space": "logit", "encoding": "index"}
CASES = [
    # nothing beyond what the task's default loss takes
    ("regression", "torch.nn.HuberLoss", {}, {}),
    ("multiclass", "torch.nn.CrossEntropyLoss", {}, LOGITS),
    ("binary", "torch.nn.BCEWithLogitsLoss", {}, {"space": "logit", "encoding": "multi_hot"}),
    ("boxes", "torchvision.ops.generalized_box_iou_loss", {}, {"space": "box_xyxy", "encoding": "box_xyxy"}),
    # the order of arguments
    ("regression", "strange.keras", {}, {"arguments": ["target", "prediction"]}),
    ("regression", "strange.half_known", {}, {}),
    ("regression", "strange.nameless", {}, {}),
    ("regression", "torch.abs", {"arguments": ["residual"]}, {}),
    ("regression", "strange.residuals", {}, {"arguments": ["residual"]}),
    ("regression", "strange.keywords", {}, {"arguments": ["target=target", "logits=prediction"]}),
    # one value per batch, or values that depend on the batch
    ("multiclass", "strange.mean_of", {}, LOGITS | {"batch_level": True}),
    ("multiclass", "strange.mean_of", {"reduction": "each"}, LOGITS),
    ("multiclass", "strange.of_the_batch", {}, {"space": "logit", "encoding": "one_hot", "batch_level": True}),
    ("binary", "strange.Picky", {},
     {"arguments": ["target", "prediction"], "space": "logit", "encoding": "multi_hot", "reduction": "keep",
      "batch_level": True}),
    # layout, encoding, space, entry
    ("multiclass", "strange.images_only", {}, LOGITS | {"axes": 2}),
    ("multiclass", "torch.nn.BCEWithLogitsLoss", {}, {"space": "logit", "encoding": "one_hot"}),
    ("binary", "torch.nn.BCELoss", {}, {"space": "probability", "encoding": "multi_hot"}),
    ("multiclass", "strange.probabilities_only", {}, {"space": "probability", "encoding": "one_hot"}),
    ("multiclass", "strange.Unlike", {}, LOGITS | {"arguments": ["target", "prediction"], "entry": "loss"}),
    ("multiclass", "strange.with_weight", {"params": {"weight": [1, 2, 3]}}, LOGITS),
    ("ctc", "torch.nn.CTCLoss", {},
     {"arguments": ["prediction", "target", "input_lengths", "target_lengths"], "space": "log_probability",
      "encoding": "tokens", "layout": "steps"}),
    # what is given stays, and what no call works with stays open
    ("regression", "torch.nn.MSELoss", {"space": "positive"}, {"encoding": "positive"}),
    ("multiclass", "torch.nn.MSELoss", {"encoding": "one_hot", "space": "probability"}, {}),
    ("regression", "strange.fails", {}, {}),
    ("multiclass", "strange.fails", {}, LOGITS),
]  # fmt: skip


@pytest.mark.parametrize(("task", "target", "given", "found"), CASES, ids=lambda x: x if isinstance(x, str) else "")
def test_found_out(task, target, given, found):
    wanted = {"target": target, **given, **found}
    assert infer_fields({"target": target, **given}, task) == wanted
    # plain fields, from which nothing more is found out
    assert infer_fields(wanted, task) == wanted
    external = External(**wanted)
    assert infer_fields({"target": target, **given, "batch_level": None, "entry": None}, task) == wanted
    assert External(**{**{n: getattr(external, n) for n in wanted}}) == external


def test_what_is_given_is_not_tried():
    found = infer_fields({"target": "strange.mean_of", "batch_level": False}, "multiclass")
    assert found == {"target": "strange.mean_of", "batch_level": False, **LOGITS}
    infer_fields({"target": "strange.recorded", "batch_level": False}, "regression")
    assert SEEN == []
    infer_fields({"target": "strange.recorded"}, "regression")
    assert SEEN[0] == (12, 5)


def test_nothing_is_drawn():
    before = torch.get_rng_state()
    infer_fields({"target": "strange.recorded"}, "regression")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("target", ["strange.three", "torch.nn.TripletMarginLoss"])
def test_arguments_that_no_name_explains(target):
    with pytest.raises(InvalidValue, match=rf"{target} takes .*: say what each of them is, as in .*loss\.arguments="):
        infer_fields({"target": target}, "regression")


def test_an_embedding_has_no_class_scores():
    with pytest.raises(Incompatible, match=r"strange\.nameless trains an embedding.*use task=embedding"):
        infer_fields({"target": "strange.nameless", "space": "embedding"}, "multiclass")
