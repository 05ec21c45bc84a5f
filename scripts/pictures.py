"""Writes docs/pictures from the registry: of each task ten samples, if they are images, and what its corruptions do.

    python scripts/pictures.py [FOLDER]

Each task is drawn with its default data. A page of corruptions shows the same few examples in every row, images as they
become and targets beside what they were; pixels that leave the range of the clean images are drawn at its ends.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from lossbench import registry
from lossbench.interfaces import Corrupted, Task
from lossbench.registry import Registry
from lossbench.report.figures.gallery import PREDICTION, TARGET, WRONG, draw_gallery, render_png
from lossbench.types import Array, Examples, Picture

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
N_SAMPLES, N_SHOWN = 10, 5
RATE = 0.2
"""Share of rows that are corrupted in a scatter."""
N_ROWS = 100
"""Rows whose features are drawn."""
N_COLOURS = 128
"""Of a page: half the bytes, and no difference that one can see."""
SEED = 0
CLOSE = {"handletextpad": 0.1, "columnspacing": 0.8, "borderpad": 0.2}
WORDS = {
    "target": "clean",
    "prediction": "corrupted",
    "right": "kept",
    "+ wrong": "+ added",
    "- missed": "- removed",
    "^ error": "^ changed",
}
"""The gallery's key is about predictions; here what is corrupted takes their place."""


def main() -> int:
    """All pages, into the folder that is asked for."""
    folder = Path(sys.argv[1]) if sys.argv[1:] else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in pages():
        Image.open(BytesIO(render_png(figure))).convert("RGB").quantize(N_COLOURS).save(
            folder / f"{name}.png", optimize=True
        )
    return 0


def pages() -> Iterator[tuple[str, Figure]]:
    """Names and figures."""
    for name in built_in(registry.tasks):
        task = registry.tasks.get(name)
        clean = mixed(registry.datasets.get(task.defaults["data"]).load())
        draws = {
            kind: registry.corruptions.get(kind)(clean, np.random.default_rng(SEED))
            for kind in built_in(registry.corruptions, name)
            if kind != "none"
        }
        images = clean.inputs.ndim == 4
        if images:
            yield f"{name}-samples", samples(task, clean)
        yield f"{name}-corruptions", before_and_after(task, clean, draws) if images else scatters(clean, draws)


def built_in(names: Registry[Any], task: str | None = None) -> list[str]:
    """The names that are not a plug-in's."""
    return [name for name in names.names(task) if names.find(name).__module__.startswith("lossbench.")]


def mixed(examples: Examples) -> Examples:
    """The rows in another order, as some data sets are sorted; images of classes so that these come in turn."""
    order = np.random.default_rng(SEED).permutation(len(examples.inputs))
    if examples.targets.ndim == 1 and examples.inputs.ndim == 4:
        same = examples.targets[order][:, None] == examples.targets[order]
        order = order[np.argsort(np.tril(same).sum(1), kind="stable")]
    return replace(examples, inputs=examples.inputs[order], targets=examples.targets[order])


# images


def kind_of(task: Task, examples: Examples) -> Picture:
    """How the task's examples are drawn; a single class is a label like any other."""
    return Picture.LABELS if task.picture is Picture.NONE and examples.targets.ndim == 1 else task.picture


def samples(task: Task, clean: Examples) -> Figure:
    """Ten examples with their targets."""
    shown = slice(N_SAMPLES)
    return draw_gallery(
        kind_of(task, clean), clean.inputs[shown], clean.targets[shown], class_names=clean.class_names, columns=5
    )


def before_and_after(task: Task, clean: Examples, draws: dict[str, Corrupted]) -> Figure:
    """A row for each corruption: the same examples, with what was added and removed."""
    some = np.flatnonzero(np.all([eligible(drawn, clean) for drawn in draws.values()], axis=0))[:N_SHOWN]
    inputs = [(clean.inputs if drawn.inputs is None else drawn.inputs)[some] for drawn in draws.values()]
    targets = [(clean.targets if drawn.targets is None else drawn.targets)[some] for drawn in draws.values()]
    picture = kind_of(task, clean)
    figure = draw_gallery(
        picture,
        np.concatenate(inputs).clip(clean.inputs.min(), clean.inputs.max()),
        np.concatenate([clean.targets[some]] * len(draws)),
        as_prediction(picture, np.concatenate(targets), task.count_outputs(clean)),
        clean.class_names,
        [title for kind in draws for title in (kind, *[""] * (N_SHOWN - 1))],
        N_SHOWN,
    )
    if picture is Picture.BOX:
        for axes, corners in zip(figure.axes, np.concatenate(targets), strict=True):
            step_back(axes, corners)
    for text in figure.texts:
        text.set_text(WORDS.get(text.get_text(), text.get_text()))
    return figure


