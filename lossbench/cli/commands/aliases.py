"""What is called otherwise elsewhere: our names for what other libraries call or write so."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from lossbench.registry import Registry


def find_registered_names(names: Registry[Any], name: str) -> list[str]:
    """Our names for what is spelt so here, then for what is called so elsewhere."""
    every = sorted(names.entries())
    spelt = [own for own in every if _bare(name) == _bare(own)]
    called = [own for own in every if _bare(_last(name)) in _names_elsewhere(names.find(own))]
    return list(dict.fromkeys([*spelt, *called]))


def format_hint(names: Registry[Any], name: str, fitting: Sequence[str]) -> str:
    """The same for a message, those that fit the task first; empty if there is none."""
    found = find_registered_names(names, name)
    if not found:
        return ""
    own = min(found, key=lambda one: one not in fitting)
    if _bare(name) == _bare(own):
        return f" Did you mean {own!r}?{'' if own in fitting else ' (That is for another task.)'}"
    return f" Here that is {own!r}.{'' if own in fitting else ' (It is for another task.)'}"


def format_nearest(name: str, fitting: Iterable[str], others: Iterable[str]) -> str:
    """The name that is spelt most alike, for a message; empty if none is near."""
    for names in (fitting, others):
        if near := get_close_matches(name, sorted(names), n=1):
            return f" Did you mean {near[0]!r}?{'' if names is fitting else ' (That is for another task.)'}"
    return ""


def _names_elsewhere(kind: type) -> set[str]:
    """`torch.nn.BCEWithLogitsLoss` and `pinball loss` as one may type them; no multiples of another loss."""
    called = [text for text in getattr(kind, "aliases", ()) if not re.search(r"\) [*/]", text)]
    told = [re.split(r"[(,:]| of | [*/]", text)[0].strip() for text in called]
    return {_bare(text if " " in text else _last(text)) for text in told}


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower()).removesuffix("loss")
