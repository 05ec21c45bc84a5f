"""Writes tests/peers/*.json: values and gradients that other libraries' losses give, for the claims made about them.

To be run in an environment of its own, which needs none of ours but torch:

    pip install torch numpy keras libauc mmdet pytorch-metric-learning segmentation-models-pytorch torchvision
    python scripts/verify/peers.py --sources FOLDER [NAME ...]

FOLDER holds checkouts of the repositories in `COMMITS`, at these commits. Of mmdet one file is read, without mmcv.
`tests/identity/test_peers.py` compares our losses with what is written here.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import torch
from torch import Tensor
from torch.nn import functional

FOLDER = Path(__file__).parents[2] / "tests" / "peers"
COMMITS = {
    "Active-Negative-Loss": "0c50009cf82959310ea21365a64b01d723ccdac7",
    "Active-Passive-Losses": "04bce5344035ca69102b9cfb0228df0f49f1707d",
    "AdaFace": "c60eaa786a42c03444f3df7096dbaf9d57ae010d",
    "DIST_KD": "2418f18b1fedd7c2646a7b1b9a27d5c674c2170b",
    "MagFace": "99bae614ac2643b9694bf18e0c5645272ff6acfa",
    "neural_sp": "b91877c6d2a11f06026480ab422176274d88cbf2",
}
Case = dict[str, Any]


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Return normal numbers in float64, rounded so that JSON holds them whole."""
    numbers = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (numbers * 1e4).round() / 1e4


def make_case(
    loss: str,
    fields: dict[str, Any],
    peer: str,
    prediction: Tensor,
    target: Tensor,
    call: Callable[[Tensor], Tensor],
    same: bool | str = True,
    **requires: Tensor,
) -> Case:
    """Return one comparison: our loss with its inputs, and the peer's value (a mean over the batch) and gradient.

    same: whether ours is claimed to be equal, or only its "value". requires: what our loss takes beyond these two.
    """
    prediction = prediction.detach().clone().requires_grad_()
    value = call(prediction)
    (gradient,) = torch.autograd.grad(value, prediction)
    return {
        "loss": loss,
        "fields": fields,
        "peer": peer,
        "same": same,
        "prediction": prediction.tolist(),
        "target": target.tolist(),
        "requires": {name: tensor.tolist() for name, tensor in requires.items()},
        "value": value.item(),
        "gradient": gradient.tolist(),
    }


def load_file(path: Path, **replacements: str) -> types.ModuleType:
    """Return a module made of one file, with some of its text replaced first."""
    text = path.read_text()
    for old, new in replacements.values():  # type: ignore[misc]
        assert re.search(old, text, re.MULTILINE), f"{path} has no {old}"
        text = re.sub(old, new, text, flags=re.MULTILINE)
    module = types.ModuleType(path.stem)
    exec(compile(text, str(path), "exec"), module.__dict__)
    return module


def compare_mmdet(sources: Path) -> Iterator[Case]:
    import torchvision

    def overlaps(a: Tensor, b: Tensor, mode: str = "iou", is_aligned: bool = True, eps: float = 1e-6) -> Tensor:
        kinds = {"iou": torchvision.ops.box_iou, "giou": torchvision.ops.generalized_box_iou}
        return kinds[mode](a, b).diagonal()

    path = distribution("mmdet").locate_file("mmdet/models/losses/iou_loss.py")
    module = load_file(
        Path(str(path)),
        imports=(r"^from mmdet.*$", ""),
        relative=(r"^from \.utils.*$", "def weighted_loss(f):\n    return f"),
        registry=(r"^@MODELS.*$", ""),
    )
    module.bbox_overlaps = overlaps
    module.fp16_clamp = lambda x, min=None, max=None: x.clamp(min, max)
    near = torch.tensor([[0.0, 0, 10, 10], [2, 3, 14, 15]], dtype=torch.float64)
    close, far = near + torch.tensor([0.5, -0.25, 1, 0.5]), near + torch.tensor([4.0, 1, 14, -3])
    for name, ours in {"giou": "giou", "diou": "diou", "ciou": "ciou"}.items():
        call = getattr(module, f"{name}_loss")
        cases = {"overlap above 1/2": (close, True), "overlap below 1/2": (far, name != "ciou")}
        for what, (boxes, same) in cases.items():
            peer = f"mmdet.{name_of(name)}, {what}"
            yield make_case(ours, {}, peer, boxes, near, lambda p, c=call: c(p, near).mean(), same)
    yield make_case("eiou", {}, "mmdet.EIoULoss", far, near, lambda p: module.eiou_loss(p, near).mean(), same=False)


