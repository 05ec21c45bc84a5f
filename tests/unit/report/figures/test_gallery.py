"""Pictures: what is drawn and written, read back from the figure and from the PNG."""

import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.text import edit_distance
from torchvision.ops import box_iou

from lossbench.errors import InvalidValue
from lossbench.report.figures.gallery import (
    DPI,
    MISSED,
    MOST_LINES,
    PREDICTION,
    RIGHT,
    TARGET,
    WRONG,
    compute_iou,
    draw_gallery,
    render_png,
)
from lossbench.types import Picture

NAMES = ("circle", "square", "ring")


def images(n, channels=1, height=16, width=16):
    return np.random.default_rng(0).random((n, channels, height, width))


def written(axes):
    """What is written below an image, with colours."""
    return [(text.get_text(), text.get_color()) for text in axes.texts]


def below(kind, target, prediction, names=NAMES):
    predictions = None if prediction is None else np.array([prediction], float)
    return written(draw_gallery(kind, images(1), np.array([target]), predictions, names).axes[0])


@pytest.mark.parametrize(("n", "columns", "across"), [(12, 4, 4), (5, 5, 5), (3, 5, 3), (1, 5, 1)])
def test_the_png_has_the_size_of_the_figure(n, columns, across):
    figure = draw_gallery(Picture.NONE, images(n), np.zeros(n), columns=columns)
    drawn = Image.open(BytesIO(render_png(figure)))
    assert drawn.format == "PNG"
    assert drawn.size == tuple(int(side) for side in figure.bbox.size)
    assert drawn.size[0] == pytest.approx(DPI * (1.48 * across + 0.08), abs=1)
    assert len({round(axes.get_position().x0, 6) for axes in figure.axes}) == across


def test_four_columns_are_two_thumbnails_wide():
    """TensorBoard shows 350 pixels, and leaves out every second one of these."""
    assert abs(draw_gallery(Picture.NONE, images(4), np.zeros(4), columns=4).bbox.width - 2 * 350) < 5


def test_equal_examples_give_equal_bytes():
    boxes = np.array([[2, 3, 9, 12.0]])
    once, again, other = (render_png(draw_gallery(Picture.BOX, images(1), boxes, boxes + shift)) for shift in (1, 1, 2))
    assert once == again != other


def test_a_picture_shows_its_image():
    """Black above white: found again in the pixels."""
    inputs = np.concatenate([np.zeros((1, 1, 8, 16)), np.full((1, 1, 8, 16), 7.0)], 2)
    drawn = np.array(Image.open(BytesIO(render_png(draw_gallery(Picture.NONE, inputs, np.zeros(1))))).convert("L"))
    middle = drawn[:, drawn.shape[1] // 2]
    assert middle[len(middle) // 4] == 0
    assert middle[len(middle) * 3 // 4] == 255


def test_grey_images_share_their_scale():
    inputs = np.stack([np.full((1, 4, 4), value) for value in (-2.0, 0.0, 6.0)])
    shown = [float(axes.images[0].get_array()[0, 0]) for axes in draw_gallery(Picture.NONE, inputs, np.zeros(3)).axes]
    assert shown == [0.0, 0.25, 1.0]


def test_images_of_one_value_are_drawn():
    figure = draw_gallery(Picture.NONE, np.full((2, 1, 4, 4), 3.0), np.zeros(2))
    assert np.isfinite(figure.axes[0].images[0].get_array()).all()


@pytest.mark.parametrize(("value", "shown"), [(0.5, 0.5), (-0.5, 0.0), (1.5, 1.0), (51.0, 0.2), (300.0, 1.0)])
def test_colours_are_clipped_and_bytes_are_known(value, shown):
    inputs = np.zeros((1, 3, 4, 4))
    inputs[0, 1] = value
    colour = draw_gallery(Picture.NONE, inputs, np.zeros(1)).axes[0].images[0].get_array()[0, 0]
    np.testing.assert_allclose(colour, [0, shown, 0])


@pytest.mark.parametrize("shape", [(2, 8), (2, 8, 8), (2, 2, 8, 8)])
def test_other_inputs_are_refused(shape):
    with pytest.raises(InvalidValue, match=r"needs inputs \[n, C, H, W\] with C 1 or 3\. Got \[2, "):
        draw_gallery(Picture.LABELS, np.zeros(shape), np.zeros((2, 3)))


def test_boxes_are_where_their_corners_are():
    target, prediction = [2.0, 3.0, 9.0, 12.0], [4.0, 3.0, 11.0, 12.0]
    figure = draw_gallery(Picture.BOX, images(1, 3), np.array([target]), np.array([prediction]))
    (axes,) = figure.axes
    found = [(p.get_bbox().extents.tolist(), p.get_edgecolor(), p.get_linestyle()) for p in axes.patches]
    rgba = [(*(int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)), 1.0) for c in (TARGET, PREDICTION)]
    assert found == [(target, rgba[0], "-"), (prediction, rgba[1], "--")]
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 16), (16, 0))  # rows count from the top
    assert written(axes) == [("IoU 0.56", RIGHT)]  # 5 of 9 columns
    assert [text.get_text() for text in figure.texts] == ["target", "prediction"]


