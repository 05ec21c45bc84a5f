"""Plug-in files are loaded before Hydra composes: what they define must be in its store by then."""

import re
from argparse import Namespace
from collections.abc import Iterator, Sequence

from omegaconf import OmegaConf

from lossbench import plugins
from lossbench.cli.hydra.compat import read_configs
from lossbench.cli.hydra.overrides import read
from lossbench.config.resolve import places
from lossbench.errors import InvalidValue


def without_plugins(arguments: Sequence[str]) -> list[str]:
    """Load what `plugins=[...]` names; the other arguments."""
    asked = [a for a in arguments if _sets("plugins", a)]
    plugins.load(place for text in asked for place in _typed(text))
    return [a for a in arguments if a not in asked]


def load_plugins(args: Namespace, configs: str) -> None:
    """Load what the command line names; if nothing, what its preset and its configuration file name themselves.

    configs: where our own configuration is. What these name in their defaults lists is not looked at.
    """
    if any(_sets("plugins", a) for a in args.overrides):
        without_plugins(args.overrides)
    elif experiments := [name for a in args.overrides if _sets("experiment", a) for name in _values(a)]:
        plugins.load(_written(args, configs, [f"experiment/{name}" for name in experiments]))
    elif args.config_name:
        plugins.load(_written(args, configs, [args.config_name]))


def _sets(name: str, text: str) -> bool:
    return re.match(rf"\+*{name}=", text) is not None


def _typed(text: str) -> list[str]:
    override = read(text)
    if override.is_sweep_override():
        raise InvalidValue(f"plugins is one list for all jobs, as in 'plugins=[a.py,b.py]'. Got {text!r} instead.")
    return places(override.value())


def _values(text: str) -> Iterator[str]:
    override = read(text)
    return override.sweep_string_iterator() if override.is_discrete_sweep() else iter([str(override.value())])


def _written(args: Namespace, configs: str, names: Sequence[str]) -> list[str]:
    """Return the plug-ins that files of Hydra's search path name."""
    plain = [OmegaConf.to_container(config) for config in read_configs(names, configs, args.config_dir)]
    return [place for one in plain if isinstance(one, dict) for place in places(one.get("plugins"))]