def name_of(name: str) -> str:
    return f"{name[0].upper()}IoULoss"


def compare_libauc(sources: Path) -> Iterator[Case]:
    from libauc.losses import PairwiseAUCLoss

    score, label = draw(8, 1), torch.tensor([[1.0], [-1], [-1], [1], [-1], [1], [-1], [-1]], dtype=torch.float64)
    for surrogate, same in {"squared_hinge": True, "logistic": False}.items():
        loss = PairwiseAUCLoss(surrogate)
        peer = f"libauc.losses.PairwiseAUCLoss('{surrogate}')"
        yield make_case("auc_margin", {}, peer, score, label, lambda p, f=loss: f(p, (label + 1) / 2), same)
    default = PairwiseAUCLoss()
    yield make_case(
        "auc_margin", {}, "libauc.losses.PairwiseAUCLoss()", score, label, lambda p: default(p, (label + 1) / 2), False
    )


def compare_metric_learning(sources: Path) -> Iterator[Case]:
    from pytorch_metric_learning import losses

    embedding, label = draw(6, 3), torch.tensor([0, 0, 1, 1, 2, 2])
    for ours, peer, same in (
        ("contrastive", losses.ContrastiveLoss(), False),
        ("n_pair", losses.NPairsLoss(), False),
        ("supcon", losses.SupConLoss(), True),
        ("nt_xent", losses.NTXentLoss(), True),
        ("circle", losses.CircleLoss(), True),
        ("multi_similarity", losses.MultiSimilarityLoss(), True),
    ):
        fields = {
            "supcon": {"temperature": 0.1},
            "nt_xent": {"temperature": 0.07},
            "circle": {"gamma": 80.0, "margin": 0.4},
            "multi_similarity": {},
        }
        name = f"pytorch_metric_learning.losses.{type(peer).__name__}"
        yield make_case(ours, fields.get(ours, {}), name, embedding, label, lambda p, f=peer: f(p, label), same)


def compare_segmentation(sources: Path) -> Iterator[Case]:
    from segmentation_models_pytorch import losses

    share = torch.sigmoid(draw(7, 3)).mul(1e4).round() / 1e4
    label = (draw(7, 3, seed=1) > 0).double()
    label[0] = 1.0
    empty = label.clone()
    empty[:, 2] = 0  # smp leaves a label without positives out
    for targets, same in ((label, True), (empty, False)):
        what = "" if same else ", a label without positives"
        for ours, fields, kind, settings in (
            ("dice", {"smooth": 2.0}, losses.DiceLoss, {"smooth": 1.0}),
            ("tversky", {"alpha": 0.3, "beta": 0.7, "smooth": 1.0}, losses.TverskyLoss, {"alpha": 0.3, "beta": 0.7}),
            ("jaccard", {"smooth": 1.0}, losses.JaccardLoss, {}),
        ):
            loss = kind("multilabel", from_logits=False, **({"smooth": 1.0} | settings))
            peer = f"segmentation_models_pytorch.losses.{kind.__name__}{what}"
            yield make_case(ours, fields, peer, share, targets, lambda p, f=loss, t=targets: f(p, t), same)
    plain = losses.DiceLoss("multilabel", from_logits=False, smooth=1.0)
    name = "segmentation_models_pytorch.losses.DiceLoss, the same smooth"
    yield make_case("dice", {"smooth": 1.0}, name, share, label, lambda p: plain(p, label), False)