def test_iou_is_torchvisions():
    draw = np.random.default_rng(0)
    corners = np.sort(draw.uniform(0, 10, (200, 2, 2)), 1).reshape(-1, 4)
    near = np.concatenate([corners[:1], corners[:1] + 20, corners])
    for one, other in zip(near, np.roll(near, 1, 0), strict=True):
        wanted = box_iou(torch.tensor(one)[None], torch.tensor(other)[None]).item()
        assert compute_iou(one, other) == pytest.approx(wanted, abs=1e-12)
    assert compute_iou(np.array([1, 1, 1, 1]), np.array([1, 1, 1, 1])) == 0.0


@pytest.mark.parametrize(
    ("target", "scores", "lines"),
    [
        ([1, 0, 1], [2, -1, 3], [("  circle,", RIGHT), ("  ring", RIGHT)]),
        ([1, 0, 1], [2, 1, -3], [("  circle", RIGHT), ("+ square", WRONG), ("- ring", MISSED)]),
        ([0, 0, 0], [0, -1, -1], []),  # a score of 0 is no label
        ([0, 1, 0], None, [("square", RIGHT)]),
        (2, [-3, -2, -1], [("  ring", RIGHT)]),  # a class index: the highest score counts
        (2, [0, 5, 1], [("+ square", WRONG), ("- ring", MISSED)]),
    ],
)
def test_labels_are_right_wrong_or_missed(target, scores, lines):
    assert below(Picture.LABELS, target, scores) == lines


def test_of_many_labels_errors_are_written():
    target, scores = np.ones(50, int), np.r_[np.ones(48), -1, -1]
    lines = below(Picture.LABELS, target, scores, ())
    assert len(lines) == MOST_LINES
    assert lines[0] == ("  and more", RIGHT)
    assert lines[-2:] == [("  47", RIGHT), ("- 48, 49", MISSED)]


@pytest.mark.parametrize(
    ("target", "prediction", "lines"),
    [
        ([3, 1, -1, -1], [3, 1, -1, -1], ("31", "31", "  ")),
        ([3, 1, 4, -1], [3, 2, 4, 1], ("314·", "3241", " ^ ^")),
        ([3, 1, 4, -1], [1, 4, -1, -1], ("314", "·14", "^  ")),
        ([3, 1, -1, -1], [-1, 3, 1, 4], ("31", "··", "^^")),  # the padding ends it
    ],
)
def test_texts_stand_below_each_other(target, prediction, lines):
    digits = tuple("123456789")
    wanted = list(zip(lines, (MISSED, RIGHT, WRONG), strict=True))
    assert below(Picture.TEXT, target, prediction, digits) == wanted
    assert below(Picture.TEXT, target, None, digits) == [("".join(str(t) for t in target if t > 0), RIGHT)]


