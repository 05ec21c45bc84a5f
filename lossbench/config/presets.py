"""Presets: YAML files of a group that are no registered names, read as Hydra would."""

from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.types import RunMode
from omegaconf import OmegaConf


def of_libraries(group: str) -> list[str]:
    """Names of the presets in folders of a group, each a library: `timm/asymmetric`."""
    folder = files("lossbench.configs") / group
    libraries = [entry for entry in folder.iterdir() if entry.is_dir()]
    return sorted(f"{library.name}/{Path(f.name).stem}" for library in libraries for f in library.iterdir())


def preset(group: str, name: str) -> dict[str, Any] | None:
    """The fields of a preset, its name among them; None if there is none of this name, or no Hydra to ask."""
    if not GlobalHydra.instance().is_initialized():
        return None
    loader = GlobalHydra.instance().config_loader()
    folder, _, own = f"{group}/{name}".rpartition("/")
    if own not in loader.get_group_options(folder, ObjectType.CONFIG):
        return None
    composed = loader.load_configuration(None, [f"+{group}={name}"], RunMode.RUN)
    return cast(dict[str, Any], OmegaConf.to_container(composed[group], resolve=True))
