"""External runs other libraries' losses as they are, and says what is wrong when it cannot."""

import gc
import pickle
import sys
import weakref
from types import ModuleType

import pytest
import torch
from torch import nn
from torchvision.ops import sigmoid_focal_loss

from lossbench import registry
from lossbench.errors import InvalidValue
from lossbench.losses import External
from lossbench.types import Encoding, Space

N, C = 12, 3


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PREDICTION, VALUES = drawn(N, C), drawn(N, C, seed=1)
INDEX = torch.arange(N) % C
HOT = (VALUES > 0).double()


class Counting:
    """A loss that remembers: two of them must not share what they remember."""

    def __init__(self):
        self.calls = 0

    def __call__(self, prediction, target):
        self.calls += 1
        return (prediction - target).abs().mean(1) * self.calls


class Spread(nn.Module):
    """A coupled loss with a buffer."""

    def __init__(self, weight: torch.Tensor, *, strict: bool = False):
        super().__init__()
        self.register_buffer("scale", weight)

    def forward(self, prediction, target):
        return ((prediction - target) * self.scale).var()


def focal(prediction, target):
    return sigmoid_focal_loss(prediction, target, alpha=0.25, gamma=1.0, reduction="mean")


@pytest.fixture(autouse=True)
def strange(monkeypatch):
    """A third party's module."""
    module = ModuleType("strange")
    module.Counting, module.Spread, module.number = Counting, Spread, 3
    module.residual_cube = lambda residual, power=3: residual.abs() ** power
    module.detour = lambda prediction, target: {"loss": prediction}
    module.swapped = lambda target, prediction: 2 * target - prediction
    monkeypatch.setitem(sys.modules, "strange", module)
    return module


@pytest.mark.parametrize(
    ("path", "fields", "target", "oracle"),
    [
        ("torch.nn.HuberLoss", {"params": {"delta": 2.0}}, VALUES, nn.HuberLoss(delta=2.0)),
        ("torch.nn.functional.l1_loss", {}, VALUES, nn.L1Loss()),
        ("torch.nn.CrossEntropyLoss", {"space": "logit", "encoding": "index"}, INDEX, nn.CrossEntropyLoss()),
        ("torch.nn.MultiMarginLoss", {"params": {"p": 2}}, INDEX, nn.MultiMarginLoss(p=2)),
        ("torch.nn.BCEWithLogitsLoss", {}, HOT, nn.BCEWithLogitsLoss()),
        ("torch.nn.MultiLabelSoftMarginLoss", {}, HOT, nn.MultiLabelSoftMarginLoss()),
        ("torchvision.ops.sigmoid_focal_loss", {"params": {"gamma": 1.0}}, HOT, focal),
        ("torchvision.ops.focal_loss.sigmoid_focal_loss", {"params": {"gamma": 1.0}}, HOT, focal),
        ("strange.residual_cube", {"params": {"power": 2}, "arguments": ["residual"]}, VALUES, nn.MSELoss()),
        ("strange.swapped", {"arguments": ["target", "prediction"]}, VALUES, lambda p, t: (2 * t - p).mean()),
    ],
)
def test_runs_unchanged(path, fields, target, oracle):
    losses = External(path, **fields)(PREDICTION, target)
    assert losses.shape == (N,)
    torch.testing.assert_close(losses.mean(), oracle(PREDICTION, target))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("given", [[1, 2, 3], [0.5, 2.0, 1.0]])
def test_lists_become_tensors_of_the_predictions_type(dtype, given):
    weight = torch.tensor(given, dtype=dtype)
    p = PREDICTION.to(dtype)
    entropy = External("torch.nn.CrossEntropyLoss", {"weight": given})
    torch.testing.assert_close(entropy(p, INDEX), nn.CrossEntropyLoss(weight, reduction="none")(p, INDEX))
    bce = External("torch.nn.functional.binary_cross_entropy_with_logits", {"pos_weight": given})
    wanted = nn.BCEWithLogitsLoss(pos_weight=weight, reduction="none")(p, HOT.to(dtype)).mean(1)
    torch.testing.assert_close(bce(p, HOT.to(dtype)), wanted)


def test_other_lists_stay_lists():
    with pytest.raises(InvalidValue, match=r"torch\.nn\.HuberLoss cannot be made with {'delta': \[1, 2\]}"):
        External("torch.nn.HuberLoss", {"delta": [1, 2]})


def test_coupled_gives_one_value_per_batch():
    loss = External("strange.Spread", {"weight": [1, 2, 3]}, coupled=True)
    wanted = ((PREDICTION - VALUES) * torch.tensor([1.0, 2.0, 3.0])).var()
    torch.testing.assert_close(loss(PREDICTION, VALUES), wanted)
    # a reduction is left alone, and what is not reduced is averaged
    torch.testing.assert_close(
        External("torch.nn.MSELoss", coupled=True)(PREDICTION, VALUES), nn.MSELoss()(PREDICTION, VALUES)
    )
    unreduced = External("torch.nn.MSELoss", {"reduction": "none"}, coupled=True)
    torch.testing.assert_close(unreduced(PREDICTION, VALUES), nn.MSELoss()(PREDICTION, VALUES))


