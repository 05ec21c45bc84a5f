"""Values and slopes against closed forms, and what is read back from the figure."""

from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import complete_box_iou_loss, generalized_box_iou_loss

from lossbench import registry
from lossbench.errors import Incompatible, InvalidValue, LossbenchError, UnknownName
from lossbench.interfaces.encodings import ENCODINGS
from lossbench.interfaces.loss import Loss
from lossbench.interfaces.spaces import SPACES
from lossbench.report.figures import shape_curves, shapes
from lossbench.report.figures.shape_axes import AXES
from lossbench.report.figures.shape_curves import N_POINTS, compute_curves
from lossbench.report.figures.shape_paths import PATH_BUILDERS, build_paths
from lossbench.report.figures.shapes import compute_limits, draw_shapes, write_caption
from lossbench.report.figures.style import COLOURS, DPI, render_figure
from lossbench.types import Encoding, Space

EXAMPLES = {"external": {"target": "torch.nn.HuberLoss"}, "combined": {"terms": ["mse", "huber"]}}
"""Fields without a default."""


def made(name, **fields):
    return registry.losses.get(name, **(EXAMPLES.get(name, {}) | fields))


def drawn(names, *args, **kwargs):
    return compute_curves({name: made(name) for name in names.split()}, *args, **kwargs)


def one(name, *args, **kwargs):
    (curve, *_) = drawn(name, *args, **kwargs).curves
    return curve


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


NAMES = registry.losses.names()
OTHERS = {n for n in NAMES if not registry.losses.find(n).__module__.startswith("lossbench.losses.")}
"""Losses of other packages, which may refuse what they are called with."""


@pytest.mark.parametrize("name", [n for n in NAMES if n not in OTHERS])
def test_every_loss_is_drawn_on_each_of_its_axes(name):
    loss = made(name)
    found = [compute_curves({name: loss}, axis) for axis in build_paths(name, loss)]
    assert found
    for curve in (curve for one in found for curve in one.curves):
        assert len(curve.x) == N_POINTS
        assert curve.inside.sum() > N_POINTS / 2
        assert curve.n_gaps == 0
        assert np.ptp(curve.value[curve.inside]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OTHERS))
def test_a_loss_of_another_library_is_drawn_or_refused_by_name(name, monkeypatch):
    monkeypatch.setattr(shape_curves, "N_POINTS", 10)  # some take one batch at a time, and that for long
    try:
        loss = made(name)
        for axis in build_paths(name, loss):
            assert len(compute_curves({name: loss}, axis).curves[0].x) == 10
    except LossbenchError as error:
        if name not in str(error):
            raise


def test_every_pair_of_space_and_encoding_that_losses_have_is_known():
    kinds = [registry.losses.find(name) for name in NAMES if name not in OTHERS | EXAMPLES.keys()]
    assert {ENCODINGS[kind.encoding].kind for kind in kinds} == PATH_BUILDERS.keys()
    assert all(ENCODINGS[kind.encoding].kind in SPACES[kind.space].kinds for kind in kinds)


@pytest.mark.parametrize(
    ("name", "slope"),
    [
        ("mse", lambda r: 2 * r),
        ("mae", np.sign),
        ("huber", lambda r: np.clip(r, -1, 1)),
        ("cauchy", lambda r: r / (1 + r**2 / 2)),
    ],
)
def test_slopes_against_the_error_are_the_closed_forms(name, slope):
    """Derivatives by hand; Cauchy's is that of Barron (2019) with alpha = 0 and c = 1."""
    curve = one(name)
    np.testing.assert_allclose(curve.slope, slope(curve.x), atol=1e-12)


def test_a_loss_with_a_residual_scale_is_drawn_at_scale_1():
    """Tukey's biweight by Beaton and Tukey (1974), with the constant of 95 % efficiency."""
    curve = one("tukey", range=(-8, 8))
    c = made("tukey").c
    inside = np.abs(curve.x) <= c
    np.testing.assert_allclose(curve.slope, inside * curve.x * (1 - (curve.x / c) ** 2) ** 2, atol=1e-12)


