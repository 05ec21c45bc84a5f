"""`lossbench plot huber tukey`, `plot '{huber:{delta:2}}' mse --range -5,5`, `plot hinge bce --against probability`."""

import os
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from lossbench import registry
from lossbench.check.loading import is_location, load_losses
from lossbench.cli.hydra.overrides import parse_override
from lossbench.cli.output import OutputMode, print_document, print_message, results_console
from lossbench.config.choices import list_choices, make_choice
from lossbench.errors import InvalidValue, make_unknown
from lossbench.interfaces.loss import Loss
from lossbench.records import explain_errors
from lossbench.report.figures.shape_axes import AXES
from lossbench.report.figures.shape_curves import Curves, compute_curves
from lossbench.report.figures.shapes import describe_gaps, draw_shapes
from lossbench.report.figures.style import SUFFIXES, render_figure

USAGE = (
    "lossbench plot NAME ... [--against AXIS] [--range LOW,HIGH] [--normalise] [--output FILE.png|FILE.svg], "
    "a loss with fields being '{huber:{delta:2}}'"
)
OPTIONS = ("--against", "--range", "--normalise", "--output")
NAME_LETTERS = 80


def run_plot(arguments: Sequence[str], mode: OutputMode) -> int:
    """Draw losses into one file, and say where it is."""
    asked = _asked(arguments)
    path = _path(asked)
    made = compute_curves(_losses(asked.names), asked.against, asked.range, asked.normalise)
    _write(path, render_figure(draw_shapes(made), path.suffix[1:]))
    if mode is OutputMode.JSON:
        print_document(_plain(made, path))
    elif mode is OutputMode.TABLE:
        for told in describe_gaps(made):
            print_message(told)
        results_console().print(f"Picture: {path}", soft_wrap=True, markup=False)
    return 0


def _asked(arguments: Sequence[str]) -> Namespace:
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.error = _refuse  # type: ignore[method-assign]  # argparse would print its usage and exit
    parser.add_argument("names", nargs="*")
    parser.add_argument("--against")
    parser.add_argument("--range", type=_range)
    parser.add_argument("--normalise", action="store_true")
    parser.add_argument("--output", type=Path)
    # argparse takes -3,3 for an option of its own
    joined = re.sub(r"(?<=--range)\0(?=-)", "=", "\0".join(arguments)).split("\0") if arguments else []
    asked, strange = parser.parse_known_intermixed_args(joined)
    if strange:
        raise make_unknown("option", strange[0].partition("=")[0], OPTIONS, "Options")
    if not asked.names:
        raise InvalidValue(f"Write {USAGE}.")
    if asked.against is not None and asked.against not in AXES:
        raise make_unknown("axis", asked.against, AXES, "Axes")
    return asked


def _refuse(message: str) -> NoReturn:
    raise InvalidValue(f"{message[:1].upper()}{message[1:]}. Write {USAGE}.")


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise InvalidValue(f"The --range must be two numbers, as -3,3. Got {text!r} instead.") from None
    return low, high


def _losses(texts: Sequence[str]) -> dict[str, Loss]:
    """The losses by label; names, fields and presets as in `losses=[...]`, or files and modules as in `check`."""
    found: dict[str, Loss] = {}
    for text in texts:
        place = is_location(text) and not text.startswith("{")
        own = _located(text) if place else _listed(text)
        if again := found.keys() & own.keys():
            raise InvalidValue(f"{min(again)} is given twice. Name it once.")
        found |= own
    return found


def _located(text: str) -> dict[str, Loss]:
    return {name: registry.losses.make(name, kind, {}) for name, kind in load_losses(text).items()}


def _listed(text: str) -> dict[str, Loss]:
    if labelled := re.fullmatch(r"(\w+)\s*\((.*)\)", text):
        name, own = labelled.groups()
        as_list = f"{{{name}:{{{own.replace(' ', '').replace('=', ':')}}}}}"
        raise InvalidValue(f"A loss with fields is written as in losses=[...]: '{as_list}'. Got {text!r} instead.")
    given = {"losses": parse_override(f"losses=[{text}]").value(), "loss": None}
    choices = [make_choice("loss", one) for one in list_choices("loss", given, "")]
    return {one.label: registry.losses.build(one) for one in choices}


def _path(asked: Namespace) -> Path:
    """The file to write: the one asked for, or one in this folder that is named for the losses."""
    names = re.sub(r"[^\w.=+-]+", "-", "-".join(asked.names)).strip("-.")[:NAME_LETTERS]
    path: Path = asked.output or Path(f"{names}.png")
    if path.suffix[1:] not in SUFFIXES:
        raise InvalidValue(f"The --output must end in .png or .svg. Got {str(path)!r} instead.")
    return path


def _write(path: Path, content: bytes) -> None:
    """The whole file or none."""
    temporary = path.with_name(f".{path.name}.part")
    with explain_errors("write", path):
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _plain(made: Curves, path: Path) -> dict[str, Any]:
    """The picture's numbers."""
    curves = [
        {"loss": c.loss, "variant": c.variant, **{n: getattr(c, n).tolist() for n in ("x", "value", "slope")}}
        for c in made.curves
    ]
    return {"picture": str(path), "against": made.axis.name, "held": made.held, "curves": curves}
