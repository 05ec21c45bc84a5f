"""Trains losses of other libraries for a moment, checks them, and writes what came of it to docs/third-party.md.

    python scripts/third_party.py            the section between the two marks of that page
    python scripts/third_party.py --print    nothing but the table, on the screen

A loss is the name of a preset (`timm/zlpr`), or an import path with its parameters behind (`kornia.losses.X alpha=1`).
"""

import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import NamedTuple

from hydra import compose, initialize_config_module

from lossbench import registry
from lossbench.check import Status, check_loss
from lossbench.check.external_wrapper import ExternalWrapper, wrap_external
from lossbench.cli.hydra.store import register_choices
from lossbench.config.resolve import resolve
from lossbench.losses import External
from lossbench.records import Record
from lossbench.training.run import run_stack
from lossbench.types import Stack

PAGE = Path(__file__).parents[1] / "docs" / "third-party.md"
START, END = "<!-- scripts/third_party.py writes from here -->", "<!-- to here, scripts/third_party.py -->"
SHORT = ("seeds=1", "rates=[0]", "epochs=0.5", "evaluations=2", "batch_size=60")
SETTINGS = {
    "multiclass": ("model=linear",),
    "binary": ("model=linear",),
    "multilabel": ("data.n=300",),
    "regression": ("model=linear",),
    "boxes": ("data.n=300",),
    "ctc": ("data.n=300",),
}
"""What makes the training of a task short."""
SMP = "segmentation_models_pytorch.losses"
LOSSES: dict[str, tuple[str, ...]] = {
    "multiclass": (
        *("torch.nn.CrossEntropyLoss", "torch.nn.MultiMarginLoss", "torch/nll", "torch/kl_div"),
        *("timm/asymmetric_single_label", "timm/label_smoothing", "timm/soft_target", "timm.loss.PolyCrossEntropy"),
        *("timm.loss.BinaryCrossEntropy", "timm.loss.JsdCrossEntropy", "timm.loss.LabelSmoothingCrossEntropy"),
        *("kornia/focal", "kornia/dice", "kornia/tversky", "kornia/lovasz_softmax"),
        *("monai/dice", "monai/dice_ce", "monai/dice_focal", "monai/tversky", "monai/generalized_dice", "monai/focal"),
        *("smp/dice", "smp/jaccard", "smp/tversky", "smp/lovasz", "smp/focal", "smp/soft_cross_entropy"),
    ),
    "binary": (
        *("torch.nn.BCEWithLogitsLoss", "torch/bce_of_probabilities", "torch/soft_margin"),
        *("torchvision.ops.sigmoid_focal_loss", "timm.loss.PolyBinaryCrossEntropy", "kornia/lovasz_hinge"),
        *("kornia.losses.BinaryFocalLossWithLogits alpha=0.25", "monai/aucm", "monai/dice_of_labels"),
        *(f"{SMP}.SoftBCEWithLogitsLoss", f"{SMP}.DiceLoss mode=binary", f"{SMP}.FocalLoss mode=binary"),
        *(f"{SMP}.LovaszLoss mode=binary", f"{SMP}.MCCLoss"),
    ),
    "multilabel": (
        *("torch.nn.MultiLabelSoftMarginLoss", "timm/asymmetric", "timm/two_way", "timm/zlpr"),
        *("timm.loss.BinaryCrossEntropy", "timm.loss.PolyBinaryCrossEntropy", "kornia/binary_focal"),
        *("monai/dice_of_labels", "monai.losses.FocalLoss", f"{SMP}.DiceLoss mode=multilabel"),
        f"{SMP}.SoftBCEWithLogitsLoss",
    ),
    "regression": (
        *("torch.nn.HuberLoss delta=2", "torch.nn.functional.l1_loss", "torch/poisson_nll"),
        *("kornia.losses.CauchyLoss", "kornia.losses.CharbonnierLoss", "kornia.losses.GemanMcclureLoss"),
        *("kornia.losses.WelschLoss", "kornia.losses.PSNRLoss max_val=1"),
    ),
    "boxes": (
        *("torchvision.ops.generalized_box_iou_loss", "torchvision.ops.complete_box_iou_loss", "monai/giou"),
        "torch.nn.SmoothL1Loss",
    ),
    "ctc": ("torch/ctc",),
}


