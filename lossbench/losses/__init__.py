"""The built-in losses, and `get` and `names` for all that are registered."""

from lossbench import registry
from lossbench.interfaces.loss import Loss as _Loss
from lossbench.losses.auc import AUCMargin
from lossbench.losses.autoregressive import AutoregressiveNLL, Unlikelihood
from lossbench.losses.box_distances import L1, NWD, SIOU, WIOU
from lossbench.losses.boxes import CIOU, DIOU, EIOU, GIOU, IOU, AlphaIOU, FocalEIOU
from lossbench.losses.classification import (
    BCE,
    ELR,
    Brier,
    CrossEntropy,
    Focal,
    GeneralizedCrossEntropy,
    LogitAdjusted,
)
from lossbench.losses.combined import Combined
from lossbench.losses.contrastive import Circle, MultiSimilarity, NPair, NTXent, SupCon
from lossbench.losses.counts import GammaDeviance, NegativeBinomial, PoissonNLL, Tweedie, ZeroInflatedPoisson
from lossbench.losses.directions import CosineSimilarity
from lossbench.losses.distillation import DIST, DKD, Distillation, LogitMatching
from lossbench.losses.distributions import BetaNLL, CRPSGaussian, LaplaceNLL, StudentTNLL
from lossbench.losses.divergences import NLL, Evidential, JensenShannon, KLDivergence, Sparsemax, SquareOnLogits
from lossbench.losses.embedding import ArcFace
from lossbench.losses.external import External
from lossbench.losses.imbalance import LDAM
from lossbench.losses.margin import (
    CategoricalHinge,
    Exponential,
    Hinge,
    MulticlassPerceptron,
    MultiMargin,
    Perceptron,
    SoftMargin,
    SquaredHinge,
    SquareOnMargin,
)
from lossbench.losses.modulated import AsymmetricSoftmax, FocalSoftmax, Poly1, Poly1BCE
from lossbench.losses.multilabel import ZLPR, Asymmetric, MultilabelMargin, MultilabelSoftMargin, TwoWay
from lossbench.losses.noise import (
    BootstrappingHard,
    BootstrappingSoft,
    ForwardCorrection,
    MAESoftmax,
    ReverseCrossEntropy,
    SymmetricCrossEntropy,
)
from lossbench.losses.noise_bounded import AGCE, AUL, AExp, LogitClip, PHuberCE, TaylorCrossEntropy
from lossbench.losses.noise_normalised import ANLCE, NCEAndMAE, NCEAndRCE, NormalizedCrossEntropy, NormalizedFocal
from lossbench.losses.norms import Andrews, Fair, Hampel, Talwar
from lossbench.losses.overlap import Dice, SoftF1
from lossbench.losses.pairs import Contrastive, CosineEmbedding, HingeEmbedding, Triplet
from lossbench.losses.proxies import AdaFace, CosFace, MagFace
from lossbench.losses.quantiles import EpsilonInsensitive, Expectile, Quantile
from lossbench.losses.ranking import ApproxNDCG, LambdaRank, ListMLE, ListNet
from lossbench.losses.ranking_pairs import MarginRanking, PairwiseHinge, RankNet
from lossbench.losses.regression import MAE, MSE, MSLE, BarronAdaptive, GaussianNLL, Huber, LogCosh, SmoothL1, Tukey
from lossbench.losses.relative import MAPE, SMAPE
from lossbench.losses.robust import Barron, Cauchy, Charbonnier, GemanMcclure, Welsch, Wing
from lossbench.losses.sequence import CTC, FocalCTC, SmoothedCTC
from lossbench.losses.set_overlap import Jaccard, LovaszHinge, Tversky
from lossbench.losses.tempered import BiTempered

__all__ = [
    "AGCE",
    "ANLCE",
    "AUL",
    "BCE",
    "CIOU",
    "CTC",
    "DIOU",
    "DIST",
    "DKD",
    "EIOU",
    "ELR",
    "GIOU",
    "IOU",
    "L1",
    "LDAM",
    "MAE",
    "MAPE",
    "MSE",
    "MSLE",
    "NLL",
    "NWD",
    "SIOU",
    "SMAPE",
    "WIOU",
    "ZLPR",
    "AExp",
    "AUCMargin",
    "AdaFace",
    "AlphaIOU",
    "Andrews",
    "ApproxNDCG",
    "ArcFace",
    "Asymmetric",
    "AsymmetricSoftmax",
    "AutoregressiveNLL",
    "Barron",
    "BarronAdaptive",
    "BetaNLL",
    "BiTempered",
    "BootstrappingHard",
    "BootstrappingSoft",
    "Brier",
    "CRPSGaussian",
    "CategoricalHinge",
    "Cauchy",
    "Charbonnier",
    "Circle",
    "Combined",
    "Contrastive",
    "CosFace",
    "CosineEmbedding",
    "CosineSimilarity",
    "CrossEntropy",
    "Dice",
    "Distillation",
    "EpsilonInsensitive",
    "Evidential",
    "Expectile",
    "Exponential",
    "External",
    "Fair",
    "Focal",
    "FocalCTC",
    "FocalEIOU",
    "FocalSoftmax",
    "ForwardCorrection",
    "GammaDeviance",
    "GaussianNLL",
    "GemanMcclure",
    "GeneralizedCrossEntropy",
    "Hampel",
    "Hinge",
    "HingeEmbedding",
    "Huber",
    "Jaccard",
    "JensenShannon",
    "KLDivergence",
    "LambdaRank",
    "LaplaceNLL",
    "ListMLE",
    "ListNet",
    "LogCosh",
    "LogitAdjusted",
    "LogitClip",
    "LogitMatching",
    "LovaszHinge",
    "MAESoftmax",
    "MagFace",
    "MarginRanking",
    "MultiMargin",
    "MultiSimilarity",
    "MulticlassPerceptron",
    "MultilabelMargin",
    "MultilabelSoftMargin",
    "NCEAndMAE",
    "NCEAndRCE",
    "NPair",
    "NTXent",
    "NegativeBinomial",
    "NormalizedCrossEntropy",
    "NormalizedFocal",
    "PHuberCE",
    "PairwiseHinge",
    "Perceptron",
    "PoissonNLL",
    "Poly1",
    "Poly1BCE",
    "Quantile",
    "RankNet",
    "ReverseCrossEntropy",
    "SmoothL1",
    "SmoothedCTC",
    "SoftF1",
    "SoftMargin",
    "Sparsemax",
    "SquareOnLogits",
    "SquareOnMargin",
    "SquaredHinge",
    "StudentTNLL",
    "SupCon",
    "SymmetricCrossEntropy",
    "Talwar",
    "TaylorCrossEntropy",
    "Triplet",
    "Tukey",
    "Tversky",
    "Tweedie",
    "TwoWay",
    "Unlikelihood",
    "Welsch",
    "Wing",
    "ZeroInflatedPoisson",
    "get",
    "names",
]


def get(name: str, **fields: object) -> _Loss:
    """The loss registered under `name`, built in or not, with its fields set.

    >>> get("huber", delta=2.0)
    Huber(delta=2.0)
    """
    return registry.losses.get(name, **fields)


def names(task: str | None = None) -> list[str]:
    """Names of all registered losses, or of those that fit `task`."""
    return registry.losses.names(task)
