"""All use of Hydra's private modules, each with its reason. Tested with Hydra 1.3.8; pyproject.toml allows 1.3.5 on."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.utils import _run_hydra, create_automatic_config_search_path, get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.types import TaskFunction
from omegaconf import DictConfig

from lossbench.config.schema import CHOICES

BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
"""Hydra's own sweeper, as configurations name it: it ends a sweep at the first error."""


def make_parser() -> ArgumentParser:
    """Return the parser of Hydra's command line: `hydra.main` would read `sys.argv` itself and print its usage."""
    return get_args_parser()


def run_application(parser: ArgumentParser, args: Namespace, task: TaskFunction, configs: str) -> None:
    """Run what was parsed: the part of `hydra.main` that comes after parsing."""
    _run_hydra(args=args, args_parser=parser, task_function=task, config_path=configs, config_name="config")


def read_configs(names: Sequence[str], configs: str, folder: str | None) -> list[DictConfig]:
    """Return the files of the search path by themselves: what their defaults lists name may not exist yet.

    Hydra's public functions compose, which follows those lists.
    """
    path = create_automatic_config_search_path(None, None, configs)
    if folder is not None:
        path.prepend("command-line", f"file://{Path(folder).absolute()}")
    results = (ConfigRepository(path).load_config(name) for name in names)
    return [cast(DictConfig, result.config) for result in results if result]


@contextmanager
def compose_quickly() -> Iterator[None]:
    """Compose each job once and without a copy of Hydra's store, in a third of the time.

    Hydra's sweepers compose a job to see whether they can, and the launcher composes it again: here the launcher gets
    the first result. Each composition also copies the whole store, although what is loaded from it is a copy already.
    """
    original, composed = ConfigLoaderImpl.load_sweep_config, dict[tuple[int | str, ...], DictConfig]()

    def compose_once(self: ConfigLoaderImpl, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        key: tuple[int | str, ...] = (id(master_config), *sweep_overrides)
        if key in composed:
            return composed.pop(key)  # the second call is the last
        composed[key] = original(self, master_config, sweep_overrides)
        return composed[key]

    ConfigLoaderImpl.load_sweep_config = compose_once  # type: ignore[method-assign]
    ConfigStore.__deepcopy__ = lambda store, _: store  # type: ignore[attr-defined]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_sweep_config = original  # type: ignore[method-assign]
        del ConfigStore.__deepcopy__  # type: ignore[attr-defined]


@contextmanager
def complete_as_typed() -> Iterator[None]:
    """Let a shell's completion offer choices as they are typed.

    Hydra offers `loss/timm=zlpr` and `loss/default=binary`. People type `loss=timm/zlpr`, and never the second. So
    folders below a group are not offered as groups, and the presets in library folders are choices of the group.
    """
    from lossbench.config.presets import list_library_presets  # asks the registry, which imports torch

    original = ConfigLoaderImpl.get_group_options

    def list_options(self: ConfigLoaderImpl, group_name: str, *args: Any, **kwargs: Any) -> list[str]:
        options = original(self, group_name, *args, **kwargs)
        if group_name not in CHOICES:
            return options
        is_group = ObjectType.GROUP in (*args, *kwargs.values())
        return [] if is_group else sorted([*options, *list_library_presets(group_name)])

    ConfigLoaderImpl.get_group_options = list_options  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.get_group_options = original  # type: ignore[method-assign]