def test_cross_entropy_against_margin_and_probability():
    margin, probability = one("cross_entropy"), one("cross_entropy", "probability")
    np.testing.assert_allclose(margin.value, np.log(1 + 3 * np.exp(-margin.x)))  # four classes
    inside = probability.inside
    np.testing.assert_allclose(probability.value[inside], -np.log(probability.x[inside]))
    np.testing.assert_allclose(probability.slope[inside], probability.x[inside] - 1)


def test_both_sides_of_two_classes_are_drawn_where_they_differ():
    assert [c.variant for c in drawn("bce").curves] == ["y = 1"]
    positive, negative = drawn("focal").curves
    assert (positive.variant, negative.variant) == ("y = 1", "y = 0")
    # alpha = 0.25 for the positive class, gamma = 2 (Lin et al., 2017)
    p = sigmoid(positive.x)
    np.testing.assert_allclose(positive.value, -0.25 * (1 - p) ** 2 * np.log(p))
    np.testing.assert_allclose(negative.value, 3 * positive.value)


def test_counts_against_the_rate_and_the_error():
    rate, error = one("poisson_nll"), one("poisson_nll", "error", (-5, 5))
    np.testing.assert_allclose(rate.slope, rate.x - 3, atol=1e-9)
    np.testing.assert_allclose(rate.value, rate.x - 3 * np.log(rate.x), atol=1e-9)
    assert not error.inside[error.x <= -3].any()
    np.testing.assert_allclose(error.slope[error.inside], 1 - 3 / (3 + error.x[error.inside]), atol=1e-9)
    assert error.n_gaps == 0


def test_gaussian_nll_against_error_and_scale():
    error, sigma = one("gaussian_nll"), one("gaussian_nll", "sigma")
    np.testing.assert_allclose(error.slope, error.x)
    np.testing.assert_allclose(sigma.slope, 1 - sigma.x**-2.0, atol=1e-9)


@pytest.mark.parametrize(("name", "reference"), [("giou", generalized_box_iou_loss), ("ciou", complete_box_iou_loss)])
def test_boxes_move_apart_as_torchvision_has_it(name, reference):
    curve = one(name)
    x = torch.tensor(curve.x)[curve.inside]
    zero, unit = torch.zeros_like(x), torch.ones_like(x)
    moved, target = (torch.stack([a, zero, a + 1, unit], -1) for a in (x, zero))
    np.testing.assert_allclose(curve.value[curve.inside], reference(moved, target).numpy(), atol=1e-6)


def test_iou_is_flat_where_boxes_are_disjoint():
    curve = one("iou")
    apart = curve.x > 1
    assert (curve.value[apart] == 1).all()
    assert (curve.slope[apart] == 0).all()


def test_a_box_scales_about_its_centre():
    curve = one("iou", "scale")
    np.testing.assert_allclose(curve.value, 1 - np.minimum(curve.x, 1 / curve.x) ** 2, atol=1e-12)


def test_triplet_and_contrastive_against_the_distance():
    same, other = drawn("contrastive", "distance").curves
    # six pairs, of which one changes: half of d squared, and half of (1 - d) squared
    inside = same.inside
    x = same.x[inside]
    np.testing.assert_allclose(same.slope[inside], x / 6, atol=1e-9)
    np.testing.assert_allclose(other.slope[inside], -np.clip(1 - x, 0, None) / 6, atol=1e-9)


def test_one_example_of_a_coupled_loss_moves():
    curve = one("dice")
    assert (np.diff(curve.value) < 0).all()
    assert "one example of a batch of 4 moves" in drawn("dice").fixed


def test_lists_and_texts_and_transcripts():
    lead, text, transcript = one("ranknet"), one("autoregressive_nll"), one("ctc", "probability")
    np.testing.assert_allclose(lead.value, np.log1p(np.exp(-lead.x)))
    np.testing.assert_allclose(text.value, np.log(1 + 3 * np.exp(-text.x)))
    # 1 2 is read from 1-2, 112, 122, -12 and 12-, whose steps have probability p where they are as in 1-2, and else q
    p = transcript.x[transcript.inside]
    q = (1 - p) / 3
    ways = p**3 + p * q * p + p * q * p + q * q * p + p * q * q
    np.testing.assert_allclose(transcript.value[transcript.inside], -np.log(ways))