def compare_keras(sources: Path) -> Iterator[Case]:
    import keras

    keras.config.set_floatx("float64")
    share, label = torch.sigmoid(draw(7, 1)).mul(1e4).round() / 1e4, (draw(7, 1, seed=1) > 0).double()
    peer = keras.losses.Tversky(alpha=0.3, beta=0.7, dtype="float64")
    for fields, same in (({"alpha": 0.7, "beta": 0.3}, True), ({"alpha": 0.3, "beta": 0.7}, False)):
        what = "swapped" if same else "as they are"
        name = f"keras.losses.Tversky, alpha and beta {what}"
        yield make_case("tversky", fields | {"smooth": 1e-7}, name, share, label, lambda p: peer(label, p), same)


def compare_magface(sources: Path) -> Iterator[Case]:
    module = load_file(
        sources / "MagFace" / "models" / "magface.py",
        others=(r"^(from|import) (?!torch|math|numpy|sys).*$|^sys\..*$", ""),
    )
    module.F, module.Parameter = functional, torch.nn.Parameter
    embedding, weight = 2 * draw(6, 4), draw(5, 4, seed=1)
    embedding[0] = -weight[0]  # an angle near 180 degrees
    label = torch.tensor([0, 1, 2, 3, 4, 0])
    low, high, least, most = 1.0, 11.0, 0.45, 0.8
    for easy in (True, False):
        linear = module.MagLinear(4, 5, scale=16.0, easy_margin=easy).double()
        linear.weight.data = weight.mT.clone()

        def call(p: Tensor, linear: Any = linear) -> Tensor:
            (plain, lowered), length = linear(p, lambda a: (most - least) / (high - low) * (a - low) + least, low, high)
            loss = module.MagLoss(low, high, least, most, 16.0)
            classes, cost, _ = loss([plain, lowered], label, length)
            return classes + cost

        fields = {"easy_margin": easy}
        peer = f"MagFace, easy_margin={easy}"
        yield make_case("magface", fields, peer, embedding, label, call, weight=weight)


def compare_adaface(sources: Path) -> Iterator[Case]:
    module = load_file(sources / "AdaFace" / "head.py", quiet=(r"^ +print\(.*$", "        pass"))
    embedding, weight = 2 * draw(6, 4), draw(5, 4, seed=1)
    label = torch.tensor([0, 1, 2, 3, 4, 0])
    head = module.AdaFace(4, 5, m=0.4, h=1 / 3, s=16.0, t_alpha=1.0).double()
    head.kernel.data = weight.mT.clone()

    def call(p: Tensor) -> Tensor:
        length = p.norm(dim=1, keepdim=True)
        return functional.cross_entropy(head(p / length, length, label), label)

    yield make_case("adaface", {}, "AdaFace, the first step", embedding, label, call, weight=weight)


def compare_dist(sources: Path) -> Iterator[Case]:
    module = load_file(sources / "DIST_KD" / "segmentation" / "losses" / "dist_kd.py")
    for n_classes in (4, 200):
        student, teacher = draw(4, n_classes), draw(4, n_classes, seed=1)
        hot = functional.one_hot(torch.arange(4) % n_classes, n_classes).double()
        target = torch.stack([teacher, hot], 1)

        def call(p: Tensor, teacher: Tensor = teacher, hot: Tensor = hot) -> Tensor:
            return module.DIST()(p, teacher) + functional.cross_entropy(p, hot)

        yield make_case("dist", {}, f"DIST, {n_classes} classes, and cross-entropy", student, target, call)


