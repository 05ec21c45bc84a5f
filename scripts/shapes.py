"""Writes docs/pictures/losses: what the losses of each family look like.

python scripts/shapes.py [FOLDER]
"""

import sys
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from lossbench import registry
from lossbench.report.figures.shape_curves import compute_curves
from lossbench.report.figures.shapes import draw_shapes
from lossbench.report.figures.style import render_figure

FOLDER = Path(__file__).parents[1] / "docs" / "pictures" / "losses"
DPI = 115
N_COLOURS = 255
"""Half the bytes, and no difference that one can see."""
PICTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "regression": ("mse mae huber log_cosh smooth_l1 quantile expectile epsilon_insensitive", {}),
    "regression-outliers": ("mse mae huber cauchy tukey", {"range": (-1e4, 1e4)}),
    "regression-positive": ("mape smape msle", {"against": "rate", "range": (0.3, 30)}),
    "regression-direction": ("cosine_similarity", {}),
    "robust-growing": ("charbonnier fair barron_adaptive barron cauchy wing", {"range": (-8, 8)}),
    "robust-redescending": ("tukey welsch geman_mcclure andrews hampel talwar cauchy", {"range": (-8, 8)}),
    "counts": ("poisson_nll negative_binomial zero_inflated_poisson tweedie gamma_deviance", {"range": (0.3, 15)}),
    "distribution": ("gaussian_nll beta_nll crps_gaussian laplace_nll student_t_nll", {"range": (-5, 5)}),
    "distribution-sigma": (
        "gaussian_nll beta_nll crps_gaussian laplace_nll student_t_nll",
        {"against": "sigma", "range": (0.3, 10)},
    ),
    "margin": ("hinge squared_hinge perceptron exponential soft_margin square_on_margin", {}),
    "margin-multiclass": ("multi_margin categorical_hinge multiclass_perceptron cross_entropy", {}),
    "classification": (
        "cross_entropy focal_softmax asymmetric_softmax poly1 sparsemax brier square_on_logits evidential",
        {"against": "probability"},
    ),
    "classification-binary": ("bce focal poly1_bce", {"against": "probability"}),
    "imbalance": ("cross_entropy logit_adjusted ldam auc_margin", {"normalise": True, "range": (-3, 6)}),
    "label-noise-bounded": (
        "cross_entropy generalized_cross_entropy mae_softmax taylor_cross_entropy agce aul aexp phuber_ce",
        {"against": "probability"},
    ),
    "label-noise-normalised": (
        "cross_entropy normalized_cross_entropy normalized_focal nce_mae nce_rce anl_ce symmetric_cross_entropy "
        "reverse_cross_entropy",
        {"against": "probability", "normalise": True},
    ),
    "label-noise-targets": (
        "cross_entropy bootstrapping_soft bootstrapping_hard forward_correction jensen_shannon bi_tempered logit_clip "
        "elr",
        {"range": (-6, 6)},
    ),
    "multilabel": ("multilabel_soft_margin asymmetric multilabel_margin zlpr two_way", {}),
    "overlap": ("dice jaccard soft_f1 tversky lovasz_hinge", {"range": (-4, 4)}),
    "embedding-classes": ("arcface cosface adaface magface", {}),
    "embedding-pairs": ("contrastive hinge_embedding cosine_embedding triplet", {}),
    "embedding-batches": ("n_pair nt_xent multi_similarity circle", {"normalise": True}),
    "ranking": ("ranknet margin_ranking pairwise_hinge lambdarank listnet listmle approx_ndcg", {}),
    "distillation": ("distillation dkd logit_matching dist cross_entropy", {"range": (-2, 8)}),
    "sequence": ("ctc smoothed_ctc focal_ctc autoregressive_nll unlikelihood", {"against": "probability"}),
    "boxes": ("iou giou diou eiou siou alpha_iou focal_eiou nwd l1", {}),
    "boxes-scale": ("iou giou ciou eiou siou alpha_iou focal_eiou nwd l1", {"against": "scale"}),
}
"""A name that starts with the family's, its losses, and how they are drawn."""


def main() -> int:
    """All pictures, into the folder that is asked for."""
    folder = Path(sys.argv[1]) if sys.argv[1:] else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, (losses, settings) in PICTURES.items():
        drawn = draw_shapes(compute_curves({loss: registry.losses.get(loss) for loss in losses.split()}, **settings))
        picture = Image.open(BytesIO(render_figure(drawn, "png", DPI))).convert("RGB")
        picture.quantize(N_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            folder / f"{name}.png", optimize=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
