"""Names of other libraries: the registered name for `BCEWithLogitsLoss`, `torch.nn.HuberLoss` or `pinball loss`."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from lossbench.registry import Registry

ELSEWHERE = " (That is for another task.)"


def find_registered_names(registry: Registry[Any], name: str) -> list[str]:
    """Return the registered names that are spelt like `name`, then those of which it is an alias."""
    spelt, known = [], []
    for registered, entry in sorted(registry.entries().items()):
        if _normalise(name) == _normalise(registered):
            spelt.append(registered)
        elif _normalise(_drop_module(name)) in _normalise_aliases(entry.kind):
            known.append(registered)
    return [*spelt, *known]


def format_hint(registry: Registry[Any], name: str, fitting: Sequence[str]) -> str:
    """Return a sentence with the registered name for `name`, preferably one for the task; empty if there is none."""
    names = find_registered_names(registry, name)
    if not names:
        return ""
    best = min(names, key=lambda candidate: candidate not in fitting)
    other_task = "" if best in fitting else ELSEWHERE
    if _normalise(name) == _normalise(best):
        return f" Did you mean {best!r}?{other_task}"
    return f" Its name in lossbench is {best!r}.{other_task}"


def format_nearest(name: str, fitting: Iterable[str], others: Iterable[str]) -> str:
    """Return a sentence with the name that is spelt most alike; empty if none is near."""
    for names in (fitting, others):
        if near := get_close_matches(name, sorted(names), n=1):
            return f" Did you mean {near[0]!r}?{'' if names is fitting else ELSEWHERE}"
    return ""


def _normalise_aliases(kind: type) -> set[str]:
    """Return a class's aliases as one may type them, so that spellings compare."""
    found = set()
    for alias in getattr(kind, "aliases", ()):
        if re.search(r"\) [*/]", alias):
            continue  # a multiple of another loss, as in `HuberLoss(delta) / delta`, is not that loss
        name = re.split(r"[(,:]| of | [*/]", alias)[0].strip()  # without arguments and remarks
        found.add(_normalise(name if " " in name else _drop_module(name)))
    return found


def _drop_module(name: str) -> str:
    return name.rpartition(".")[2]


def _normalise(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower()).removesuffix("loss")
