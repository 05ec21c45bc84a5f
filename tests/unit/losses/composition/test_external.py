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
from lossbench.losses import CTC, External
from lossbench.types import Encoding, Head, Problem, Requirement, Space

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
    """A batch-level loss with a buffer."""

    def __init__(self, weight: torch.Tensor, *, strict: bool = False):
        super().__init__()
        self.register_buffer("scale", weight)

    def forward(self, prediction, target):
        return ((prediction - target) * self.scale).var()


class Scaled(nn.Module):
    """A loss with a trainable scale in a part of it."""

    def __init__(self, power=2.0):
        super().__init__()
        self.inner = nn.Linear(C, 1, bias=False)
        self.power = power

    def forward(self, x, y):
        return self.inner((x - y).abs() ** self.power)


class Running(nn.Module):
    """Keeps a running mean."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x, y):
        self.mean.mul_(0.9).add_(0.1 * x.detach().mean())
        return (x - y - self.mean) ** 2


class Named:
    """Its work is done by a method of another name."""

    def compute(self, prediction, target):
        return (prediction - target).square()


def spatial(prediction, target):
    """Takes images only."""
    assert prediction.ndim == target.ndim == 4
    return (prediction - target).square().mean((1, 2, 3))


def focal(prediction, target):
    return sigmoid_focal_loss(prediction, target, alpha=0.25, gamma=1.0, reduction="mean")


@pytest.fixture(autouse=True)
def strange(monkeypatch):
    """A third party's module."""
    module = ModuleType("strange")
    module.Counting, module.Spread, module.number = Counting, Spread, 3
    module.residual_cube = lambda residual, power=3: residual.abs() ** power
    module.detour = lambda prediction, target: {"loss": (prediction - target).square()}
    module.several = lambda prediction, target: {"ce": prediction, "l2": (prediction - target).square()}
    module.pair = lambda prediction, target: (0, (prediction - target).square())
    module.text = lambda prediction, target: "0.3"
    module.Scaled, module.Running, module.Named = Scaled, Running, Named
    module.keywords = lambda *, labels, logits: (logits - labels).square()
    module.spatial = spatial
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
    loss = External("strange.Spread", {"weight": [1, 2, 3]}, batch_level=True)
    wanted = ((PREDICTION - VALUES) * torch.tensor([1.0, 2.0, 3.0])).var()
    torch.testing.assert_close(loss(PREDICTION, VALUES), wanted)
    # a reduction is left alone, and what is not reduced is averaged
    torch.testing.assert_close(
        External("torch.nn.MSELoss", batch_level=True)(PREDICTION, VALUES), nn.MSELoss()(PREDICTION, VALUES)
    )
    unreduced = External("torch.nn.MSELoss", {"reduction": "none"}, batch_level=True)
    torch.testing.assert_close(unreduced(PREDICTION, VALUES), nn.MSELoss()(PREDICTION, VALUES))


@pytest.mark.parametrize(
    "loss",
    [
        External("torch.nn.MSELoss", reduction="keep"),
        External("torch.nn.MSELoss", {"reduction": "sum"}),
    ],
)
def test_one_value_for_all_must_be_declared(loss):
    with pytest.raises(
        InvalidValue, match=r"one value per example, shape \[12, \.\.\.\]\. Got \[\].*set batch_level=true"
    ):
        loss(PREDICTION, VALUES)


def test_must_return_a_tensor():
    with pytest.raises(InvalidValue, match=r"strange\.text must return a tensor\. Got str"):
        External("strange.text")(PREDICTION, VALUES)
    with pytest.raises(InvalidValue, match=r"Got a dict instead.*loss\.entry=<one of ce, l2>"):
        External("strange.several")(PREDICTION, VALUES)
    with pytest.raises(InvalidValue, match=r"Got a tuple instead, which has no entry '3'"):
        External("strange.pair", entry="3")(PREDICTION, VALUES)


@pytest.mark.parametrize(
    ("path", "entry"), [("strange.detour", None), ("strange.several", "l2"), ("strange.pair", "1"), ("strange.pair", 1)]
)
def test_the_loss_is_an_entry_of_what_is_returned(path, entry):
    losses = External(path, entry=entry)(PREDICTION, VALUES)
    torch.testing.assert_close(losses, (PREDICTION - VALUES).square().mean(1))