class Outcome(NamedTuple):
    """What came of one loss."""

    task: str
    written: str
    loss: External
    record: Record

    @property
    def library(self) -> str:
        """Its distribution and version."""
        name = packages_distributions()[self.loss.target.split(".")[0]][0]
        return f"{name} {version(name)}"

    @property
    def route(self) -> str:
        """Of the loss, without that of the model."""
        return str(self.record.row.get("route", "–")).split(", ")[-1]


def as_choice(written: str) -> str:
    """In Hydra's grammar."""
    path, *params = written.split()
    if "/" in path:
        return path
    return f"{{external:{{target:{path},params:{{{','.join(p.replace('=', ':') for p in params)}}}}}}}"


def as_typed(written: str) -> str:
    """As one types it."""
    path, *params = written.split()
    return f"loss={path}" if "/" in path else " ".join(["loss=external", f"loss.target={path}", *_typed(params)])


def _typed(params: Sequence[str]) -> Iterator[str]:
    return (f"loss.params.{p}" for p in params)


def outcomes(task: str, losses: Sequence[str]) -> list[Outcome]:
    """All losses of one task, in one stack."""
    register_choices()
    overrides = [f"task={task}", f"losses=[{','.join(map(as_choice, losses))}]", *SHORT, *SETTINGS[task]]
    with initialize_config_module("lossbench.configs", version_base="1.3"):
        experiments = resolve(compose("config", overrides=overrides))
    trials = [trial for e in experiments for trial in e.list_trials()]
    built = [registry.losses.build(t.loss) for t in trials]
    records = {r.trial: r for r in run_stack(Stack(tuple(trials)))}
    by_loss = {r.row["loss"]: r for r in records.values()}
    return [
        Outcome(task, text, loss, by_loss[trial.loss.label])  # type: ignore[arg-type]
        for text, loss, trial in zip(losses, built, trials, strict=True)
    ]


def failed_checks(loss: External) -> str:
    """The checks that it fails, or none; and how it is called, if not as others are."""
    called = wrap_external(loss)
    how = f" ({called.describe_input()})" if isinstance(called, ExternalWrapper) else ""
    failed = {r.check: r.message for r in check_loss(loss) if r.status is Status.FAILED}
    first = failed.get("one_value_per_example", "")
    if "it raises" in first:  # and so do all others
        return f"cannot be called as the checks do it: {first}"
    return (", ".join(failed) or "none") + how


def takes(loss: External) -> str:
    """Space and target, and the form where it is unusual."""
    form = [f"{loss.space}, {loss.encoding}"]
    form += [f"layout={loss.layout}"] if loss.layout != "last" else []
    form += [f"axes={loss.axes}"] if loss.axes else []
    form += ["reduction=each"] if loss.reduction == "each" else []
    return "; ".join(form)


def line(found: Outcome) -> str:
    """One row of the table."""
    gives = "batch" if found.loss.batch_level else "example"
    status = found.record.row["status"]
    result = status if status == "finished" else f"{status}: {found.record.row['reason']}"
    cells: list[str] = [
        found.library,
        f"`{as_typed(found.written)}`",
        found.task,
        takes(found.loss),
        gives,
        found.route,
        result,
    ]
    cells.append(failed_checks(found.loss))
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def table() -> Iterator[str]:
    """Every loss, library by library."""
    yield "| library | what is typed | task | takes | one value per | route | trained | checks that it fails |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    found = [one for task, losses in LOSSES.items() for one in outcomes(task, losses)]
    yield from map(line, sorted(found, key=lambda one: one.library))


def main() -> None:
    """Write the section, or print it."""
    with warnings.catch_warnings():  # strangers warn of what they like
        warnings.simplefilter("ignore")
        text = "\n".join(table())
    if sys.argv[1:] == ["--print"]:
        print(text)
        return
    before, rest = PAGE.read_text().split(START)
    PAGE.write_text(f"{before}{START}\n\n{text}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
