"""The interface of data sets."""

from abc import ABC, abstractmethod
from typing import ClassVar

from lossbench.types import Examples


class Dataset(ABC):
    """Gives all examples of a data set. A frozen dataclass, as losses are."""

    tasks: ClassVar[tuple[str, ...]]
    """Tasks that its targets fit."""
    source: ClassVar[str] = ""
    """Its origin and licence."""
    public: ClassVar[bool] = False
    """True if its files are downloaded, or read from the folder that a field `root` names."""
    weighted: ClassVar[bool] = False
    """True if its examples come with weights, which `weighting=sample` takes."""

    @abstractmethod
    def load(self) -> Examples:
        """Return all examples, the same at every call."""
