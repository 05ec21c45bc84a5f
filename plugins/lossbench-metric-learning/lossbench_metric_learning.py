"""The losses of pytorch-metric-learning as choices of lossbench: `loss=pml_triplet_margin loss.margin=0.1`.

Each becomes a frozen dataclass with the constructor's numbers and switches as fields. The library itself is imported
when a loss is made: it takes as long as half of torch, and every command lists the losses. Its modules are shared and
hold nothing that changes: trainable tensors and running statistics come with each call.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field, fields, make_dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from lossbench.errors import InvalidValue
from lossbench.functions import CHECKS
from lossbench.interfaces.loss import Loss
from lossbench.losses.embedding import check_embeddings
from lossbench.registry import to_snake_case
from lossbench.types import EMBEDDING_WIDTH, Encoding, Head, Problem, Requirement, Space

PAGE = "https://kevinmusgrave.github.io/pytorch-metric-learning/losses/#"
PLAIN: dict[str, dict[str, float | str]] = {
    "AngularLoss": {"alpha": 40.0},
    "CircleLoss": {"m": 0.4, "gamma": 80.0},
    "ContrastiveLoss": {"pos_margin": 0.0, "neg_margin": 1.0},
    "FastAPLoss": {"num_bins": 10},
    "GeneralizedLiftedStructureLoss": {"neg_margin": 1.0, "pos_margin": 0.0},
    "HistogramLoss": {"n_bins": 100},
    "InstanceLoss": {"gamma": 64.0},
    "IntraPairVarianceLoss": {"pos_eps": 0.01, "neg_eps": 0.01},
    "LiftedStructureLoss": {"neg_margin": 1.0, "pos_margin": 0.0},
    "MarginLoss": {"margin": 0.2, "nu": 0.0, "beta": 1.2},
    "MultiSimilarityLoss": {"alpha": 2.0, "beta": 50.0, "base": 0.5},
    "NCALoss": {"softmax_scale": 1.0},
    "NPairsLoss": {},
    "NTXentLoss": {"temperature": 0.07},
    "PNPLoss": {"b": 2.0, "alpha": 1.0, "anneal": 0.01, "variant": "O"},
    "RankedListLoss": {"margin": 0.4, "Tn": 5.0, "imbalance": 0.5, "Tp": 0.0},
    "SignalToNoiseRatioContrastiveLoss": {"pos_margin": 0.0, "neg_margin": 1.0},
    "SupConLoss": {"temperature": 0.1},
    "ThresholdConsistentMarginLoss": {
        "lambda_plus": 1.0, "lambda_minus": 1.0, "margin_plus": 0.9, "margin_minus": 0.5
    },
    "TripletMarginLoss": {"margin": 0.05, "swap": False, "smooth_loss": False},
    "TupletMarginLoss": {"margin": 5.73, "scale": 64.0},
}  # fmt: skip
"""Its losses without trainable tensors, and the defaults of their fields; whole ones are for whole numbers only."""
TRAINABLE: dict[str, dict[str, float | str]] = {
    "ArcFaceLoss": {"margin": 28.6, "scale": 64.0},
    "CosFaceLoss": {"margin": 0.35, "scale": 64.0},
    "LargeMarginSoftmaxLoss": {"margin": 4, "scale": 1.0},
    "NormalizedSoftmaxLoss": {"temperature": 0.05},
    "P2SGradLoss": {},
    "ProxyAnchorLoss": {"margin": 0.1, "alpha": 32.0},
    "ProxyNCALoss": {"softmax_scale": 1.0},
    "SoftTripleLoss": {"centers_per_class": 10, "la": 20.0, "gamma": 0.1, "margin": 0.01},
    "SphereFaceLoss": {"margin": 4, "scale": 1.0},
    "SubCenterArcFaceLoss": {"margin": 28.6, "scale": 64.0, "sub_centers": 3},
}
"""Those with a trainable tensor, which has a vector or several for each class."""
RUNNING: dict[str, dict[str, float | str]] = {
    "DynamicSoftMarginLoss": {"min_val": -2.0, "num_bins": 10, "momentum": 0.01}
}
"""Those that carry a histogram from batch to batch."""
UNUSABLE = {
    "ManifoldLoss": "it makes its own labels and refuses given ones",
    "VICRegLoss": "it compares two views of each example and takes no labels",
    "SmoothAPLoss": "it needs equally many examples of each class in a batch, and batches are drawn at random",
}
"""What is left out, and why."""
NOTES = {
    "HistogramLoss": "it raises an error once two embeddings of a class have the very same direction",
    "DynamicSoftMarginLoss": "it raises an error once an anchor's positive is opposite and a negative is on it",
    "TupletMarginLoss": "its angles have an infinite slope where two embeddings have the same direction",
    "InstanceLoss": "made for pairs of two kinds: it takes the k-th class of a batch for the k-th example of it",
    "NPairsLoss": "it takes one pair of each class: here the same ones of a batch at every call, and not at random",
    "P2SGradLoss": "its class vectors are scaled to length 1 in each call, not in place",
    "ProxyNCALoss": "few proxies at the default softmax_scale give it hardly any gradient",
}
_EXTREMES = ("extremes_are_finite", "extremes_are_finite_in_bfloat16")
FLAWS: dict[str, dict[str, str]] = {
    "DynamicSoftMarginLoss": dict.fromkeys(_EXTREMES, "its last bin has no successor"),
    "HistogramLoss": dict.fromkeys(
        (*_EXTREMES, "right_beats_wrong", "time_per_element"), "its last bin has no successor"
    ),
    "InstanceLoss": {"order_does_not_matter": "it takes the k-th class of a batch for the k-th example"},
    "NPairsLoss": {"order_does_not_matter": "it takes one pair of each class, which depends on the order"},
    "P2SGradLoss": dict.fromkeys(_EXTREMES, "it divides by the length of an embedding"),
    "SignalToNoiseRatioContrastiveLoss": dict.fromkeys(_EXTREMES, "it divides by the variance of an embedding"),
    "TupletMarginLoss": {_EXTREMES[1]: "its angles have an infinite slope at equal directions"},
}
"""What `lossbench check` finds wrong with them, and why: told as known, since they are used as they are."""
HELD_STILL = ("CircleLoss", "P2SGradLoss")
"""Part of their formula has no gradient: the weights of the pairs, the scaling of the class vectors."""


class _Wrapped(Loss):
    """One loss of the library: embeddings `[B, E]` and class indices `[B]` to one value."""

    origin: ClassVar[str]
    """Its class in pytorch_metric_learning.losses."""
    family = "embedding"
    tasks = ("embedding",)
    space = Space.EMBEDDING
    encoding = Encoding.INDEX
    head = Head.EMBEDDING
    batch_level = True
    use_when = "code that uses pytorch-metric-learning is to be compared as it is"

    def __post_init__(self) -> None:
        for f in fields(self):  # type: ignore[arg-type]
            if check := CHECKS.get(f.type):
                check(self, **{f.name: getattr(self, f.name)})
        _module(self, 2)  # what the library refuses is told before anything is trained

    def init_parameters(self, problem: Problem, generator: torch.Generator) -> dict[str, Tensor]:
        """What the library draws for them, by name."""
        seed = int(torch.randint(2**62, (), generator=generator))
        made = _made(self, problem.n_outputs, seed)
        return {name: p.detach() for name, p in made.named_parameters()}

    def __call__(self, prediction: Tensor, target: Tensor, *, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """One value per batch."""
        embedding, held = check_embeddings(prediction, target), parameters or {}
        # a class has as many numbers as all of a module for one class
        of_one = sum(p.numel() for p in _module(self, 1).parameters())
        n_classes = sum(p.numel() for p in held.values()) // of_one if held else 2
        with _contained():
            # the library assigns to the data of what it is given
            own = {name: p.to(embedding.dtype).view_as(p) for name, p in held.items()}
            return torch.func.functional_call(_module(self, n_classes), own, (embedding, target))


class _Running(_Wrapped):
    """One that carries a tensor `hist_` from batch to batch."""

    requires = (Requirement.STATE,)

    def init_state(self, problem: Problem) -> Tensor:
        """An empty histogram."""
        return torch.zeros(int(self.num_bins))  # type: ignore[attr-defined]

    def __call__(self, prediction: Tensor, target: Tensor, *, state: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """One value per batch, and the next histogram."""
        embedding = check_embeddings(prediction, target)
        module: Any = _module(self, 2)
        module.hist_ = state.to(embedding.dtype)
        with _contained():
            value, after = module(embedding, target), module.hist_.detach()
        module.hist_ = None  # it would keep the batch's graph
        return value, after


@contextmanager
def _contained() -> Iterator[None]:
    """Without what the library draws from NumPy's global generator, so that a call is a function of its arguments.

    And without the warnings that its use of NumPy and torch gives, and torch of what it does inside vmap.
    """
    from pytorch_metric_learning.utils import common_functions

    before, common_functions.NUMPY_RANDOM = common_functions.NUMPY_RANDOM, np.random.RandomState(0)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Using a non-tuple sequence")  # HistogramLoss
            warnings.filterwarnings("ignore", "__array_wrap__ must accept")  # LargeMarginSoftmaxLoss
            warnings.filterwarnings("ignore", "There is a performance drop")
            yield
    finally:
        common_functions.NUMPY_RANDOM = before


@lru_cache(maxsize=256)
def _module(loss: _Wrapped, n_classes: int) -> nn.Module:
    return _made(loss, n_classes, 0)


def _made(loss: _Wrapped, n_classes: int, seed: int) -> nn.Module:
    """The library's module; raises `InvalidValue` with what the library says of its parameters."""
    from pytorch_metric_learning import losses

    given = {f.name: getattr(loss, f.name) for f in fields(loss)}  # type: ignore[arg-type]
    if Requirement.PARAMETERS in loss.requires:
        width = "descriptors_dim" if loss.origin == "P2SGradLoss" else "embedding_size"
        given |= {"num_classes": n_classes, width: EMBEDDING_WIDTH}
    with torch.random.fork_rng(devices=[]), _contained():
        torch.default_generator.manual_seed(seed)
        try:
            return getattr(losses, loss.origin)(**given)
        except Exception as error:  # a stranger's constructor may raise anything
            raise InvalidValue(f"{loss.origin} cannot be made with {given}: {error}") from error