def compare_neural_sp(sources: Path) -> Iterator[Case]:
    text = (sources / "neural_sp" / "neural_sp" / "models" / "criterion.py").read_text()
    start = text.index("def kldiv_lsm_ctc")
    module = types.ModuleType("criterion")
    module.__dict__.update(torch=torch, math=math)
    exec(text[start : text.index("\ndef ", start)], module.__dict__)
    logits, tokens = draw(3, 6, 5), torch.tensor([[1, 2], [3, 3], [4, -1]])
    lengths = torch.full((3,), 6)
    # with a smoothing of 1 only the divergence is left; theirs is log(C / (C - 1)) lower
    call = lambda p: module.kldiv_lsm_ctc(p, lengths) + math.log(5 / 4)  # noqa: E731
    yield make_case("smoothed_ctc", {"smoothing": 1.0}, "kldiv_lsm_ctc + log(C / (C - 1))", logits, tokens, call)


def compare_active_passive(sources: Path) -> Iterator[Case]:
    path = sources / "Active-Passive-Losses" / "loss.py"
    module = load_file(
        path,
        device=(r"\.to\(self\.device\)|\.cuda\(\)", ""),
        half=(r"\.float\(\)", ".double()"),
        registry=(r"^import mlconfig$|^@?mlconfig.*$", ""),
    )
    logits, label = draw(8, 4), torch.arange(8) % 4
    floor = -math.log(1e-4)  # what they take for -log 0
    for ours, fields, peer in (
        ("reverse_cross_entropy", {"minus_log_zero": floor}, module.ReverseCrossEntropy(4)),
        ("normalized_cross_entropy", {}, module.NormalizedCrossEntropy(4)),
        ("nce_rce", {"minus_log_zero": floor}, module.NCEandRCE(1.0, 1.0, 4)),
        ("nce_mae", {"beta": 0.5}, module.NCEandMAE(1.0, 1.0, 4)),
        ("normalized_focal", {"gamma": 0.5}, module.NormalizedFocalLoss(num_classes=4, gamma=0.5)),
    ):
        name = f"{type(peer).__name__} of Active-Passive-Losses"
        same = "value" if ours == "normalized_focal" else True  # theirs holds the fading factor still
        yield make_case(ours, fields, name, logits, label, lambda p, f=peer: f(p, label), same)


PEERS: dict[str, tuple[str, Callable[[Path], Iterator[Case]]]] = {
    "mmdet": ("mmdet", compare_mmdet),
    "libauc": ("libauc", compare_libauc),
    "pytorch_metric_learning": ("pytorch-metric-learning", compare_metric_learning),
    "segmentation_models_pytorch": ("segmentation-models-pytorch", compare_segmentation),
    "keras": ("keras", compare_keras),
    "magface": ("MagFace", compare_magface),
    "adaface": ("AdaFace", compare_adaface),
    "dist": ("DIST_KD", compare_dist),
    "neural_sp": ("neural_sp", compare_neural_sp),
    "active_passive": ("Active-Passive-Losses", compare_active_passive),
}


def find_version(source: str, folder: Path) -> str:
    """Return a distribution's version, or the commit of a checkout, which must be the one in `COMMITS`."""
    if source not in COMMITS:
        return version(source)
    run = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder / source, capture_output=True, text=True, check=True)
    commit = run.stdout.strip()
    assert commit == COMMITS[source], f"{source} is at {commit}"
    return commit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=Path, required=True)
    parser.add_argument("names", nargs="*", default=list(PEERS))
    options = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    FOLDER.mkdir(exist_ok=True)
    for name in options.names:
        source, compare = PEERS[name]
        document = {
            "source": source,
            "version": find_version(source, options.sources),
            "torch": torch.__version__,
            "made_by": "scripts/verify/peers.py",
            "cases": list(compare(options.sources)),
        }
        (FOLDER / f"{name}.json").write_text(json.dumps(document) + "\n")
        print(f"{name}: {len(document['cases'])} cases of {source} {document['version']}")


if __name__ == "__main__":
    sys.exit(main())