def step_back(axes: Axes, corners: Array) -> None:
    """Show more than the picture where the box lies outside of it."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    x1, y1, x2, y2 = corners
    if x1 < right and x2 > left and y1 < bottom and y2 > top:
        return
    low, high = min(left, x1, top, y1), max(right, x2, bottom, y2)
    margin = 0.05 * (high - low)
    axes.set(xlim=(low - margin, high + margin), ylim=(high + margin, low - margin), facecolor="#e8e8e8")


def eligible(drawn: Corrupted, clean: Examples) -> Array:
    """Which rows can be corrupted."""
    return np.ones(len(clean.inputs), bool) if drawn.eligible is None else drawn.eligible


def as_prediction(picture: Picture, targets: Array, n_classes: int) -> Array:
    """Targets in the form that the gallery takes predictions in: label scores, corners or tokens."""
    if picture is not Picture.LABELS:
        return targets
    return (np.eye(n_classes)[targets] if targets.ndim == 1 else targets) - 0.5


# tables


def scatters(clean: Examples, draws: dict[str, Corrupted]) -> Figure:
    """A panel for each corruption of a fifth of the rows."""
    figure = Figure((3.2 * len(draws), 3.4), dpi=100, layout="constrained")
    for place, (kind, drawn) in enumerate(draws.items(), start=1):
        axes = figure.add_subplot(1, len(draws), place)
        hit = np.flatnonzero(eligible(drawn, clean))[: round(RATE * len(clean.inputs))]
        if drawn.inputs is not None:
            features(axes, clean.inputs, replaced(clean.inputs, drawn.inputs, hit))
        elif clean.targets.ndim == 1:
            labels(axes, clean, replaced(clean.targets, drawn.targets, hit))
        else:
            pairs(axes, clean.targets[:, 0], replaced(clean.targets, drawn.targets, hit)[:, 0], "target")
        axes.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, **CLOSE)
        axes.set_title(kind, fontsize=11, fontweight="bold", family="DejaVu Sans Mono", pad=24)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def replaced(clean: Array, corrupted: Array | None, hit: Array) -> Array:
    """`clean` with the rows `hit` taken from `corrupted`."""
    out = clean.copy()
    out[hit] = clean[hit] if corrupted is None else corrupted[hit]
    return out


def pairs(axes: Axes, before: Array, after: Array, what: str) -> None:
    """Values after against values before."""
    moved = before != after
    for some, colour, word in ((~moved, TARGET, "unchanged"), (moved, WRONG, "corrupted")):
        axes.scatter(before[some], after[some], s=9, color=colour, linewidth=0, label=word)
    axes.set(xlabel=f"{what}, clean", ylabel=f"{what}, as trained on")


def features(axes: Axes, before: Array, after: Array) -> None:
    """All features of some rows, in standard deviations from their means."""
    centre, spread = before.mean(0), before.std(0)
    some = slice(N_ROWS)
    pairs(axes, *(((part - centre) / spread)[some].ravel() for part in (before, after)), "feature [SD]")


def labels(axes: Axes, clean: Examples, seen: Array) -> None:
    """The labels that are trained on, on the plane in which the inputs vary most."""
    inputs = (clean.inputs - clean.inputs.mean(0)) / clean.inputs.std(0)
    plane = inputs @ np.linalg.svd(inputs, full_matrices=False)[2][:2].T
    for label, name in enumerate(clean.class_names):
        axes.scatter(*plane[seen == label].T, s=9, color=(TARGET, PREDICTION)[label], linewidth=0, label=name)
    wrong, colours = seen != clean.targets, np.array([TARGET, PREDICTION])
    axes.scatter(*plane[wrong].T, s=20, facecolor=colours[seen[wrong]], edgecolor="black", linewidth=0.8)
    axes.scatter([], [], s=20, facecolor="none", edgecolor="black", linewidth=0.8, label="wrong label")
    axes.set(xlabel="first principal component", ylabel="second", xticks=[], yticks=[])


if __name__ == "__main__":
    sys.exit(main())
