"""From what was typed to experiments: defaults filled in, everything validated before anything is written."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from lossbench import registry
from lossbench.config.experiment import GROUPS, Experiment
from lossbench.config.schema import Schema
from lossbench.errors import Incompatible, InvalidValue, unknown
from lossbench.interfaces import Loss, Task
from lossbench.types import Choice, Head, Optimizer, Trial
from lossbench.validation import (
    check_below_one,
    check_between,
    check_count,
    check_nonnegative,
    check_positive,
    check_share,
)
from lossbench.versions import fingerprint

OPTIMIZERS, SCHEDULES, CLIPS = ("adamw", "sgd"), ("constant", "cosine"), ("none", "norm", "value", "per_tensor")


HERE = type("the experiment", (), {})()
"""Named in messages: The 'lr' parameter of the experiment must be ..."""


def resolve(cfg: DictConfig) -> tuple[Experiment, ...]:
    """One experiment per loss: `losses=` if given, else `loss=`. Raises `LossbenchError` for anything that is off."""
    plain = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    _check_known(plain)
    task = choice("task", plain["task"])
    listed = plain["losses"]
    if listed is not None and not listed:
        raise InvalidValue("losses=[] names no loss. Give at least one, for example losses=[mse,huber].")
    wanted = [plain["loss"]] if listed is None else [_listed(entry) for entry in listed]
    found = [_experiment(plain, task, choice("loss", w, task.name)) for w in wanted]
    return tuple(dict.fromkeys(found))


def _check_known(plain: dict[str, Any]) -> None:
    """What `+name=value` has added is no setting of ours."""
    defaults = Schema()
    for name, value in plain.items():
        known = [f.name for f in fields(Schema)]
        if name not in known:
            raise unknown("setting", name, known, "Settings")
        if is_dataclass(inside := getattr(defaults, name)):
            own = [f.name for f in fields(inside)]
            for key in value.keys() - own:
                raise unknown("setting", f"{name}.{key}", [f"{name}.{n}" for n in own], f"Fields of {name}")


def choice(group: str, given: Any, task: str | None = None) -> Choice:
    """A validated choice with only the fields that differ from the defaults, so that equal settings are equal."""
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, Mapping) or "name" not in given:
        raise InvalidValue(f"{group} must be a name, or a mapping with a name and fields. Got {given!r} instead.")
    given = dict(given)
    name = str(given.pop("name"))
    names = GROUPS[group]
    kind = names.find(name, task)
    _check_fits(names, name, kind, task)
    if missing := [n for n, v in given.items() if v == "???"]:
        raise InvalidValue(f"{group}={name} needs {' and '.join(f'{group}.{n}=<value>' for n in missing)}.")
    part = names.get(name, **given)
    return Choice.of(name, {n: _plain(getattr(part, n)) for n in given if _differs(kind, n, getattr(part, n))})


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _differs(kind: type, name: str, value: Any) -> bool:
    f = next(f for f in fields(kind) if f.name == name)
    default = f.default_factory() if f.default_factory is not MISSING else f.default
    return bool(default is MISSING or value != default)


def _listed(entry: Any) -> Any:
    """`huber`, `{name: huber, delta: 2}` or `{huber: {delta: 2}}`."""
    if isinstance(entry, Mapping) and "name" not in entry and len(entry) == 1:
        ((name, given),) = entry.items()
        return {"name": name, **(given or {})}
    return entry


def _experiment(plain: dict[str, Any], task: Choice, loss: Choice) -> Experiment:
    kind: Task = registry.tasks.build(task)
    parts: dict[str, Any] = {
        g: choice(g, plain[g], task.name) for g in ("data", "model", "weighting", "corruption")
    } | {"loss": loss}
    _check_coupling(parts["loss"], parts["weighting"])
    metric = _metric(plain["metric"], kind, task.name)
    used = ((GROUPS[g].group, c) for g, c in (*parts.items(), ("task", task)))
    template = Trial(
        task=task,
        **parts,
        head=_head(plain["head"], registry.losses.build(loss), kind, loss, task.name),
        rate=0.0,
        seed=0,
        optimizer=_optimizer(plain, kind),
        **_numbers(plain, kind),
        metric=metric,
        fingerprint=fingerprint(*used, ("metrics", Choice(metric))),
    )
    return Experiment(
        template, _seeds(plain["seeds"]), _rates(plain["rates"], parts["corruption"]), Path(plain["output"])
    )


def _check_fits(names: registry.Registry[Any], name: str, kind: type, task: str | None) -> None:
    if task is None or registry.fits_task(kind, task):
        return
    raise Incompatible(
        f"The {names.word} {name!r} is for {' and '.join(getattr(kind, 'tasks', ()))}, not for task={task}. "
        f"{names.group.capitalize()} for {task}: {', '.join(names.names(task)) or 'none'}."
    )


def _check_coupling(loss: Choice, weighting: Choice) -> None:
    if registry.losses.build(loss).coupled and registry.weightings.build(weighting).per_example:
        raise Incompatible(
            f"weighting={weighting.name} weighs single examples, and loss={loss.name} gives one value for a whole "
            "batch. Use weighting=none, or a loss that is not coupled."
        )


def _head(asked: str | None, loss: Loss, task: Task, choice: Choice, task_name: str) -> str:
    if asked is None:
        return str(loss.head)
    heads = [str(h) for h in task.heads]
    if asked not in heads:
        raise unknown("head", asked, heads, f"Heads of {task_name}")
    reads_only_its_own = loss.head in (Head.MEAN_SCALE, Head.EMBEDDING)  # others can take means for values
    if asked != loss.head and (reads_only_its_own or asked == Head.EMBEDDING):
        raise Incompatible(f"loss={choice.name} needs head={loss.head}; it cannot read the outputs of head={asked}.")
    return asked


def _metric(asked: str | None, task: Task, task_name: str) -> str:
    if asked is None:
        return task.metrics[0]
    _check_fits(registry.metrics, asked, registry.metrics.find(asked, task_name), task_name)
    return asked


def _optimizer(plain: dict[str, Any], task: Task) -> Optimizer:
    given, clip = dict(plain["optimizer"]), plain["clip"]
    lr = task.settings["lr"] if plain["lr"] is None else plain["lr"]
    check_positive(HERE, lr=lr, **{"optimizer.eps": given["eps"], "clip.threshold": clip["threshold"]})
    _check_value("optimizer.name", given["name"], OPTIMIZERS)
    _check_value("optimizer.schedule", given["schedule"], SCHEDULES)
    _check_value("clip.mode", clip["mode"], CLIPS)
    check_nonnegative(HERE, **{"optimizer.weight_decay": given["weight_decay"]})
    check_share(HERE, **{"optimizer.warmup": given["warmup"]})
    check_below_one(HERE, **{f"optimizer.{n}": given[n] for n in ("momentum", "beta1", "beta2")})
    betas = (given.pop("beta1"), given.pop("beta2"))
    made = Optimizer(lr=lr, betas=betas, clip_mode=clip["mode"], clip=clip["threshold"], **given)
    return _without_the_unused(made)


def _without_the_unused(given: Optimizer) -> Optimizer:
    """What does not act is set to its default, so that equal trainings are equal settings."""
    plain = Optimizer()
    unused = [*(("betas", "eps") if given.name == "sgd" else ("momentum",))]
    unused += ["clip"] if given.clip_mode == "none" else []
    return replace(given, **{name: getattr(plain, name) for name in unused})


def _check_value(setting: str, given: str, allowed: Sequence[str]) -> None:
    if given not in allowed:
        raise unknown(setting, given, allowed, "Its values")


def _numbers(plain: dict[str, Any], task: Task) -> dict[str, Any]:
    epochs = task.settings["epochs"] if plain["epochs"] is None else plain["epochs"]
    batch_size = int(task.settings["batch_size"]) if plain["batch_size"] is None else plain["batch_size"]
    check_positive(HERE, epochs=epochs)
    check_count(HERE, batch_size=batch_size, evaluations=plain["evaluations"])
    check_between(HERE, 0, 1, **{f"split.{n}": v for n, v in plain["split"].items()})
    _check_value("validation", plain["validation"], ("corrupted", "clean"))
    _check_value("precision", plain["precision"], ("32", "bf16", "64"))
    return {
        "epochs": float(epochs),
        "batch_size": batch_size,
        "evaluations": plain["evaluations"],
        "validation": plain["validation"],
        "precision": plain["precision"],
        "split_test": plain["split"]["test"],
        "split_validation": plain["split"]["validation"],
    }


def _seeds(given: Any) -> tuple[int, ...]:
    if isinstance(given, bool) or not isinstance(given, int | Sequence) or isinstance(given, str):
        raise InvalidValue(f"seeds must be a number of seeds, or a list such as [3,7]. Got {given!r} instead.")
    seeds = range(given) if isinstance(given, int) else given
    if not len(seeds) or any(isinstance(s, bool) or not isinstance(s, int) or s < 0 for s in seeds):
        raise InvalidValue(f"seeds must be a number from 1, or a list of whole numbers from 0. Got {given!r} instead.")
    return tuple(dict.fromkeys(seeds))


def _rates(given: Sequence[float], corruption: Choice) -> tuple[float, ...]:
    if not given:
        raise InvalidValue("rates=[] asks for nothing. Give at least one, for example rates=[0,0.2].")
    for rate in given:
        check_share(HERE, rates=rate)
    if corruption.name == "none":
        return (0.0,)
    return tuple(sorted(set(map(float, given))))
