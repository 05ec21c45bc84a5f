"""Two hundred random configurations: Hydra's overrides and a plain mapping make the same trials, or the same error."""

import random
from dataclasses import fields

import pytest
from hydra import compose, initialize_config_module
from hydra.errors import HydraException

from lossbench.cli.hydra.compat import compose_quickly
from lossbench.cli.hydra.hydra_errors import convert_hydra_error
from lossbench.cli.hydra.store import register_choices
from lossbench.config.presets import list_presets
from lossbench.config.resolve import complete, make_plan
from lossbench.config.schema import CHOICES, SETTINGS
from lossbench.errors import LossbenchError
from lossbench.registry import GROUPS, list_required
from tests.registered import built_in

N = 200
CHUNKS = 8
TASKS = ("regression", "binary", "multiclass", "multilabel", "boxes", "embedding", "ctc")
WRONG = {
    "split.test": 1.5,
    "optimizer.name": "adam",
    "seeds": 0,
    "head": "cosine",
    "epochs": "many",
    "clip.mode": "yes",
}
"""What is refused, with the same words by both."""
NUMBERS = {
    "epochs": (0.5, 3, 12.0),
    "batch_size": (16, 64),
    "evaluations": (2, 10),
    "lr": (0.01, [0.001, 0.01]),
    "validation": ("clean", "corrupted"),
    "precision": ("64", "32"),
    "split.test": (0.3,),
    "split.validation": (0.1,),
    "optimizer.name": ("sgd", "adamw"),
    "optimizer.momentum": (0.5,),
    "optimizer.beta1": (0.8,),
    "optimizer.weight_decay": (0.1, [0.0, 0.1]),
    "optimizer.warmup": (0.2,),
    "optimizer.schedule": ("constant",),
    "clip.mode": ("norm", "value"),
    "clip.threshold": (0.5, [0.1, 1.0]),
    "seeds": (2, [3, 7]),
    "rates": ([0.0], [0.3, 0.1]),
    "output": ("elsewhere",),
    "head": ("linear",),
    "protocol.seeds": (3,),
    "protocol.tuning_seeds": (4,),
}


def draw_choice(draw, group, task):
    """A name, or a mapping with the name and a changed number."""
    names = [*built_in(GROUPS[group], task), *(list_presets(group) if draw.random() < 0.2 else ())]
    name = draw.choice(names)
    kind = GROUPS[group].entries()[name].kind if name in GROUPS[group].entries() else None
    if kind is not None and list_required(kind):
        return "none" if group == "weighting" else draw_choice(draw, group, task)
    floats = [f for f in fields(kind) if isinstance(f.default, float)] if kind else []
    if not floats or draw.random() < 0.5:
        return name
    field = draw.choice(floats)
    return {"name": name, field.name: round(field.default * draw.choice([0.5, 1.0, 2.0]), 6)}


def draw_settings(draw):
    """What somebody might set, most of it valid."""
    task = draw.choice(TASKS)
    found = {"task": task} if task != "regression" or draw.random() < 0.5 else {}
    if draw.random() < 0.05:
        return {"experiment": draw.choice(["label_noise", "label_noise_table"])}
    for group, plural in (("loss", "losses"), ("weighting", "weightings"), ("corruption", "corruptions")):
        if draw.random() < 0.3:
            found[plural] = [draw_choice(draw, group, task) for _ in range(draw.choice([1, 2, 3]))]
        elif draw.random() < 0.4:
            found[group] = draw_choice(draw, group, task)
    if draw.random() < 0.15 and "losses" not in found and "loss" not in found:
        found["losses"] = "shortlist"
    for group in ("model", "data"):
        if draw.random() < 0.3:
            found[group] = draw_choice(draw, group, task)
    if draw.random() < 0.2:
        found["protocol"] = draw.choice(["tuned", "quick"])
    for path in draw.sample(sorted(NUMBERS), draw.choice([0, 1, 2, 4])):
        found[path] = draw.choice(NUMBERS[path])
    if draw.random() < 0.05:
        path = draw.choice(sorted(WRONG))
        found[path] = WRONG[path]
    return found


def written(value):
    """A value as it is typed."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{written(v)}" for k, v in value.items()) + "}"
    return f"[{','.join(map(written, value))}]" if isinstance(value, list) else str(value)


def overrides(settings):
    """The settings as arguments: a choice with fields is its name and a field each."""
    for key, value in settings.items():
        if key in GROUPS and isinstance(value, dict):
            yield f"{key}={value['name']}"
            yield from (f"{key}.{n}={written(v)}" for n, v in value.items() if n != "name")
        else:
            yield f"{key}={written(value)}"


def trials(settings):
    """All trials and what was skipped; of an error, its kind."""
    try:
        found = make_plan(settings)
    except LossbenchError as error:
        return type(error), str(error)
    parts = [(e.list_trials(), e.output) for e in found.experiments]
    return parts, found.protocol, [str(error) for error in found.skipped]


@pytest.fixture(scope="module")
def by_hydra():
    register_choices()

    def ask(settings):
        with initialize_config_module("lossbench.configs", version_base="1.3"), compose_quickly():
            try:
                composed = compose("config", overrides=list(overrides(settings)))
            except HydraException as error:  # a type that Hydra's schema refuses: the command line says it like this
                translated = convert_hydra_error(error, list(overrides(settings)))
                return type(translated), str(translated)
            return trials(composed)

    return ask


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_both_doors_lead_to_the_same_trials(chunk, by_hydra):
    draw = random.Random(chunk)
    failed = 0
    for _ in range(N // CHUNKS):
        settings = draw_settings(draw)
        mine, theirs = trials(settings), by_hydra(settings)
        assert mine == theirs, f"{settings} and {list(overrides(settings))}"
        failed += len(mine) == 2
    assert failed <= 0.7 * N // CHUNKS  # many are valid


@pytest.mark.parametrize("settings", [{}, {"task": "ctc", "protocol": "tuned"}, {"experiment": "label_noise"}])
def test_a_whole_configuration_comes_back_as_it_is(settings):
    found = complete(settings)
    assert complete(found) == found


def test_every_setting_can_be_given_by_its_path_or_in_mappings():
    for path, one in SETTINGS.items():
        nested = {one.group: {one.key: one.default}} if one.group else {one.key: one.default}
        assert complete({path: one.default}) == complete(nested)


def test_the_schema_has_the_registrys_groups():
    """It names them itself, as what it refuses is not to wait for torch, which the registry imports."""
    assert list(GROUPS) == list(CHOICES)
