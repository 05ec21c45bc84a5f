"""Hydra's part of the command line: its store of choices, and one job, or all jobs of a sweep."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import MISSING, Field, field, fields, is_dataclass, make_dataclass
from enum import Enum
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from types import NoneType
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from hydra import version
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from lossbench import registry
from lossbench.cli.hydra import overrides
from lossbench.cli.hydra.compat import complete_as_typed, compose_quickly, make_parser, run_application
from lossbench.cli.output import Mode
from lossbench.config.schema import Schema
from lossbench.errors import InvalidValue, LossbenchError
from lossbench.registry import GROUPS

if TYPE_CHECKING:
    from lossbench.cli.hydra.jobs import Jobs


DEFAULT = "default"
"""`loss: default/${task}` in config.yaml picks the task's own default: a folder below, which no glob or list shows."""


def register_choices() -> None:
    """Put the schema and every registered name into Hydra's store."""
    ConfigStore.instance().store(name="schema", node=Schema)
    for group, names in GROUPS.items():
        for name, entry in names.entries().items():
            _store(group, name, name, entry.kind)
    for task, entry in registry.tasks.entries().items():
        for group, name in entry.kind.defaults.items():
            known = GROUPS[group].entries()
            if name in known:
                _store(f"{group}/{DEFAULT}", task, name, known[name].kind)


_stored: dict[tuple[str, str], tuple[str, type]] = {}
"""By group and name in Hydra's store, what its node was made from: to make all anew takes half a second."""


def _store(group: str, called: str, name: str, kind: type) -> None:
    """Store a node, unless it is there."""
    store = ConfigStore.instance()
    place = reduce(lambda folder, part: folder.get(part, {}), group.split("/"), store.repo)
    if _stored.get((group, called)) != (name, kind) or f"{called}.yaml" not in place:
        store.store(group=group, name=called, node=node(name, kind))
        _stored[group, called] = name, kind


def node(name: str, kind: type) -> Any:
    """A writable, typed config node: the name, then the fields of the class."""
    hints = registry.hints(kind)
    own = fields(kind) if is_dataclass(kind) else ()
    columns = [("name", str, field(default=name)), *((f.name, _type(hints.get(f.name, Any)), _default(f)) for f in own)]
    try:
        made = OmegaConf.structured(make_dataclass(kind.__name__, columns))
    except Exception:  # OmegaConf refuses Literal, unions and tuples in several ways: such fields are left untyped
        loose = [(n, t if t in (str, int, float, bool) else Any, d) for n, t, d in columns]
        made = OmegaConf.structured(make_dataclass(kind.__name__, loose))
    for key in made:
        if not OmegaConf.is_missing(made, key) and OmegaConf.is_dict(made[key]):
            OmegaConf.set_struct(made[key], False)  # a field that is a mapping takes any keys: loss.params.delta=2
    return made


def _type(hint: Any) -> Any:
    # OmegaConf matches enums by member name; people write values, which the registry converts
    kinds = get_args(hint) or (hint,)
    if not any(isinstance(kind, type) and issubclass(kind, Enum) for kind in kinds):
        return hint
    return str | None if NoneType in kinds else str


def _default(f: "Field[Any]") -> Any:
    if f.default_factory is not MISSING:
        return field(default_factory=f.default_factory)
    if f.default is MISSING:
        return field(default="???")  # OmegaConf's mark of a value that must be given
    return field(default=f.default.value if isinstance(f.default, Enum) else f.default)


CONFIGS = "pkg://lossbench.configs"


def run_hydra(arguments: Sequence[str], mode: Mode = Mode.TABLE) -> int:
    """Compose the configuration and run it; the exit code."""
    parser = make_parser()
    parser.error = _refuse  # type: ignore[method-assign]  # argparse would print its usage and exit
    args = parser.parse_intermixed_args(arguments)
    trains = not (args.cfg or args.info or args.hydra_help or args.shell_completion)
    if mode is Mode.JSON and not trains:
        raise InvalidValue("--json goes with experiments and lists: what Hydra prints is no JSON.")
    overrides.check(args.overrides, sweep=args.multirun)
    from lossbench.cli.hydra.jobs import Jobs  # imports torch, for which what is refused above need not wait

    jobs = Jobs(list(args.overrides), mode)
    with _in_full(), TemporaryDirectory(prefix="lossbench-sweep-") as folder:
        if trains:  # Hydra wants a folder for a sweep; our records have theirs
            args.overrides = [f"hydra.sweep.dir={folder}", *args.overrides]
        version.setbase("1.3")
        _run(parser, args, jobs)
    return jobs.finish() if trains else 0


def _run(parser: ArgumentParser, args: Namespace, jobs: "Jobs") -> None:
    from lossbench.cli.hydra.overrides import load_plugins
    from lossbench.cli.hydra.translation import translate
    from lossbench.config.presets import add_folder

    try:
        load_plugins(args, CONFIGS)
        register_choices()
        if args.config_dir:
            add_folder(Path(args.config_dir))
        with compose_quickly(), complete_as_typed() if args.shell_completion else nullcontext():
            run_application(parser, args, jobs, CONFIGS)
    except BrokenPipeError:
        raise
    except Exception as error:
        if any(job.error is error for job in jobs.jobs):
            return  # a sweeper has given up; what it was is told with the other jobs
        if isinstance(error, LossbenchError) or jobs.sent:
            raise
        raise translate(error, jobs.arguments) from error  # jobs raise nothing, so it is about what was typed


def _refuse(message: str) -> NoReturn:
    raise InvalidValue(f"{message[:1].upper()}{message[1:]}. See lossbench --help and --hydra-help.")


@contextmanager
def _in_full() -> Iterator[None]:
    # without it Hydra prints its own short errors and exits with 1; ours are shorter, and exit with 2
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before
