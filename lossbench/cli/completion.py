"""What a shell's completion offers: Hydra's answers, with the choices of a group as they are typed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.object_type import ObjectType

from lossbench.config.experiment import GROUPS
from lossbench.config.presets import of_libraries


@contextmanager
def as_typed() -> Iterator[None]:
    """Hydra offers `loss/timm=zlpr` and `loss/default=binary`: one is typed `loss=timm/zlpr`, the other never is.

    Folders below a group are no groups then, and what lies in those of libraries are choices of the group.
    """
    plain = ConfigLoaderImpl.get_group_options

    def options(self: ConfigLoaderImpl, group_name: str, *args: Any, **given: Any) -> list[str]:
        found = plain(self, group_name, *args, **given)
        if group_name not in GROUPS:
            return found
        return [] if ObjectType.GROUP in (*args, *given.values()) else sorted([*found, *of_libraries(group_name)])

    ConfigLoaderImpl.get_group_options = options  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.get_group_options = plain  # type: ignore[method-assign]
