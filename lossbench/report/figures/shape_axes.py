"""The horizontal axes on which losses are drawn."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """A horizontal axis.

    name: of the option `--against`. title: ends `Loss and gradient against ...`. label: below the axis.
    slope: gradients are a change per unit of this. start, end: the default range. logarithmic: spaced and drawn so.
    marks: places that have a name.
    """

    name: str
    title: str
    label: str
    slope: str
    start: float
    end: float
    logarithmic: bool = False
    marks: tuple[tuple[float, str], ...] = ()


AXES = {
    axis.name: axis
    for axis in (
        # values: any, positive ones, the scale of a distribution
        Axis("error", "the error", "error r = prediction − target", "r", -3, 3),
        Axis("rate", "the predicted value", "predicted value", "log predicted value", 0.1, 30, True),
        Axis("sigma", "the predicted scale", "predicted scale σ", "log σ", 0.1, 10, True),
        # classes, and items to be ranked
        Axis("margin", "the margin", "margin: the true class's score above the other's", "margin", -3, 3),
        Axis("probability", "the true class's probability", "probability p of the true class", "margin", 0, 1),
        Axis("lead", "the lead of the better item", "score of the better item − score of the worse", "lead", -3, 3),
        # embeddings
        Axis("angle", "the angle", "angle to the target [degrees]", "radian", 0, 180),
        Axis("distance", "the distance", "distance between two embeddings", "distance", 0, 2),
        # boxes
        Axis("offset", "the offset", "offset of the two boxes [widths]", "width", 0, 3, marks=((1, "touch"),)),
        Axis("scale", "the size", "size of the box / size of the target", "log size", 0.2, 5, True, ((1, "equal"),)),
    )
}
