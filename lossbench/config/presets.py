"""Presets: YAML files of a group that are no registered names, read as Hydra would."""

import re
from typing import Any, cast

from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.types import RunMode
from omegaconf import OmegaConf

from lossbench.config.packages import packages


def of_libraries(group: str) -> list[str]:
    """Names of the presets in folders of a group, each a library: `timm/asymmetric`."""
    configs = [config for package in packages() for config in package.configs]
    return sorted(config.removeprefix(f"{group}/") for config in configs if re.match(f"{group}/[^/]+/", config))


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