def test_distillation_is_least_at_the_teacher():
    curve = one("logit_matching", range=(-2, 8))
    np.testing.assert_allclose(curve.value, (curve.x - 3) ** 2 / 4)


def test_class_vectors_are_turned_away_from():
    """Deng et al. (2019): s = 16, m = 0.5, three other classes at right angles."""
    curve = one("arcface", range=(0, 140))
    x = np.deg2rad(curve.x)
    np.testing.assert_allclose(curve.value, np.log1p(3 * np.exp(-16 * np.cos(x + 0.5))), rtol=1e-6)


def test_normalised_losses_have_a_steepest_slope_of_1():
    for curve in drawn("mse huber wing", normalise=True).curves:
        assert np.abs(curve.slope).max() == pytest.approx(1)


def test_the_first_common_axis_is_taken():
    assert drawn("l1 giou").axis.name == "offset"
    assert drawn("mse mape").axis.name == "error"
    assert drawn("hinge cross_entropy").axis.name == "margin"


@pytest.mark.parametrize(
    ("names", "settings", "told"),
    [
        (
            "mse huber hinge",
            {},
            r"share no axis: mse, huber go with error; hinge goes with margin or probability\. Draw",
        ),
        ("mse hinge", {"against": "margin"}, "against 'margin': mse goes with error"),
    ],
)
def test_losses_that_do_not_go_together_are_named(names, settings, told):
    with pytest.raises(Incompatible, match=told):
        drawn(names, **settings)


def test_an_unknown_axis_is_told_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'margin'"):
        drawn("hinge", "margins")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"range": (3, -3)}, "greater one, as -3,3. Got 3,-3"),
        ({"range": (0, float("inf"))}, "Got 0,inf"),
        ({"against": "rate", "range": (0, 3)}, "starts above 0. Got 0"),
        ({"against": "error", "range": (-9, -4)}, "Nothing can be predicted between -9 and -4"),
    ],
)
def test_a_range_that_is_none_is_refused(settings, told):
    with pytest.raises(InvalidValue, match=told):
        drawn("poisson_nll", **settings)


class Odd(Loss):
    """A stranger's loss."""

    tasks = ("regression",)
    space = Space.VALUE
    encoding = Encoding.VALUE

    def __call__(self, prediction, target):
        return ((prediction - target).abs().squeeze(-1) - 1).log()


class Broken(Odd):
    def __call__(self, prediction, target):
        raise RuntimeError("not today")


class Reduced(Odd):
    def __call__(self, prediction, target):
        return (prediction - target).abs().mean()


class Unknown(Odd):
    space = Space.EMBEDDING


class Batches(Reduced):
    batch_level = True


def test_what_is_not_finite_is_a_gap_and_told():
    found = compute_curves({"odd": Odd(), "mse": made("mse")})
    assert np.isnan(found.curves[0].value[np.abs(found.curves[0].x) < 1]).all()
    assert f"odd is not finite at 200 of {N_POINTS} points: a gap." in write_caption(found, {})
    assert render_figure(draw_shapes(found), "png", 50)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Broken, "cannot be drawn against 'error': RuntimeError: not today"),
        (Reduced, r"must give one value per example, \[600\] in all. Got \[\] instead"),
        (Unknown, "no path is known for embedding predictions and value targets"),
    ],
)
def test_a_strangers_loss_is_refused_with_the_reason(kind, told):
    with pytest.raises(Incompatible, match=told):
        compute_curves({"theirs": kind()})


def test_a_strangers_coupled_loss_is_called_batch_by_batch():
    curve = compute_curves({"theirs": Batches()}).curves[0]
    np.testing.assert_allclose(curve.slope, np.sign(curve.x) / 3)