def _wrapped(origin: str, defaults: Mapping[str, Any], parent: type[_Wrapped], **facts: Any) -> type[_Wrapped]:
    name = origin.removesuffix("Loss")
    given = [(n, type(v), field(default=v)) for n, v in defaults.items()]
    namespace = {
        "name": f"pml_{to_snake_case(name)}",
        "origin": origin,
        "aliases": (f"pytorch_metric_learning.losses.{origin}",),
        "static_fields": tuple(n for n, v in defaults.items() if type(v) is float),
        "held_still": {} if origin in HELD_STILL else None,
        "flaws": FLAWS.get(origin, {}),
        "pitfall": NOTES.get(origin, "its defaults are the library's, some of them for millions of classes"),
        "__doc__": _documentation(origin, defaults),
        **facts,
    }
    kind = make_dataclass(name, given, bases=(parent,), namespace=namespace, frozen=True)
    kind.__module__ = __name__  # make_dataclass takes it from Python 3.12 on
    return kind


def _documentation(origin: str, defaults: Mapping[str, Any]) -> str:
    taken = f"{', '.join(defaults)}: as there. " if defaults else ""
    return f"""`{origin}` of pytorch-metric-learning, as it is.

    prediction: ``[B, E]`` embeddings; target: ``[B]`` class indices. {taken}Returns one value per batch, ``[]``. Raises
    `InvalidValue` if the shapes do not fit, or with what the library says of its parameters.
    Reference: Musgrave, Belongie and Lim, PyTorch Metric Learning, 2020, {PAGE}{origin.lower()}
    """


KINDS = {
    **{o: _wrapped(o, d, _Wrapped) for o, d in PLAIN.items()},
    **{o: _wrapped(o, d, _Wrapped, requires=(Requirement.PARAMETERS,)) for o, d in TRAINABLE.items()},
    **{o: _wrapped(o, d, _Running) for o, d in RUNNING.items()},
}
"""The classes by the library's names."""
globals().update({kind.__name__: kind for kind in KINDS.values()})
