"""Hydra's part of the command line: composing, and turning its errors into ours."""

import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lossbench.config import register_choices, resolve
from lossbench.config.experiment import GROUPS
from lossbench.config.store import DEFAULT
from lossbench.errors import InvalidValue, LossbenchError, UnknownName, unknown

CONFIGS = "pkg://lossbench.configs"


def run_hydra(arguments: Sequence[str]) -> int:
    """Compose the configuration and run it; in a sweep, every job, whatever becomes of the others."""
    register_choices()
    errors: list[LossbenchError] = []
    codes: list[int] = [0]

    @hydra.main(version_base="1.3", config_path=CONFIGS, config_name="config")
    def job(cfg: DictConfig) -> None:
        from lossbench.cli.run import run

        try:
            codes.append(run(resolve(cfg)))
        except LossbenchError as error:  # a job that raises would end Hydra's sweep with a traceback
            errors.append(error)
            if HydraConfig.get().mode == hydra.types.RunMode.MULTIRUN:
                print(f"lossbench: {error}", file=sys.stderr)

    _call(job, arguments)
    if len(errors) == 1 and len(codes) == 1:
        raise errors[0]
    return max([*codes, 2 if errors else 0])


def _call(job: object, arguments: Sequence[str]) -> None:
    kept, sys.argv = sys.argv, [sys.argv[0], *arguments]
    try:
        job()  # type: ignore[operator]
    except (HydraException, OmegaConfBaseException) as error:
        raise translated(error, arguments) from error
    finally:
        sys.argv = kept


def translated(error: Exception, arguments: Sequence[str]) -> LossbenchError:
    """Hydra's error as one of ours: what was given, what was wanted, the nearest valid choice."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_choice(error.missing_cfg_file, arguments)
    if found := re.search(r"Could not override '([^']+)'", str(error)):
        return _bad_override(found.group(1), error)
    if found := re.search(r"Key '([^']+)' is not in struct|Could not append.*'([^']+)'", str(error)):
        return UnknownName(f"Unknown setting {found.group(1) or found.group(2)!r}.")
    cause = error.__cause__ or error
    return InvalidValue(str(cause).splitlines()[0])


def _unknown_choice(path: str, arguments: Sequence[str]) -> LossbenchError:
    group, _, name = path.rpartition("/")
    name = name.removesuffix(".yaml")
    if group not in GROUPS:
        return InvalidValue(f"There is no {path!r} among the configurations.")
    task = next((a.split("=", 1)[1] for a in arguments if a.startswith("task=")), "regression")
    names = GROUPS[group]
    if group == "task" or task not in GROUPS["task"].entries():
        return unknown(names.word, name, names.entries(), names.group.capitalize())
    try:
        names.find(name, task)
    except UnknownName as error:
        return error
    return InvalidValue(f"There is no {path!r} among the configurations.")


def _bad_override(key: str, error: Exception) -> LossbenchError:
    cause = error.__cause__
    if cause is not None and "is not in struct" not in str(cause) and "not in" not in str(cause).splitlines()[0]:
        return InvalidValue(f"{key}: {str(cause).splitlines()[0]}")
    parent, _, field = key.rpartition(".")
    known = _known_keys(parent, cause)
    near = get_close_matches(field, known, n=1)
    hint = f" Did you mean {(parent + '.' if parent else '') + near[0]!r}?" if near else ""
    where = f"Fields of {parent}" if parent else "Settings"
    return UnknownName(f"Unknown setting {key!r}.{hint} {where}: {', '.join(known) or 'none'}.")


def _known_keys(parent: str, cause: BaseException | None) -> list[str]:
    node = getattr(cause, "parent_node", None)
    if isinstance(node, DictConfig):
        return sorted(str(k) for k in node if k != "name")
    return []


def choices_for_people(names: Sequence[str]) -> list[str]:
    """Without the nodes that only carry a task's default."""
    return [n for n in names if not n.endswith(DEFAULT)]