def test_tidy_numbers_have_a_row_per_point():
    table = drawn("bce focal").tidy()
    assert list(table.columns) == ["loss", "variant", "x", "value", "slope"]
    assert table.groupby(["loss", "variant"]).size().to_dict() == {
        ("bce", "y = 1"): N_POINTS, ("focal", "y = 1"): N_POINTS, ("focal", "y = 0"): N_POINTS
    }  # fmt: skip


# the figure


def test_ten_losses_differ_in_colour_or_dashes():
    found = compute_curves({f"huber {i}": made("huber", delta=0.1 + i) for i in range(2 * len(COLOURS))})
    lines = [line for line in draw_shapes(found).axes[0].lines if not line.get_label().startswith("_")]
    looks = {(line.get_color(), str(line.get_linestyle()), str(line._dash_pattern)) for line in lines}
    assert len(looks) == 2 * len(COLOURS)


def test_no_two_of_six_losses_have_their_gaps_in_the_same_places():
    # squared_hinge and square_on_margin are one curve up to the margin, which showed the second only
    found = drawn("hinge squared_hinge perceptron exponential soft_margin square_on_margin")
    lines = [line for line in draw_shapes(found).axes[0].lines if line.get_label() in found.labels]
    assert len({str(line._dash_pattern) for line in lines}) == len(lines) == 6


def test_both_panels_draw_the_curves_in_the_same_style():
    found = drawn("mse huber tukey")
    left, right = draw_shapes(found).axes
    for curve, value, slope in zip(found.curves, left.lines, right.lines, strict=False):
        np.testing.assert_array_equal(value.get_ydata(), curve.value)
        np.testing.assert_array_equal(slope.get_ydata(), curve.slope)
        assert value.get_color() == slope.get_color()
        assert value.get_label() == curve.loss


def test_the_margin_is_drawn_with_the_error_that_is_counted():
    assert "0/1 error" in [line.get_label() for line in draw_shapes(drawn("hinge")).axes[0].lines]
    assert "0/1 error" not in [line.get_label() for line in draw_shapes(drawn("mse")).axes[0].lines]


def test_a_loss_far_above_the_others_is_cut_off_and_told():
    found = drawn("hinge perceptron exponential", range=(-6, 3))
    low, high, cut = compute_limits(found.curves, "value")
    assert cut == ["exponential"]
    assert high < 40
    assert low < 0
    texts = [text.get_text() for text in draw_shapes(found).findobj() if hasattr(text, "get_text")]
    assert any("Cut off, far from the others: value of exponential" in text for text in texts)
    assert compute_limits(drawn("mse huber").curves, "value")[2] == []


def test_a_huge_range_is_drawn_on_logarithmic_axes():
    found = drawn("mse huber", range=(-1e4, 1e4))
    axes = draw_shapes(found).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("symlog", "symlog")
    assert "logarithmic" in write_caption(found, {})
    assert axes.get_ylim()[1] > 1e8


def test_the_caption_says_what_is_held_fixed_and_for_which():
    assert write_caption(drawn("huber tukey"), {}) == "Held fixed: residual scale 1 (tukey)."
    assert write_caption(drawn("tukey"), {}) == "Held fixed: residual scale 1."
    assert "Thick: y = 1; thin: y = 0." in write_caption(drawn("focal"), {})
    assert "equal class counts" in write_caption(drawn("ldam"), {})
    assert write_caption(drawn("huber"), {}) == ""


@pytest.mark.slow
def test_both_formats_are_the_same_twice_and_svg_keeps_text():
    found = drawn("mse huber")
    png = render_figure(draw_shapes(found), "png")
    assert Image.open(BytesIO(png)).size == tuple(round(s * DPI) for s in shapes.SIZE)
    svg = render_figure(draw_shapes(found), "svg")
    assert svg == render_figure(draw_shapes(found), "svg")
    texts = [e.text for e in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert {"mse", "huber", "value"} <= set(texts)


def test_axes_have_a_range_that_they_can_show():
    for axis in AXES.values():
        assert axis.start < axis.end
        assert axis.start > 0 or not axis.logarithmic