def test_there_are_as_many_carets_as_edits():
    """Against torchmetrics' Levenshtein distance, on random strings."""
    draw = np.random.default_rng(0)
    for _ in range(50):
        target, prediction = (
            np.pad(draw.integers(1, 4, n), (0, 8 - n), constant_values=-1) for n in draw.integers(0, 9, 2)
        )
        texts = ["".join("abc"[t - 1] for t in tokens if t > 0) for tokens in (prediction, target)]
        (_, (carets, _)) = below(Picture.TEXT, target, prediction, tuple("abc"))[1:]
        assert carets.count("^") == int(edit_distance([texts[0]], [texts[1]], reduction="sum"))


def test_long_tokens_are_aligned():
    lines = below(Picture.TEXT, [1, 2, 3], [1, 3, -1], ("a", "long", "z"))
    assert [text for text, _ in lines] == ["a long z ", "a ·    z ", "  ^      "]


def test_tokens_without_names_are_numbers():
    assert below(Picture.TEXT, [12, 3, -1], None, ()) == [("12 3 ", RIGHT)]


@pytest.mark.parametrize(
    ("kind", "target", "prediction", "last"),
    [
        (Picture.BOX, [1.0, 1, 5, 5], [np.nan] * 4, -1),
        (Picture.LABELS, [1, 0, 0], [np.nan] * 3, -1),
        (Picture.TEXT, [1, 2, -1], [np.nan] * 3, -1),
    ],
)
def test_a_row_that_diverged_predicts_nothing(kind, target, prediction, last):
    assert below(kind, target, prediction)[last] == ("no prediction", WRONG)
    if kind == Picture.BOX:
        axes = draw_gallery(kind, images(1), np.array([target]), np.array([prediction])).axes[0]
        assert len(axes.patches) == 1


def test_dollars_are_no_formula():
    figure = draw_gallery(Picture.TEXT, images(1), np.array([[1, 2, 1]]), None, ("$", "\\frac"), titles=["$x$ ^_"])
    render_png(figure)  # a formula that cannot be parsed raises
    assert figure.axes[0].texts[0].get_text() == "$ \\frac $ "


def test_titles_stand_above():
    figure = draw_gallery(Picture.NONE, images(2), np.zeros(2), titles=["clean", "corrupted"])
    assert [axes.get_title() for axes in figure.axes] == ["clean", "corrupted"]


@pytest.mark.parametrize("shape", [(16, 16), (16, 48), (32, 16)])
def test_nothing_overlaps_or_leaves_the_picture(shape):
    names = ("a name much longer than its image is wide", "b", "c")
    titles = ["first", "a title much longer than its image is wide", "third", "fourth", "fifth"]
    targets, scores = np.eye(3, dtype=int)[[0, 1, 2, 0, 1]], np.random.default_rng(0).normal(size=(5, 3))
    figure = draw_gallery(Picture.LABELS, images(5, 1, *shape), targets, scores, names, titles, columns=3)
    render_png(figure)
    parts = [
        [axes.get_window_extent(), *(t.get_window_extent() for t in (*axes.texts, axes.title))] for axes in figure.axes
    ]
    flat = [box for own in (*parts, [t.get_window_extent() for t in figure.texts]) for box in own]
    for box in flat:
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= figure.bbox.width + 1
        assert box.y1 <= figure.bbox.height + 1
    for i, own in enumerate(parts):
        for other in parts[i + 1 :]:
            assert not any(a.overlaps(b) for a in own for b in other)


@pytest.mark.slow
def test_matplotlib_loads_only_to_draw_and_pyplot_never():
    code = (
        "import sys, numpy as np, lossbench.report.figures.gallery as p\n"
        "early = 'matplotlib' in sys.modules\n"
        "p.render_png(p.draw_gallery('none', np.zeros((1, 1, 4, 4)), np.zeros(1)))\n"
        "sys.exit(early or 'matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
