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

# Okabe and Ito's colours, told apart by people with any colour vision (https://jfly.uni-koeln.de/color/).
RIGHT, WRONG, MISSED = "#000000", "#D55E00", "#0072B2"
TARGET, PREDICTION = "#56B4E9", "#E69F00"
CELL, GAP, LINE = 1.4, 0.08, 0.22
"""Width of an image, space between images, height of a line of text: inches."""
# TensorBoard's thumbnails are 350 pixels wide and drop what is between pixels: four columns come to twice that, with
# strokes of twice a pixel.
DPI, POINTS = 117, 12.0
FONT: dict[str, Any] = {"fontfamily": "DejaVu Sans Mono", "fontweight": "bold", "parse_math": False}
WIDTH_PER_HEIGHT = 0.602  # of the letters of DejaVu Sans Mono, which comes with matplotlib
LETTERS = int(CELL * 72 / POINTS / WIDTH_PER_HEIGHT)
MOST_LINES = 6
NOTHING = "no prediction"  # of a row that diverged


class Line(NamedTuple):
    """A line of text below an image."""

    text: str
    colour: str


KEYS = {
    Picture.NONE: (),
    Picture.LABELS: (Line("right", RIGHT), Line("+ wrong", WRONG), Line("- missed", MISSED)),
    Picture.BOX: (Line("target", TARGET), Line("prediction", PREDICTION)),
    Picture.TEXT: (Line("target", MISSED), Line("prediction", RIGHT), Line("^ error", WRONG)),
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

    kind: BOX draws rectangles and tells their intersection over union; LABELS lists names, those wrongly predicted
        (score above 0) behind a plus and those missed behind a minus; TEXT writes target and prediction one below the
        other with a caret at each error; NONE draws the images alone.
    inputs: ``[n, C, H, W]``, C being 1 (grey from the least to the greatest value) or 3 (0 to 1, or to 255 where a
        value is above 2; beyond that clipped).
    targets: ``[n, L]`` of 0 and 1 or ``[n]`` class indices, ``[n, 4]`` corners in pixels, or ``[n, S]`` tokens.
    predictions: ``[n, K]`` as `Task.shown` gives them; NaN where there is none.
    class_names: of the labels, or of the tokens from 1 on; their numbers without.
    titles: one above each image.

    Raises InvalidValue where inputs are no such images.
    """
    if np.ndim(inputs) != 4 or inputs.shape[1] not in (1, 3):
        raise InvalidValue(f"A picture needs inputs [n, C, H, W] with C 1 or 3. Got {list(np.shape(inputs))} instead.")
    shown = [None] * len(inputs) if predictions is None else list(predictions)
    lines = [_lines(kind, t, p, class_names) for t, p in zip(targets, shown, strict=True)]
    heads = [""] * len(inputs) if titles is None else list(titles)
    key = KEYS[kind] if predictions is not None else ()
    grid = _Grid(len(inputs), columns, inputs.shape[2:], max(map(len, lines), default=0), titles is not None, bool(key))
    figure, images = grid.figure(), _visible(inputs)
    for place, (image, own, head) in enumerate(zip(images, lines, heads, strict=True)):
        axes = grid.axes(figure, place)
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, extent=(0, inputs.shape[3], inputs.shape[2], 0))
        axes.set_title(head, fontsize=_fitting(head), pad=2, **FONT)
        _write(axes, own)
        if kind == Picture.BOX:
            _rectangle(axes, targets[place], TARGET, "-")
            _rectangle(axes, shown[place], PREDICTION, "--")
    grid.explain(figure, key)
    return figure


def render_png(figure: "Figure") -> bytes:
    """Return the figure as a PNG file, the same bytes for equal figures."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    stream = BytesIO()
    FigureCanvasAgg(figure).print_png(stream)
    return stream.getvalue()


class _Grid(NamedTuple):
    """Where things are, in inches."""

    n: int
    columns: int
    shape: tuple[int, ...]  # H, W
    n_lines: int
    titled: bool
    keyed: bool

    @property
    def image(self) -> float:
        """An image's height."""
        return CELL * self.shape[0] / self.shape[1]

    @property
    def row(self) -> float:
        return self.image + LINE * (self.n_lines + self.titled) + GAP

    @property
    def size(self) -> tuple[float, float]:
        across, down = min(self.n, self.columns) or 1, -(-self.n // self.columns)
        return across * (CELL + GAP) + GAP, down * self.row + GAP + LINE * 1.5 * self.keyed

    def figure(self) -> "Figure":
        from matplotlib.figure import Figure

        return Figure(self.size, dpi=DPI, facecolor="white")

    def axes(self, figure: "Figure", place: int) -> "Axes":
        down, across = divmod(place, self.columns)
        width, height = self.size
        top = height - GAP - LINE * (1.5 * self.keyed + self.titled) - down * self.row
        left = GAP + across * (CELL + GAP)
        axes = figure.add_axes((left / width, (top - self.image) / height, CELL / width, self.image / height))
        axes.set(xticks=[], yticks=[], xlim=(0, self.shape[1]), ylim=(self.shape[0], 0))
        return axes

    def explain(self, figure: "Figure", key: Sequence[Line]) -> None:
        """The key in the first line."""
        width, height = self.size
        left = GAP
        for text, colour in key:
            place = (left / width, 1 - GAP / 2 / height)
            figure.text(*place, text, color=colour, va="top", fontsize=POINTS, **FONT)
            left += (len(text) + 2) * POINTS / 72 * WIDTH_PER_HEIGHT


def _visible(inputs: Array) -> Array:
    """Images from 0 to 1: ``[n, H, W]``, or ``[n, H, W, 3]`` in colour."""
    values = np.nan_to_num(np.asarray(inputs, np.float64))
    if values.shape[1] == 1:
        low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
        return (values[:, 0] - low) / (high - low if high > low else 1.0)
    top = 255.0 if values.max(initial=0.0) > 2 else 1.0
    return np.moveaxis(values / top, 1, -1).clip(0, 1)


def _lines(kind: Picture, target: Array, prediction: Array | None, names: Sequence[str]) -> list[Line]:
    """Return what is written below an image."""
    if kind == Picture.LABELS:
        return _shortened(_label_lines(target, prediction, names))
    if kind == Picture.TEXT:
        return _text_lines(target, prediction, names)
    if kind == Picture.BOX and prediction is not None:
        return [Line(f"IoU {iou(target, prediction):.2f}", RIGHT) if _known(prediction) else Line(NOTHING, WRONG)]
    return []


def _known(prediction: Array) -> bool:
    return bool(np.isfinite(prediction).all())


def iou(one: Array, other: Array) -> float:
    """Intersection over union of two boxes given by their corners x1, y1, x2, y2; 0 where both are empty."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(sides.clip(0).prod())
    union = float((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod()) - shared
    return shared / union if union > 0 else 0.0


def _label_lines(target: Array, prediction: Array | None, names: Sequence[str]) -> list[Line]:
    present = {int(target)} if np.ndim(target) == 0 else set(np.flatnonzero(np.asarray(target) > 0).tolist())
    if prediction is None:
        return _list(present, names, "", RIGHT)
    if not _known(prediction):
        return [*_list(present, names, "- ", MISSED), Line(NOTHING, WRONG)]
    positive = np.flatnonzero(prediction > 0)
    found = {int(np.argmax(prediction))} if np.ndim(target) == 0 else set(positive.tolist())
    right, wrong = _list(present & found, names, "  ", RIGHT), _list(found - present, names, "+ ", WRONG)
    return [*right, *wrong, *_list(present - found, names, "- ", MISSED)]


def _list(labels: set[int], names: Sequence[str], mark: str, colour: str) -> list[Line]:
    """Names behind a mark, in lines as wide as an image."""
    text = ", ".join(_name(label, names) for label in sorted(labels))
    lines = wrap(text, LETTERS, initial_indent=mark, subsequent_indent=" " * len(mark), break_long_words=False)
    return [Line(line, colour) for line in lines]


def _name(number: int, names: Sequence[str]) -> str:
    return names[number] if 0 <= number < len(names) else str(number)


def _shortened(lines: list[Line]) -> list[Line]:
    """Errors come last, so what is left out is from the front."""
    left = len(lines) - MOST_LINES
    return lines if left <= 0 else [Line("  and more", RIGHT), *lines[left + 1 :]]


def _text_lines(target: Array, prediction: Array | None, names: Sequence[str]) -> list[Line]:
    wanted = _tokens(target, names)
    if prediction is None or not _known(prediction):
        failed = [] if prediction is None else [Line(NOTHING, WRONG)]
        return [Line("".join(wanted), RIGHT if prediction is None else MISSED), *failed]
    pairs = _aligned(wanted, _tokens(prediction, names))
    widths = [max(len(a), len(b)) for a, b in pairs]
    upper, lower, carets = (
        "".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        for row in ([a for a, _ in pairs], [b for _, b in pairs], ["" if a == b else "^" for a, b in pairs])
    )
    return [Line(upper, MISSED), Line(lower, RIGHT), Line(carets, WRONG)]


def _tokens(tokens: Array, names: Sequence[str]) -> list[str]:
    """Texts of the tokens before the padding, with a space behind each where they are longer than a letter."""
    values = np.asarray(tokens).astype(np.int64)
    ends = np.flatnonzero(values == PADDING)
    texts = [_name(int(t) - 1, names) if names else str(t) for t in values[: ends[0] if len(ends) else len(values)]]
    wide = any(len(name) > 1 for name in names) or not names
    return [f"{text} " for text in texts] if wide else texts


def _aligned(one: Sequence[str], other: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of what stands in the same place, with a dot where one has nothing; as few pairs differ as can be."""
    edits, pairs, i, j = _edits(one, other), list[tuple[str, str]](), 0, 0
    while i < len(one) or j < len(other):
        if i < len(one) and j < len(other) and edits[i, j] == edits[i + 1, j + 1] + (one[i] != other[j]):
            pairs, i, j = [*pairs, (one[i], other[j])], i + 1, j + 1
        elif i < len(one) and edits[i, j] == edits[i + 1, j] + 1:
            pairs, i = [*pairs, (one[i], "·")], i + 1
        else:
            pairs, j = [*pairs, ("·", other[j])], j + 1
    return pairs


def _edits(one: Sequence[str], other: Sequence[str]) -> Array:
    """Return how many edits turn ``one[i:]`` into ``other[j:]`` (Levenshtein's distance), for all i and j."""
    n, m = len(one), len(other)
    edits = np.add.outer(np.arange(n, -1, -1), np.arange(m, -1, -1))
    for i in reversed(range(n)):
        for j in reversed(range(m)):
            changed = edits[i + 1, j + 1] + (one[i] != other[j])
            edits[i, j] = min(changed, edits[i + 1, j] + 1, edits[i, j + 1] + 1)
    return edits


def _fitting(text: str) -> float:
    """The font size at which a line is no wider than an image."""
    return min(POINTS, CELL * 72 / WIDTH_PER_HEIGHT / max(1, len(text)))


def _write(axes: "Axes", lines: Sequence[Line]) -> None:
    height = axes.get_figure().get_figheight() * axes.get_position().height  # type: ignore[union-attr]
    size = min((_fitting(text) for text, _ in lines), default=POINTS)
    for number, (text, colour) in enumerate(lines):
        below = -(LINE * (number + 0.15)) / height
        axes.text(0, below, text, color=colour, fontsize=size, va="top", transform=axes.transAxes, **FONT)


def _rectangle(axes: "Axes", corners: Array | None, colour: str, style: str) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import Normal, Stroke

    if corners is None or not _known(corners):
        return
    x1, y1, x2, y2 = (float(c) for c in corners)
    edge = [Stroke(linewidth=3.0, foreground="black"), Normal()]  # seen on a bright image as on a dark one
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=colour, linewidth=1.6, linestyle=style,
                             path_effects=edge))  # fmt: skip
