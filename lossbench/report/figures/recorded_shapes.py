"""Pictures of the losses of records: those that share an axis in one picture, few enough to be distinguished."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lossbench.errors import LossbenchError
from lossbench.records import load_config
from lossbench.types import Choice

if TYPE_CHECKING:  # imports torch
    from matplotlib.figure import Figure

    from lossbench.interfaces.loss import Loss

LOSSES_PER_PICTURE = 8  # as many as there are colours
MAX_PICTURES = 6  # each takes half a second


def draw_recorded_shapes(
    folders: Mapping[str, Path], trusted: Mapping[str, Choice] = MappingProxyType({})
) -> Iterator[tuple[str, "Figure"]]:
    """Yield a name and a figure for each group of losses; folders: where each loss, by label, has a record.

    A record may come from anywhere, and what it names must not be executed: besides the `trusted` losses, which a
    command of this process has chosen, only built-in ones are built. Losses that cannot be drawn are left out.
    """
    from lossbench import losses as built_in
    from lossbench import registry
    from lossbench.report.figures.shape_curves import compute_curves
    from lossbench.report.figures.shapes import draw_shapes

    # 1. build each loss as its record configures it, and group them by the first axis on which they can be drawn
    # `external` imports and calls whatever its field names
    names = {name for name, _ in registry.losses.list_public(built_in)} - {"external"}
    groups: dict[str, dict[str, Loss]] = defaultdict(dict)
    for label, folder in sorted(folders.items()):
        try:
            choice = trusted.get(label)
            if choice is None:
                fields = dict(load_config(folder)["loss"])
                choice = Choice.from_fields(fields.pop("name"), fields)
                if not all(part.name in names for part in registry.unfold(choice)):
                    continue
            loss = registry.losses.build(choice)
        except (LossbenchError, AttributeError, KeyError, TypeError, ValueError):  # of another installation, or made up
            continue
        with suppress(LossbenchError):  # a loss that cannot be drawn
            groups[compute_curves({label: loss}).axis.name][label] = loss

    # 2. split groups that are too large for one picture, and draw the first pictures
    n_drawn = 0
    for axis, losses in groups.items():
        labels = list(losses)
        parts = [labels[start : start + LOSSES_PER_PICTURE] for start in range(0, len(labels), LOSSES_PER_PICTURE)]
        for number, part in enumerate(parts, 1):
            if n_drawn == MAX_PICTURES:
                return
            n_drawn += 1
            name = axis if len(parts) == 1 else f"{axis} {number} of {len(parts)}"
            yield name, draw_shapes(compute_curves({label: losses[label] for label in part}, axis))
