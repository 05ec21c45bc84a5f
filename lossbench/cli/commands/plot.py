"""`lossbench plot huber tukey`, `plot '{huber:{delta:2}}' mse --range -5,5`, `plot hinge bce --against probability`."""

import os
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from lossbench import registry
from lossbench.check.loading import is_location, load_losses
from lossbench.cli.hydra.overrides import parse_override
from lossbench.cli.output import OutputMode, print_document, print_message, results_console
from lossbench.config.choices import list_choices, make_choice
from lossbench.errors import InvalidValue, make_unknown
from lossbench.interfaces.loss import Loss
from lossbench.records import explain_errors
from lossbench.report.figures.shape_axes import AXES
from lossbench.report.figures.shape_curves import compute_curves
from lossbench.report.figures.shapes import describe_gaps, draw_shapes
from lossbench.report.figures.style import SUFFIXES, render_figure

USAGE = (
    "lossbench plot NAME ... [--against AXIS] [--range LOW,HIGH] [--normalise] [--output FILE.png|FILE.svg]; "
    "a loss with fields is written '{huber:{delta:2}}'"
)
OPTIONS = ("--against", "--range", "--normalise", "--output")
NAME_LETTERS = 80


def run_plot(arguments: Sequence[str], mode: OutputMode) -> int:
    """Draw losses into one file and print its path."""
    options = _parse_arguments(arguments)
    # without --output, a file in this folder that is named for the losses
    names = re.sub(r"[^\w.=+-]+", "-", "-".join(options.names)).strip("-.")[:NAME_LETTERS]
    path: Path = options.output or Path(f"{names}.png")
    if path.suffix[1:] not in SUFFIXES:
        raise InvalidValue(f"The --output must end in .png or .svg. Got {str(path)!r} instead.")
    figure = compute_curves(_make_losses(options.names), options.against, options.range, options.normalise)
    _write_file(path, render_figure(draw_shapes(figure), path.suffix[1:]))
    if mode is OutputMode.JSON:
        columns = ("x", "value", "slope")
        curves = [
            {"loss": curve.loss, "variant": curve.variant, **{n: getattr(curve, n).tolist() for n in columns}}
            for curve in figure.curves
        ]
        print_document({"picture": str(path), "against": figure.axis.name, "held": figure.fixed, "curves": curves})
    elif mode is OutputMode.TABLE:
        for message in describe_gaps(figure):
            print_message(message)
        results_console().print(f"Picture: {path}", soft_wrap=True, markup=False)
    return 0


def _parse_arguments(arguments: Sequence[str]) -> Namespace:
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.error = _raise_usage  # type: ignore[method-assign]  # argparse would print its usage and exit
    parser.add_argument("names", nargs="*")
    parser.add_argument("--against")
    parser.add_argument("--range", type=_parse_range)
    parser.add_argument("--normalise", action="store_true")
    parser.add_argument("--output", type=Path)
    # argparse would take the -3,3 of `--range -3,3` for an option: join them with a "="
    joined = re.sub(r"(?<=--range)\0(?=-)", "=", "\0".join(arguments)).split("\0") if arguments else []
    options, unknown = parser.parse_known_intermixed_args(joined)
    if unknown:
        raise make_unknown("option", unknown[0].partition("=")[0], OPTIONS, "Options")
    if not options.names:
        raise InvalidValue(f"Write {USAGE}.")
    if options.against is not None and options.against not in AXES:
        raise make_unknown("axis", options.against, AXES, "Axes")
    return options


def _raise_usage(message: str) -> NoReturn:
    raise InvalidValue(f"{message[:1].upper()}{message[1:]}. Write {USAGE}.")


def _parse_range(text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise InvalidValue(f"The --range must be two numbers, as -3,3. Got {text!r} instead.") from None
    return low, high


def _make_losses(texts: Sequence[str]) -> dict[str, Loss]:
    """Return the losses by label.

    A text is an entry of `losses=[...]`, or a file or module as in `lossbench check`.
    """
    losses: dict[str, Loss] = {}
    for text in texts:
        if is_location(text) and not text.startswith("{"):
            new = {name: registry.losses.make(name, kind, {}) for name, kind in load_losses(text).items()}
        else:
            new = _parse_losses(text)
        if repeated := losses.keys() & new.keys():
            raise InvalidValue(f"{min(repeated)} is given twice. Name it once.")
        losses |= new
    return losses


def _parse_losses(text: str) -> dict[str, Loss]:
    """Return the losses that `losses=[text]` would compare, by label."""
    if label := re.fullmatch(r"(\w+)\s*\((.*)\)", text):  # copied from a table, as in `huber(delta=2)`
        name, fields = label.groups()
        as_list = f"{{{name}:{{{fields.replace(' ', '').replace('=', ':')}}}}}"
        raise InvalidValue(f"A loss with fields is written as in losses=[...]: '{as_list}'. Got {text!r} instead.")
    settings = {"losses": parse_override(f"losses=[{text}]").value(), "loss": None}
    choices = [make_choice("loss", entry) for entry in list_choices("loss", settings, "")]
    return {choice.label: registry.losses.build(choice) for choice in choices}


def _write_file(path: Path, content: bytes) -> None:
    """Write the file completely or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    with explain_errors("write", path):
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
