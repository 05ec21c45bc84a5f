"""Trunks and heads."""

import pytest
import torch
from registered import built_in
from torch import nn

from lossbench import models, registry
from lossbench.errors import Incompatible, InvalidValue
from lossbench.models import heads
from lossbench.types import Head


def kinds(module):
    return [type(layer).__name__ for layer in module]


def test_linear_only_flattens():
    trunk, width = models.get("linear").trunk((1, 8, 8))
    assert (kinds(trunk), width) == (["Flatten"], 64)


def test_mlp_has_depth_and_width():
    trunk, width = models.get("mlp", width=5, depth=3).trunk((2, 4))
    assert kinds(trunk) == ["Flatten"] + ["Linear", "ReLU"] * 3
    assert width == 5
    assert [layer.in_features for layer in trunk if isinstance(layer, nn.Linear)] == [8, 5, 5]


def test_cnn_doubles_its_channels():
    trunk, width = models.get("cnn", channels=6, depth=2).trunk((3, 9, 9))
    block = ["Conv2d", "GroupNorm", "ReLU", "MaxPool2d"]
    assert kinds(trunk) == [*block, *block, "AdaptiveAvgPool2d", "Flatten"]
    assert width == 12


def test_cnn_flat_flattens_what_its_strides_leave():
    trunk, width = models.get("cnn_flat", channels=6, width=7).trunk((3, 9, 13))
    block = ["Conv2d", "GroupNorm", "ReLU"]
    assert kinds(trunk) == [*block, *block, *block, "Flatten", "Linear", "ReLU"]
    assert trunk[-2].in_features == 3 * 3 * 4
    assert width == 7


def test_cnn_max_finds_a_thing_wherever_it_is():
    trunk, width = models.get("cnn_max", channels=2).trunk((1, 24, 24))
    image = torch.zeros(2, 1, 24, 24)
    image[0, 0, 4:8, 4:8] = image[1, 0, 12:16, 8:12] = 1
    assert width == 8
    torch.testing.assert_close(*trunk[0](image).amax((2, 3)))  # GroupNorm sees the borders: not behind it


@pytest.mark.parametrize("name", ["recogniser", "recogniser_lstm"])
def test_recognisers_read_half_as_many_steps_as_there_are_columns(name):
    trunk, width = models.get(name, channels=2, width=6).trunk((1, 12, 30))
    assert trunk(torch.zeros(4, 1, 12, 30)).shape == (4, 15, width)


def test_an_lstm_of_two_directions_has_an_even_width():
    with pytest.raises(InvalidValue, match=r"must be even\. Got 7"):
        models.get("recogniser_lstm", width=7)


def test_recognisers_take_no_vectors():
    with pytest.raises(
        Incompatible, match=r"recogniser takes images of shape \[C, H, W\]. Got inputs of shape \[10\]\.$"
    ):
        models.get("recogniser").trunk((10,))


def test_cnn_refuses_flat_inputs_and_names_what_would_do():
    with pytest.raises(Incompatible, match=r"images of shape \[C, H, W\]. Got inputs of shape \[10\]: model=mlp"):
        models.get("cnn").trunk((10,))


def test_cnn_refuses_images_too_small_for_its_depth():
    with pytest.raises(Incompatible, match=r"16 pixels a side. Got \[1, 8, 8\]"):
        models.get("cnn", depth=4).trunk((1, 8, 8))


@pytest.mark.parametrize(
    ("name", "fields"),
    [("mlp", {"width": 0}), ("mlp", {"depth": 1.5}), ("cnn", {"channels": -1}), ("cnn", {"depth": 0})],
)
def test_sizes_are_checked(name, fields):
    with pytest.raises(InvalidValue, match=r"must be an int in the range \[1, inf\)"):
        models.get(name, **fields)


@pytest.mark.parametrize("head", [Head.LINEAR, Head.MEAN_SCALE, Head.EMBEDDING])
def test_most_heads_are_linear_layers(head):
    layer = heads.build_head(head, 6, 4)
    assert isinstance(layer, nn.Linear)
    assert layer.weight.shape == (4, 6)


def test_cosine_head_is_the_scaled_cosine():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = heads.build_head(Head.COSINE, 6, 4).double()
        features = torch.randn(5, 6, dtype=torch.float64)
    expected = 16 * nn.functional.cosine_similarity(features[:, None], head.weight[None], dim=-1)
    torch.testing.assert_close(head(features), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(head(3 * features), head(features), rtol=1e-6, atol=1e-6)


def test_cosine_head_has_a_moderate_gradient_at_a_zero_vector():
    head = heads.CosineHead(6, 4).double()
    features = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
    head(features).sum().backward()
    assert features.grad.isfinite().all()
    assert features.grad.norm() <= 16 * 4 / heads.EPSILON
    assert head.weight.grad.isfinite().all()


def test_names():
    assert built_in(registry.models, "regression") == ["cnn", "cnn_flat", "cnn_max", "linear", "mlp"]
    assert set(models.list_names()) - set(models.list_names("regression")) == {"recogniser", "recogniser_lstm"}
