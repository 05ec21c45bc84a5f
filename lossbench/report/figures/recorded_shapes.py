"""Pictures of the losses of records: those that share an axis together, few enough to be told apart."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from lossbench.errors import LossbenchError
from lossbench.records import CONFIG
from lossbench.types import Choice

if TYPE_CHECKING:  # imports torch
    from matplotlib.figure import Figure

    from lossbench.interfaces.loss import Loss

TOGETHER = 8
"""Losses in one picture: as many as there are colours."""
MOST = 6
"""Pictures: each takes half a second."""


def draw_recorded_shapes(folders: Mapping[str, Path]) -> Iterator[tuple[str, "Figure"]]:
    """Yield a name and a figure for each group of losses; folders: where each loss, by label, has a record.

    Left out is what cannot be drawn, or is not installed here.
    """
    from lossbench.report.figures.shape_curves import compute_curves
    from lossbench.report.figures.shapes import draw_shapes

    drawn = 0
    for axis, losses in _by_axis(_losses(folders)).items():
        named = list(losses.items())
        parts = [named[at : at + TOGETHER] for at in range(0, len(named), TOGETHER)]
        for number, part in enumerate(parts, 1):
            if drawn == MOST:
                return
            drawn += 1
            name = axis if len(parts) == 1 else f"{axis} {number} of {len(parts)}"
            yield name, draw_shapes(compute_curves(dict(part), axis))


def _losses(folders: Mapping[str, Path]) -> dict[str, "Loss"]:
    from lossbench import registry

    found = {}
    for label, folder in sorted(folders.items()):
        try:
            fields = dict(yaml.safe_load((folder / CONFIG).read_text("utf-8"))["loss"])
            found[label] = registry.losses.build(Choice.from_fields(fields.pop("name"), fields))
        except (LossbenchError, OSError, KeyError, TypeError, ValueError):  # of another installation, or made up
            continue
    return found


def _by_axis(losses: Mapping[str, "Loss"]) -> dict[str, dict[str, "Loss"]]:
    """The losses by the axis on which most are drawn, as far as they can be drawn."""
    from lossbench.report.figures.shape_curves import compute_curves

    groups: dict[str, dict[str, Loss]] = defaultdict(dict)
    for label, loss in losses.items():
        try:
            groups[compute_curves({label: loss}).axis.name][label] = loss
        except LossbenchError:
            continue
    return groups
