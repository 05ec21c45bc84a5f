"""What a setting is: written once, as metadata of a field of `Trial` or `Optimizer`.

The configuration's schema, its validation, the columns of records, the keys of comparisons and the reference page all
follow from it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

KEY = "setting"
"""Where a field's metadata holds it."""


@dataclass(frozen=True)
class Setting:
    """How one number or word of a trial is set, checked, recorded and described."""

    name: str  # the field's
    path: str  # as it is typed: optimizer.weight_decay
    default: Any  # None: the task's or the loss's own
    text: str  # one line for people
    type: type
    check: Callable[..., None] | None = None  # called as check(owner, **{path: value})
    options: tuple[str, ...] = ()  # words that it may be
    listed: bool = False  # replicas of a stack may differ in it, so it takes a list
    column: str = ""  # of trials.parquet

    @property
    def group(self) -> str:
        """The mapping of the configuration that holds it; empty at the top."""
        return self.path.rpartition(".")[0]

    @property
    def key(self) -> str:
        """Its name in that mapping."""
        return self.path.rpartition(".")[2]

    def read(self, config: Mapping[str, Any]) -> Any:
        """Return its value in a complete configuration."""
        return (config[self.group] if self.group else config)[self.key]


def setting(
    path: str,
    text: str,
    *,
    default: Any = MISSING,
    unset: Any = MISSING,
    check: Callable[..., None] | None = None,
    options: tuple[str, ...] = (),
    listed: bool = False,
    column: str = "",
) -> Any:
    """Return a dataclass field that is a setting.

    default: of the field, and of the configuration unless `unset` gives that another one (None: the task's own).
    """
    facts = {"path": path, "text": text, "check": check, "options": options, "listed": listed, "column": column}
    facts["default"] = default if unset is MISSING else unset
    return field(default=default, metadata={KEY: facts})


def settings_of(kind: Any) -> tuple[Setting, ...]:
    """Return the settings among the fields of a dataclass, in their order."""
    return tuple(_setting_of(f) for f in fields(kind) if KEY in f.metadata)


def _setting_of(f: "Field[Any]") -> Setting:
    facts = dict(f.metadata[KEY])
    facts["column"] = facts["column"] or f.name
    assert isinstance(f.type, type)  # these classes are annotated with plain types
    return Setting(name=f.name, type=f.type, **facts)


def record_columns(owner: Any) -> Iterator[tuple[str, Any]]:
    """Yield the columns of `trials.parquet` that hold an instance's settings, with its values."""
    for one in settings_of(owner):
        yield one.column, getattr(owner, one.name)
