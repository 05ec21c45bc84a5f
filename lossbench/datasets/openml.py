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

from lossbench.datasets.downloads import ROOT, data_folder
from lossbench.datasets.subsets import subset
from lossbench.errors import Incompatible, InvalidValue, Unavailable, make_unknown
from lossbench.interfaces import Dataset
from lossbench.types import Array, Examples
from lossbench.validation import check_count

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("lossbench")

SITE = "https://www.openml.org"
MOST_CATEGORIES = 100
"""Columns that one categorical feature becomes, at most: the rarest categories share the last."""


@dataclass(frozen=True)
class OpenML(Dataset):
    """A table of OpenML, by its name or its number: `data.dataset=adult` or `data.id=1590`.

    inputs `[N, D]`: numeric columns as they are, a missing value being the median of its column over all rows; then
    categorical ones as 0 and 1 per category, missing being a category of its own, and the rarest sharing one from the
    100th on. Columns of free text or dates are left out, as are those that OpenML marks as row numbers or as to be
    ignored. targets: of a numeric column `[N, 1]` (`[N, D]` of several) for regression; else `[N]` class numbers in
    alphabetical order, so that in a binary task the positive class is the later one.

    dataset, id: one of them. version: of that name; 0 for the oldest that is active.
    target: the column to predict; by default the one that OpenML names.
    weights: the column that says how much each row counts, for `weighting=sample`; it is then no input.
    n: this many rows, drawn by `random_state`, in proportion to the classes if there are any; 0 for all.
    root: the folder of the data, by default `$LOSSBENCH_DATA`, else `~/.local/share/lossbench`. What is there is not
        downloaded again.

    Raises `Unavailable` for what OpenML does not have, or where there is neither the data nor a network, `UnknownName`
    for a column, `Incompatible` without one target or any features or for weights that are no numbers, `InvalidValue`
    if there are fewer rows than `n`.
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
        self.__dict__["weighted"] = bool(self.weights)  # a class fact of other data sets

    def load(self) -> Examples:
        """The rows, in the table's order."""
        table = self._table(self.target or "default-target")
        targets, class_names = self._targets(table.target)
        classes = targets if class_names else np.zeros(len(targets))
        rows = subset(classes, self.n, self.random_state)
        features, weights = self._without_weights(table.data)
        weights = None if weights is None else weights[rows]
        return Examples(self._inputs(features)[rows], targets[rows], class_names, weights=weights)

    def _without_weights(self, features: "pd.DataFrame") -> "tuple[pd.DataFrame, Array | None]":
        if not self.weights:
            return features, None
        if self.weights not in features:
            raise make_unknown(f"column of {self._label}:", self.weights, features.columns, "Its columns")
        if self.weights not in features.select_dtypes("number"):
            raise Incompatible(f"The column {self.weights!r} of {self._label} is not numeric, as weights must be.")
        return features.drop(columns=self.weights), features[self.weights].to_numpy(np.float64)

    @property
    def _label(self) -> str:
        version = f" version {self.version}" if self.version else ""
        return f"OpenML's data set {self.dataset or self.id}{version}"

    def _table(self, target: str | None) -> Any:
        from sklearn.datasets import fetch_openml

        which = {"data_id": self.id} if self.id else {"name": self.dataset, "version": self.version or "active"}
        home = data_folder(self.root)
        try:
            with _warnings_logged():
                return fetch_openml(**which, target_column=target, data_home=str(home), as_frame=True, parser=_parser())
        except KeyError:
            if not self.target or target is None:
                raise
        except (OSError, HTTPException) as error:
            raise Unavailable(
                f"{self._label} is not in {home / 'openml'} and cannot be fetched: {error}. Load it once where there "
                f"is a network and copy that folder, or say by data.root or ${ROOT} where it lies."
            ) from error
        except ValueError as error:  # a name, a checksum, or something that scikit-learn does not read
            raise Unavailable(f"{self._label} cannot be loaded: {error} See {SITE}/search?type=data.") from error
        raise make_unknown(f"column of {self._label}:", target, self._table(None).data.columns, "Its columns")

    def _targets(self, target: "pd.Series[Any] | pd.DataFrame | None") -> tuple[Array, tuple[str, ...]]:
        """Floats `[N, D]`, or class numbers `[N]` and their names."""
        import pandas as pd

        columns = pd.DataFrame(target)
        numbers = columns.select_dtypes("number")
        if 0 < len(numbers.columns) == len(columns.columns):
            return numbers.to_numpy(np.float64), ()
        if len(columns.columns) != 1:
            found = f"has {len(columns.columns)} columns to predict" if len(columns.columns) else "names no target"
            raise Incompatible(f"{self._label} {found}: choose one by data.target=<column>.")
        names, classes = np.unique(columns.iloc[:, 0].to_numpy(dtype=str), return_inverse=True)
        return classes.astype(np.int64), tuple(map(str, names))

    def _inputs(self, features: "pd.DataFrame") -> Array:
        from sklearn.compose import make_column_transformer
        from sklearn.impute import SimpleImputer
        from sklearn.preprocessing import OneHotEncoder

        numbers, categories = (list(features.select_dtypes(kind).columns) for kind in ("number", "category"))
        if not numbers and not categories:
            raise Incompatible(f"{self._label} has no numeric or categorical columns beside its target.")
        filled = SimpleImputer(strategy="median", keep_empty_features=True)
        indicators = OneHotEncoder(max_categories=MOST_CATEGORIES, sparse_output=False, dtype=np.float32)
        columns = make_column_transformer((filled, numbers), (indicators, categories), sparse_threshold=0)
        inputs = columns.fit_transform(features.astype(dict.fromkeys(numbers, np.float64)))
        return np.asarray(inputs, dtype=np.float32)


def _parser() -> str:
    """`pandas`, which is faster, unless it reads categories such as 0 and 1 as numbers.

    scikit-learn 1.9 with pandas 3.1 then fails, and removes what was downloaded:
    https://github.com/scikit-learn/scikit-learn/issues/34892
    """
    import pandas as pd

    categories = pd.read_csv(StringIO("1"), header=None, dtype="category")[0].cat.categories
    return "liac-arff" if pd.api.types.is_numeric_dtype(categories.dtype) else "pandas"


@contextmanager
def _warnings_logged() -> Iterator[None]:
    """What scikit-learn warns of (several versions, an inactive one, another try) as lines of our log."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(str(w.message) for w in caught):
        log.warning("%s", " ".join(text.split()))
