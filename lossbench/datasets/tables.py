"""Small data sets that come with scikit-learn or are computed."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lossbench.interfaces import Dataset
from lossbench.types import Examples
from lossbench.validation import check_count, check_nonnegative


@dataclass(frozen=True)
class Diabetes(Dataset):
    """Progression of diabetes after a year (25 to 346) from 10 measurements of 442 patients.

    inputs `[442, 10]` in their own units; targets `[442, 1]`.
    Reference: Efron, Hastie, Johnstone, Tibshirani, Least Angle Regression, 2004,
    https://doi.org/10.1214/009053604000000067
    """

    tasks: ClassVar[tuple[str, ...]] = ("regression",)
    source: ClassVar[str] = (
        "https://www4.stat.ncsu.edu/~boos/var.select/diabetes.html, as shipped with scikit-learn; no licence is stated"
    )

    def load(self) -> Examples:
        """Return all 442 patients."""
        from sklearn.datasets import load_diabetes

        inputs, targets = load_diabetes(scaled=False, return_X_y=True)
        return Examples(inputs.astype(np.float32), targets.astype(np.float64)[:, None])


@dataclass(frozen=True)
class BreastCancer(Dataset):
    """Breast tumours, malignant or benign, by 30 measurements of cell nuclei in 569 images.

    inputs `[569, 30]` in their own units; targets `[569]`: 0 malignant (212), 1 benign (357). The positive class is
    *benign*, as in scikit-learn: a false positive is a missed tumour.
    Reference: Street, Wolberg, Mangasarian, Nuclear feature extraction for breast tumor diagnosis, 1993,
    https://doi.org/10.1117/12.148698
    """

    tasks: ClassVar[tuple[str, ...]] = ("binary", "multiclass")
    source: ClassVar[str] = (
        "Breast Cancer Wisconsin (Diagnostic), https://doi.org/10.24432/C5DW2B, CC BY 4.0, as shipped with scikit-learn"
    )

    def load(self) -> Examples:
        """Return all 569 tumours."""
        from sklearn.datasets import load_breast_cancer

        inputs, targets = load_breast_cancer(return_X_y=True)
        return Examples(inputs.astype(np.float32), targets.astype(np.int64), ("malignant", "benign"))


@dataclass(frozen=True)
class Digits(Dataset):
    """Handwritten digits in 1797 images of 8 by 8 pixels.

    inputs `[1797, 1, 8, 8]` in [0, 1]; targets `[1797]`, the digit; 174 to 183 of each.
    Reference: Alpaydin, Kaynak, Cascading Classifiers, 1998, https://www.kybernetika.cz/content/1998/4/369
    """

    tasks: ClassVar[tuple[str, ...]] = ("multiclass",)
    source: ClassVar[str] = (
        "Optical Recognition of Handwritten Digits (its test part), https://doi.org/10.24432/C50P49, CC BY 4.0, "
        "as shipped with scikit-learn"
    )

    def load(self) -> Examples:
        """Return all 1797 images."""
        from sklearn.datasets import load_digits

        pixels, targets = load_digits(return_X_y=True)
        images = (pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8)
        return Examples(images, targets.astype(np.int64), tuple("0123456789"))


@dataclass(frozen=True)
class Friedman1(Dataset):
    r"""A smooth function of five of ten uniform inputs, plus normal noise.

    .. math:: y = 10 \sin(\pi x_1 x_2) + 20 (x_3 - 1/2)^2 + 10 x_4 + 5 x_5 + \mathrm{noise} \cdot N(0, 1)

    inputs `[n, 10]` in [0, 1]; targets `[n, 1]`, mostly between 0 and 30.
    Reference: Friedman, Multivariate Adaptive Regression Splines, 1991, https://doi.org/10.1214/aos/1176347963
    """

    tasks: ClassVar[tuple[str, ...]] = ("regression",)
    source: ClassVar[str] = "computed by sklearn.datasets.make_friedman1"

    n: int = 1000
    noise: float = 1.0
    random_state: int = 0

    def __post_init__(self) -> None:
        check_count(self, n=self.n)
        check_count(self, least=0, random_state=self.random_state)
        check_nonnegative(self, noise=self.noise)

    def load(self) -> Examples:
        """Return `n` examples; every call returns the same."""
        from sklearn.datasets import make_friedman1

        inputs, targets = make_friedman1(n_samples=self.n, noise=self.noise, random_state=self.random_state)
        return Examples(inputs.astype(np.float32), targets.astype(np.float64)[:, None])
