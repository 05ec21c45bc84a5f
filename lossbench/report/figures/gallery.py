"""Pictures of examples: inputs that are images, with targets and predictions drawn on or below them.

Matplotlib is imported where something is drawn, and only its object-oriented part: no window, no global state.
"""

from collections.abc import Sequence
from io import BytesIO
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lossbench.errors import InvalidValue
from lossbench.types import PADDING, Array, Picture

if TYPE_CHECKING:  # takes 0.3 s
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, distinct to people with any colour vision (https://jfly.uni-koeln.de/color/).
RIGHT, WRONG, MISSED = "#000000", "#D55E00", "#0072B2"
TARGET, PREDICTION = "#56B4E9", "#E69F00"
# inches: width of an image, space between images, height of a line of text
IMAGE_WIDTH, GAP, LINE_HEIGHT = 1.4, 0.08, 0.22
# TensorBoard's thumbnails are 350 pixels wide and drop what is between pixels: four columns come to twice that, with
# strokes of twice a pixel.
DPI, POINTS = 117, 12.0
FONT: dict[str, Any] = {"fontfamily": "DejaVu Sans Mono", "fontweight": "bold", "parse_math": False}
WIDTH_PER_HEIGHT = 0.602  # of the letters of DejaVu Sans Mono, which comes with matplotlib
LETTERS = int(IMAGE_WIDTH * 72 / POINTS / WIDTH_PER_HEIGHT)
MOST_LINES = 6
NOTHING = "no prediction"  # of a replica that diverged


class TextLine(NamedTuple):
    """A line of text below an image."""

    text: str
    colour: str


KEYS = {
    Picture.NONE: (),
    Picture.LABELS: (TextLine("right", RIGHT), TextLine("+ wrong", WRONG), TextLine("- missed", MISSED)),
    Picture.BOX: (TextLine("target", TARGET), TextLine("prediction", PREDICTION)),
    Picture.TEXT: (TextLine("target", MISSED), TextLine("prediction", RIGHT), TextLine("^ error", WRONG)),
}


def draw_gallery(
    kind: Picture,
    inputs: Array,
    targets: Array,
    predictions: Array | None = None,
    class_names: Sequence[str] = (),
    titles: Sequence[str] | None = None,
    columns: int = 5,
) -> "Figure":
    """Draw examples in rows of `columns`: each one's image, its target and, if there are any, its prediction.

    kind: BOX draws rectangles and writes their intersection over union; LABELS lists names, wrongly predicted ones
        (score above 0) behind a plus and missed ones behind a minus; TEXT writes target and prediction one below the
        other with a caret at each error; NONE draws the images alone.
    inputs: ``[n, C, H, W]``, C being 1 (grey from the least to the greatest value) or 3 (0 to 1, or to 255 where a
        value is above 2; beyond that clipped).
    targets: ``[n, L]`` of 0 and 1 or ``[n]`` class indices, ``[n, 4]`` corners in pixels, or ``[n, S]`` tokens.
    predictions: ``[n, K]`` as `Task.shown` returns them; NaN where there is none.
    class_names: of the labels, or of the tokens from 1 on; their numbers without.
    titles: one above each image.

    Raises InvalidValue where inputs are no such images.
    """
    if np.ndim(inputs) != 4 or inputs.shape[1] not in (1, 3):
        raise InvalidValue(f"A picture needs inputs [n, C, H, W] with C 1 or 3. Got {list(np.shape(inputs))} instead.")
    from matplotlib.figure import Figure

    # 1. the text: lines below each image, a title above it, and the key in the first line of all
    n, (height, width) = len(inputs), inputs.shape[2:]
    paired = [None] * n if predictions is None else list(predictions)
    lines = [_write_lines(kind, t, p, class_names) for t, p in zip(targets, paired, strict=True)]
    key = KEYS[kind] if predictions is not None else ()

    # 2. the layout, in inches
    image_height = IMAGE_WIDTH * height / width
    n_lines = max(map(len, lines), default=0)
    row_height = image_height + LINE_HEIGHT * (n_lines + (titles is not None)) + GAP
    n_columns, n_rows = min(n, columns) or 1, -(-n // columns)
    total_width = n_columns * (IMAGE_WIDTH + GAP) + GAP
    total_height = n_rows * row_height + GAP + LINE_HEIGHT * 1.5 * bool(key)
    figure = Figure((total_width, total_height), dpi=DPI, facecolor="white")

    # 3. each image with its text and its boxes
    images = _scale_images(inputs)
    heads = [""] * n if titles is None else titles
    for index, (image, below, title) in enumerate(zip(images, lines, heads, strict=True)):
        row, column = divmod(index, columns)
        left = GAP + column * (IMAGE_WIDTH + GAP)
        top = total_height - GAP - LINE_HEIGHT * (1.5 * bool(key) + (titles is not None)) - row * row_height
        place = (left / total_width, (top - image_height) / total_height)
        axes = figure.add_axes((*place, IMAGE_WIDTH / total_width, image_height / total_height))
        axes.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
        axes.set_title(title, fontsize=_fit_font_size(title), pad=2, **FONT)
        size = min((_fit_font_size(text) for text, _ in below), default=POINTS)
        axes_height = total_height * axes.get_position().height
        for number, (text, colour) in enumerate(below):
            y = -(LINE_HEIGHT * (number + 0.15)) / axes_height
            axes.text(0, y, text, color=colour, fontsize=size, va="top", transform=axes.transAxes, **FONT)
        if kind == Picture.BOX:
            _draw_box(axes, targets[index], TARGET, "-")
            _draw_box(axes, paired[index], PREDICTION, "--")

    # 4. the key
    left = GAP
    for text, colour in key:
        place = (left / total_width, 1 - GAP / 2 / total_height)
        figure.text(*place, text, color=colour, va="top", fontsize=POINTS, **FONT)
        left += (len(text) + 2) * POINTS / 72 * WIDTH_PER_HEIGHT
    return figure


def render_png(figure: "Figure") -> bytes:
    """Return the figure as a PNG file, the same bytes for equal figures."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    stream = BytesIO()
    FigureCanvasAgg(figure).print_png(stream)
    return stream.getvalue()


def _scale_images(inputs: Array) -> Array:
    """Return images from 0 to 1: ``[n, H, W]``, or ``[n, H, W, 3]`` in colour."""
    values = np.nan_to_num(np.asarray(inputs, np.float64))
    if values.shape[1] == 1:
        low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
        return (values[:, 0] - low) / (high - low if high > low else 1.0)
    top = 255.0 if values.max(initial=0.0) > 2 else 1.0  # bytes, or numbers around 0 to 1
    return np.moveaxis(values / top, 1, -1).clip(0, 1)


def _write_lines(kind: Picture, target: Array, prediction: Array | None, names: Sequence[str]) -> list[TextLine]:
    """Return what is written below an image."""
    if kind == Picture.LABELS:
        lines = _compare_labels(target, prediction, names)
        n_cut = len(lines) - MOST_LINES  # errors come last, so lines are cut from the front
        return lines if n_cut <= 0 else [TextLine("  and more", RIGHT), *lines[n_cut + 1 :]]
    if kind == Picture.TEXT:
        return _compare_texts(target, prediction, names)
    if kind == Picture.BOX and prediction is not None:
        is_known = _is_finite(prediction)
        return [TextLine(f"IoU {compute_iou(target, prediction):.2f}", RIGHT) if is_known else TextLine(NOTHING, WRONG)]
    return []


def _is_finite(prediction: Array) -> bool:
    return bool(np.isfinite(prediction).all())


def compute_iou(first: Array, second: Array) -> float:
    """Return the intersection over union of two boxes given by their corners x1, y1, x2, y2; 0 where both are empty."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    shared = float(sides.clip(0).prod())
    union = float((first[2:] - first[:2]).prod() + (second[2:] - second[:2]).prod()) - shared
    return shared / union if union > 0 else 0.0


def _compare_labels(target: Array, prediction: Array | None, names: Sequence[str]) -> list[TextLine]:
    """Return the right labels, then the wrong ones, then the missed ones; without a prediction the target's."""
    is_class = np.ndim(target) == 0  # one class, whose score is the highest, or any labels, whose scores are above 0
    present = {int(target)} if is_class else set(np.flatnonzero(np.asarray(target) > 0).tolist())
    if prediction is None:
        return _wrap_names(present, names, "", RIGHT)
    if not _is_finite(prediction):
        return [*_wrap_names(present, names, "- ", MISSED), TextLine(NOTHING, WRONG)]
    predicted = {int(np.argmax(prediction))} if is_class else set(np.flatnonzero(prediction > 0).tolist())
    return [
        *_wrap_names(present & predicted, names, "  ", RIGHT),
        *_wrap_names(predicted - present, names, "+ ", WRONG),
        *_wrap_names(present - predicted, names, "- ", MISSED),
    ]


def _wrap_names(labels: set[int], names: Sequence[str], mark: str, colour: str) -> list[TextLine]:
    """Return names behind a mark, in lines as wide as an image."""
    text = ", ".join(_get_name(label, names) for label in sorted(labels))
    lines = wrap(text, LETTERS, initial_indent=mark, subsequent_indent=" " * len(mark), break_long_words=False)
    return [TextLine(line, colour) for line in lines]


def _get_name(number: int, names: Sequence[str]) -> str:
    return names[number] if 0 <= number < len(names) else str(number)


def _compare_texts(target: Array, prediction: Array | None, names: Sequence[str]) -> list[TextLine]:
    """Return target, prediction, and a caret below each place where they differ."""
    expected = _spell_tokens(target, names)
    if prediction is None:
        return [TextLine("".join(expected), RIGHT)]
    if not _is_finite(prediction):
        return [TextLine("".join(expected), MISSED), TextLine(NOTHING, WRONG)]
    pairs = _align(expected, _spell_tokens(prediction, names))
    widths = [max(len(a), len(b)) for a, b in pairs]
    columns = ([a for a, _ in pairs], [b for _, b in pairs], ["" if a == b else "^" for a, b in pairs])
    upper, lower, carets = (
        "".join(text.ljust(width) for text, width in zip(column, widths, strict=True)) for column in columns
    )
    return [TextLine(upper, MISSED), TextLine(lower, RIGHT), TextLine(carets, WRONG)]


def _spell_tokens(tokens: Array, names: Sequence[str]) -> list[str]:
    """Return the tokens before the padding as texts, with a space behind each where they are longer than a letter."""
    values = np.asarray(tokens).astype(np.int64)
    paddings = np.flatnonzero(values == PADDING)
    values = values[: paddings[0] if len(paddings) else len(values)]
    texts = [_get_name(int(value) - 1, names) if names else str(value) for value in values]
    is_wide = any(len(name) > 1 for name in names) or not names
    return [f"{text} " for text in texts] if is_wide else texts


def _align(first: Sequence[str], second: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of what stands in the same place, a dot where one has nothing; as few pairs differ as can be."""
    edits, pairs, i, j = _count_edits(first, second), list[tuple[str, str]](), 0, 0
    while i < len(first) or j < len(second):
        # 1. the same or a replaced token, if that is on a shortest way; 2. a deleted one; 3. an inserted one
        if i < len(first) and j < len(second) and edits[i, j] == edits[i + 1, j + 1] + (first[i] != second[j]):
            pairs, i, j = [*pairs, (first[i], second[j])], i + 1, j + 1
        elif i < len(first) and edits[i, j] == edits[i + 1, j] + 1:
            pairs, i = [*pairs, (first[i], "·")], i + 1
        else:
            pairs, j = [*pairs, ("·", second[j])], j + 1
    return pairs


def _count_edits(first: Sequence[str], second: Sequence[str]) -> Array:
    """Return how many edits turn ``first[i:]`` into ``second[j:]`` (Levenshtein's distance), for all i and j."""
    n, m = len(first), len(second)
    edits = np.add.outer(np.arange(n, -1, -1), np.arange(m, -1, -1))  # [n + 1, m + 1]: right at the ends
    for i in reversed(range(n)):
        for j in reversed(range(m)):
            replaced = edits[i + 1, j + 1] + (first[i] != second[j])
            edits[i, j] = min(replaced, edits[i + 1, j] + 1, edits[i, j + 1] + 1)
    return edits


def _fit_font_size(text: str) -> float:
    """Return the font size at which a line is no wider than an image."""
    return min(POINTS, IMAGE_WIDTH * 72 / WIDTH_PER_HEIGHT / max(1, len(text)))


def _draw_box(axes: "Axes", corners: Array | None, colour: str, style: str) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import Normal, Stroke

    if corners is None or not _is_finite(corners):
        return
    x1, y1, x2, y2 = (float(c) for c in corners)
    edge = [Stroke(linewidth=3.0, foreground="black"), Normal()]  # seen on a bright image as on a dark one
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=colour, linewidth=1.6, linestyle=style,
                             path_effects=edge))  # fmt: skip