@pytest.mark.parametrize(
    "loss",
    [
        External("torch.nn.MSELoss", reduction="keep"),
        External("torch.nn.MSELoss", {"reduction": "sum"}),
    ],
)
def test_one_value_for_all_must_be_declared(loss):
    with pytest.raises(InvalidValue, match=r"one value per example, shape \[12, \.\.\.\]\. Got \[\].*set coupled=true"):
        loss(PREDICTION, VALUES)


def test_must_return_a_tensor():
    with pytest.raises(InvalidValue, match=r"strange\.detour must return a tensor\. Got dict"):
        External("strange.detour")(PREDICTION, VALUES)


@pytest.mark.parametrize(
    ("target", "params", "message"),
    [
        ("torch.nn.HuberLos", {}, "torch.nn has no 'HuberLos'. Did you mean 'HuberLoss'?"),
        ("torch.nn.HuberLoss.fro", {}, "torch.nn.HuberLoss has no 'fro'."),
        ("torhc.nn.HuberLoss", {}, "there is no package 'torhc'. Is it installed?"),
        ("HuberLoss", {}, "there is no package 'HuberLoss'"),
        ("", {}, "must be an import path such as torch.nn.HuberLoss. Got ''"),
        ("torch..nn", {}, "must be an import path"),
        ("strange.number", {}, "must be a class or a function. Got 3"),
        ("torch.nn", {}, "must be a class or a function."),
        (
            "torch.nn.HuberLoss",
            {"dleta": 1},
            "has no parameter 'dleta'. Did you mean 'delta'? It has: reduction, delta.",
        ),
        ("torch.nn.functional.l1_loss", {"redukt": 1}, "l1_loss has no parameter 'redukt'."),
        ("torch.nn.HuberLoss", {"delta": "x"}, "torch.nn.HuberLoss cannot be made with {'delta': 'x'}"),
        ("torch.nn.PReLU", {}, "has trainable parameters, which External does not train"),
        ("fractions.Fraction", {}, "must be a class or a function."),
    ],
)
def test_what_cannot_be_made_is_said_at_once(target, params, message):
    with pytest.raises(InvalidValue) as error:
        External(target, params)
    assert message in str(error.value)


def test_a_module_that_fails_to_import(tmp_path, monkeypatch):
    (tmp_path / "crashing.py").write_text("1 / 0")
    (tmp_path / "lacking.py").write_text("import not_installed")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InvalidValue, match="'crashing' cannot be imported: division by zero"):
        External("crashing.Loss")
    with pytest.raises(InvalidValue, match="'lacking' cannot be imported: No module named 'not_installed'"):
        External("lacking.Loss")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"space": "logits"}, "The 'space' parameter of External must be one of value, .* Got 'logits'"),
        ({"encoding": "one-hot"}, "The 'encoding' parameter of External must be one of"),
        ({"reduction": "none"}, "The 'reduction' parameter of External must be one of auto, keep"),
        (
            {"arguments": ["predictions"]},
            "The 'arguments' parameter of External must be one of prediction, target, resid",
        ),
    ],
)
def test_fields_out_of_range(fields, message):
    with pytest.raises(InvalidValue, match=message):
        External("torch.nn.MSELoss", **fields)


def test_plain_settings_become_enums():
    loss = registry.losses.get("external", target="torch.nn.NLLLoss", space="log_probability", encoding="index")
    assert (loss.space, loss.encoding) == (Space.LOG_PROBABILITY, Encoding.INDEX)
    assert loss == External("torch.nn.NLLLoss", space=Space.LOG_PROBABILITY, encoding=Encoding.INDEX)
    assert loss != External("torch.nn.NLLLoss")


def test_each_instance_keeps_its_own():
    first, second = External("strange.Counting"), External("strange.Counting")
    assert first(PREDICTION, VALUES).sum() < first(PREDICTION, VALUES).sum()
    torch.testing.assert_close(second(PREDICTION, VALUES), (PREDICTION - VALUES).abs().mean(1))
    assert first == second
    assert hash(first) == hash(second)
    assert vars(first) == vars(second)


def test_what_was_made_is_not_pickled():
    loss = External("strange.Spread", {"weight": [1.0, 1.0, 1.0]}, coupled=True)
    loss(PREDICTION, VALUES)
    assert b"Spread" not in pickle.dumps(loss).replace(b"strange.Spread", b"")
    again = pickle.loads(pickle.dumps(loss))
    torch.testing.assert_close(again(PREDICTION, VALUES), loss(PREDICTION, VALUES))


def test_nothing_is_kept_alive():
    loss = External("torch.nn.MSELoss")
    loss(PREDICTION, VALUES)
    seen = weakref.ref(loss)
    del loss
    gc.collect()
    assert seen() is None


def test_fits_every_task():
    assert registry.fits_task(External, "regression")
    assert registry.fits_task(External, "anything")
