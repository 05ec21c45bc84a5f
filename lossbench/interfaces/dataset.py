"""A data set: where examples come from."""

from abc import ABC, abstractmethod
from typing import ClassVar

from lossbench.types import Examples


class Dataset(ABC):
    """Gives all examples of a data set. A frozen dataclass, as losses are."""

    tasks: ClassVar[tuple[str, ...]]
    """Tasks that its targets fit."""
    source: ClassVar[str] = ""
    """Where it comes from, and under which licence."""
    public: ClassVar[bool] = False
    """Whether its files are downloaded, or read where they lie: a field `root` says where."""
    weighted: ClassVar[bool] = False
    """Whether its examples come with weights, which `weighting=sample` takes."""

    @abstractmethod
    def load(self) -> Examples:
        """All examples; the same at every call."""