@pytest.mark.parametrize(
    ("target", "params", "message"),
    [
        ("torch.nn.HuberLos", {}, "torch.nn has no 'HuberLos'. Did you mean 'HuberLoss'?"),
        ("torch.nn.HuberLoss.fro", {}, "torch.nn.HuberLoss has no 'fro'."),
        ("torhc.nn.HuberLoss", {}, "there is no package 'torhc', and no file torhc.py"),
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
        ({"reduction": "auto"}, "The 'reduction' parameter of External must be one of none, keep, each"),
        ({"layout": "channels"}, "The 'layout' parameter of External must be one of last, first, steps"),
        ({"axes": -1}, "The 'axes' parameter of External must be an int"),
        ({"batch_level": "yes"}, "The 'batch_level' parameter of External must be true or false"),
        ({"method": "froward"}, "torch.nn.MSELoss has no method 'froward'. Did you mean 'forward'?"),
        (
            {"arguments": ["predictions"]},
            "The 'arguments' parameter of External must be one of prediction, target, embedding, residual, input_l",
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
    loss = External("strange.Spread", {"weight": [1.0, 1.0, 1.0]}, batch_level=True)
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
    assert all(registry.fits_task(External, task) for task in registry.tasks.names())


def test_open_fields_are_what_is_usual():
    loss = External("torch.nn.MSELoss")
    assert (loss.space, loss.encoding, loss.arguments) == (Space.VALUE, Encoding.VALUE, ["prediction", "target"])
    assert (loss.layout, loss.axes, loss.reduction, loss.batch_level, loss.entry) == ("last", 0, "none", False, "")
    assert loss == External("torch.nn.MSELoss", space="value", arguments=["prediction", "target"], batch_level=False)


def test_arguments_by_keyword():
    losses = External("strange.keywords", arguments=["logits=prediction", "labels=target"])(PREDICTION, VALUES)
    torch.testing.assert_close(losses, (PREDICTION - VALUES).square().mean(1))


def test_another_method():
    losses = External("strange.Named", method="compute")(PREDICTION, VALUES)
    torch.testing.assert_close(losses, (PREDICTION - VALUES).square().mean(1))


def test_axes_are_added():
    losses = External("strange.spatial", axes=2)(PREDICTION, VALUES)
    torch.testing.assert_close(losses, (PREDICTION - VALUES).square().mean(1))


def test_classes_first():
    sequences, tokens = drawn(N, 5, C), torch.arange(N * 5).view(N, 5) % C
    losses = External("torch.nn.CrossEntropyLoss", layout="first")(sequences, tokens)
    wanted = nn.CrossEntropyLoss(reduction="none")(sequences.flatten(0, 1), tokens.flatten()).view(N, 5).mean(1)
    torch.testing.assert_close(losses, wanted)


def test_steps_first_with_lengths():
    """As the built-in one, which is checked against alignments by brute force."""
    logits, tokens = drawn(N, 9, C), torch.where(torch.arange(3) < torch.arange(N).view(-1, 1) % 4, 1, -1)
    roles = ["prediction", "target", "input_lengths", "target_lengths"]
    loss = External("torch.nn.CTCLoss", layout="steps", arguments=roles)
    torch.testing.assert_close(loss(logits.log_softmax(-1), tokens), CTC()(logits, tokens))


def test_one_example_at_a_time():
    """A mean over examples that has no other form gives one value for each."""
    path = "torch.nn.functional.cross_entropy"
    each = External(path, {"reduction": "mean"}, reduction="each")(PREDICTION, INDEX)
    torch.testing.assert_close(each, nn.CrossEntropyLoss(reduction="none")(PREDICTION, INDEX))


def test_what_broadcasts_is_refused():
    with pytest.warns(UserWarning, match="target size"), pytest.raises(InvalidValue, match="did prediction and target"):
        External("torch.nn.MSELoss")(PREDICTION[:, :1], VALUES[:, 0])


def test_trainable_parameters_are_trained():
    problem = Problem(input_shape=(3,), n_outputs=C, n_examples=N)
    loss = External("strange.Scaled", {"power": 1.0})
    assert loss.requires == (Requirement.PARAMETERS,)
    first, again = (loss.init_parameters(problem, torch.Generator().manual_seed(s)) for s in (0, 0))
    other = loss.init_parameters(problem, torch.Generator().manual_seed(1))
    assert first.keys() == {"inner/weight"}
    assert torch.equal(first["inner/weight"], again["inner/weight"])
    assert not torch.equal(first["inner/weight"], other["inner/weight"])
    weight = first["inner/weight"].double().requires_grad_()
    losses = loss(PREDICTION, VALUES, parameters={"inner/weight": weight})
    torch.testing.assert_close(losses, ((PREDICTION - VALUES).abs() @ weight.T).squeeze(1))
    losses.sum().backward()
    torch.testing.assert_close(weight.grad, (PREDICTION - VALUES).abs().sum(0, keepdim=True))
    trained = loss.module(problem=problem)
    assert [p.shape for p in trained.parameters()] == [(1, C)]


def test_making_one_draws_nothing():
    before = torch.get_rng_state()
    External("strange.Scaled").init_parameters(Problem((3,), C, N), torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_buffer_that_changes_is_refused():
    with pytest.raises(InvalidValue, match=r"strange\.Running changes its buffer mean with each call"):
        External("strange.Running")(PREDICTION, VALUES)


def test_parameters_need_forward():
    with pytest.raises(InvalidValue, match="only its forward can be called"):
        External("strange.Scaled", method="double")


def test_an_embedding_has_its_head():
    assert External("torch.nn.MSELoss", space="embedding").head is Head.EMBEDDING
    assert External("torch.nn.MSELoss", space="logit").head is Head.LINEAR


def test_two_outputs_per_target_have_their_head():
    assert External("torch.nn.MSELoss", space="mean_log_scale").head is Head.MEAN_SCALE


def test_it_tells_what_it_is_taken_for():
    loss = External("torch.nn.MSELoss", space="logit", encoding="one_hot", axes=2, batch_level=True)
    assert loss.describe() == (
        "external torch.nn.MSELoss: takes prediction, target (logit, one_hot, 2 more axes), gives one value per batch, "
        "so it counts as batch-level."
    )
