"""Any table of OpenML, read and downloaded by scikit-learn."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from io import StringIO
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lossbench.datasets.downloads import ROOT, get_data_folder
from lossbench.datasets.subsets import draw_subset
from lossbench.errors import Incompatible, InvalidValue, Unavailable, make_unknown
from lossbench.interfaces import Dataset
from lossbench.types import Array, Examples
from lossbench.validation import check_count

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("lossbench")

SITE = "https://www.openml.org"
MOST_CATEGORIES = 100
"""A categorical feature becomes at most so many columns: the rarest categories share the last."""


@dataclass(frozen=True)
class OpenML(Dataset):
    """A table from OpenML, by its name or its number: `data.dataset=adult` or `data.id=1590`.

    inputs `[N, D]`: numeric columns as they are, with the column's median over all rows for missing values; then
    categorical columns, one-hot. A missing category is a category of its own; of more than 100 categories the rarest
    share one. Columns of free text or dates are left out, and so are columns that OpenML marks as row numbers or as
    ignored.
    targets: for regression a numeric column, `[N, 1]` (`[N, D]` for several); else `[N]`, class numbers in alphabetical
    order, so that in a binary task the later class is the positive one.

    dataset, id: one of the two. version: the version of `dataset`; 0 for the oldest active one.
    target: the column to predict; by default OpenML's default target.
    weights: the column with the weight of each row, for `weighting=sample`; it is then no input.
    n: number of rows, drawn by `random_state` in proportion to the classes if there are any; 0 for all.
    root: the folder of the data, by default `$LOSSBENCH_DATA`, else `~/.local/share/lossbench`. Data that
        is there is not downloaded again.

    Raises `Unavailable` if OpenML does not have the data, or if it is neither on disk nor to be downloaded;
    `UnknownName` for an unknown column; `Incompatible` if there is not exactly one target, or no feature, or if the
    weights are not numeric; `InvalidValue` if there are fewer rows than `n`.
    Reference: Vanschoren, van Rijn, Bischl, Torgo, OpenML: Networked Science in Machine Learning, 2013,
    https://doi.org/10.1145/2641190.2641198
    """

    name: ClassVar[str] = "openml"
    tasks: ClassVar[tuple[str, ...]] = ("regression", "binary", "multiclass")
    public: ClassVar[bool] = True
    source: ClassVar[str] = "https://www.openml.org, by scikit-learn; each data set's page there states its licence"

    dataset: str = ""
    id: int = 0
    version: int = 0
    target: str = ""
    weights: str = ""
    n: int = 0
    random_state: int = 0
    root: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        check_count(self, least=0, id=self.id, version=self.version, n=self.n, random_state=self.random_state)
        if bool(self.dataset) == bool(self.id):
            raise InvalidValue("openml needs data.dataset=<name> or data.id=<number>, and not both.")
        if self.id and self.version:
            raise InvalidValue("data.version goes with data.dataset: a data.id already is of one version.")
        self.__dict__["weighted"] = bool(self.weights)  # the class says it for other data sets; here the instance does

    def load(self) -> Examples:
        """Return the rows in the table's order."""
        table = self._fetch(self.target or "default-target")
        targets, class_names = self._encode_targets(table.target)
        classes = targets if class_names else np.zeros(len(targets))
        rows = draw_subset(classes, self.n, self.random_state)
        features, weights = table.data, None
        if self.weights:
            if self.weights not in features:
                raise make_unknown(f"column of {self._label}:", self.weights, features.columns, "Its columns")
            if self.weights not in features.select_dtypes("number"):
                raise Incompatible(f"The column {self.weights!r} of {self._label} is not numeric, as weights must be.")
            weights = features[self.weights].to_numpy(np.float64)[rows]
            features = features.drop(columns=self.weights)
        # all rows are encoded, so that medians and categories do not depend on n
        return Examples(self._encode_features(features)[rows], targets[rows], class_names, weights=weights)

    @property
    def _label(self) -> str:
        version = f" version {self.version}" if self.version else ""
        return f"OpenML's data set {self.dataset or self.id}{version}"

    def _fetch(self, target: str | None) -> Any:
        from sklearn.datasets import fetch_openml

        key = {"data_id": self.id} if self.id else {"name": self.dataset, "version": self.version or "active"}
        home = get_data_folder(self.root)
        try:
            with _log_warnings():
                return fetch_openml(
                    **key, target_column=target, data_home=str(home), as_frame=True, parser=_choose_parser()
                )
        except KeyError:  # from scikit-learn, for a column that is not there
            if not self.target or target is None:
                raise
        except (OSError, HTTPException) as error:
            raise Unavailable(
                f"{self._label} is not in {home / 'openml'} and cannot be fetched: {error}. Load it once where there "
                f"is a network and copy that folder, or say by data.root or ${ROOT} where it lies."
            ) from error
        except ValueError as error:  # an unknown name, a wrong checksum, or data that scikit-learn cannot read
            raise Unavailable(f"{self._label} cannot be loaded: {error} See {SITE}/search?type=data.") from error
        # an unknown target: the table is read once more, without one, for the names of its columns
        raise make_unknown(f"column of {self._label}:", target, self._fetch(None).data.columns, "Its columns")

    def _encode_targets(self, target: "pd.Series[Any] | pd.DataFrame | None") -> tuple[Array, tuple[str, ...]]:
        """Return floats `[N, D]`, or class numbers `[N]` and the names of the classes."""
        import pandas as pd

        columns = pd.DataFrame(target)
        numbers = columns.select_dtypes("number")
        # 1. only numbers: regression
        if 0 < len(numbers.columns) == len(columns.columns):
            return numbers.to_numpy(np.float64), ()
        # 2. anything else: the classes of a single column
        if len(columns.columns) != 1:
            problem = f"has {len(columns.columns)} columns to predict" if len(columns.columns) else "names no target"
            raise Incompatible(f"{self._label} {problem}: choose one by data.target=<column>.")
        names, classes = np.unique(columns.iloc[:, 0].to_numpy(dtype=str), return_inverse=True)
        return classes.astype(np.int64), tuple(map(str, names))

    def _encode_features(self, features: "pd.DataFrame") -> Array:
        """Return `[N, D]`: numeric columns with medians for missing values, then categories one-hot."""
        from sklearn.compose import make_column_transformer
        from sklearn.impute import SimpleImputer
        from sklearn.preprocessing import OneHotEncoder

        numbers, categories = (list(features.select_dtypes(kind).columns) for kind in ("number", "category"))
        if not numbers and not categories:
            raise Incompatible(f"{self._label} has no numeric or categorical columns beside its target.")
        imputer = SimpleImputer(strategy="median", keep_empty_features=True)
        encoder = OneHotEncoder(max_categories=MOST_CATEGORIES, sparse_output=False, dtype=np.float32)
        transformer = make_column_transformer((imputer, numbers), (encoder, categories), sparse_threshold=0)
        inputs = transformer.fit_transform(features.astype(dict.fromkeys(numbers, np.float64)))
        return np.asarray(inputs, dtype=np.float32)


def _choose_parser() -> str:
    """Return `pandas`, which is faster, unless it reads categories such as 0 and 1 as numbers.

    In that case scikit-learn 1.9 with pandas 3.1 fails and removes the download:
    https://github.com/scikit-learn/scikit-learn/issues/34892
    """
    import pandas as pd

    categories = pd.read_csv(StringIO("1"), header=None, dtype="category")[0].cat.categories
    return "liac-arff" if pd.api.types.is_numeric_dtype(categories.dtype) else "pandas"


@contextmanager
def _log_warnings() -> Iterator[None]:
    """Log the warnings of scikit-learn (several versions, an inactive version, another try) instead."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(str(w.message) for w in caught):
        log.warning("%s", " ".join(text.split()))
