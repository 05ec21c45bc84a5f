"""The folders of boards: each keeps its name, and says in a file which board it is."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lossbench.report.tensorboard.boards import Board, Settings, format_value, safe_name
from lossbench.seeds import stable_hash

MARK = "study.json"
"""Holds the settings of the board in whose folder it is."""
ALPHABET, SORTED = "(0123456789abcdefghijklmnopqrstuvwxyz", 7
N_RANKS = len(ALPHABET) + 1
SPAN = 1e6
"""Seconds over which the letters are spread: times of today are exact to 2e-7."""


def place_board(tree: Path, board: Board) -> Path:
    """Find the board's folder below `tree`, or make one that is named for what is told apart by it.

    A folder keeps its name, whatever comes later: a running TensorBoard would lose it.
    """
    home = tree / safe_name(str(board.settings.get("task", "task")))
    known = {mark.parent.name: found for mark in sorted(home.glob(f"*/{MARK}")) if (found := _read(mark)) is not None}
    for name, settings in known.items():
        if settings == board.settings:
            return home / name
    folder = home / _new_name(board.settings, known)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{MARK}"
    temporary.write_text(json.dumps(board.settings, indent=1), "utf-8")
    os.replace(temporary, folder / MARK)
    return folder


def find_start(folder: Path, name: str = "") -> float:
    """Return a run's start in seconds since 1970: TensorBoard lists by it, so that it has to go by name.

    It goes by the first letters, which do not change with what other runs there are.
    """
    letters = (name.lower() + " " * SORTED)[:SORTED]
    place = sum((1 + ALPHABET.find(letter)) / N_RANKS ** (at + 1) for at, letter in enumerate(letters))
    return (folder / MARK).stat().st_mtime - SPAN * (1 - place)


def _new_name(settings: Mapping[str, Any], known: Mapping[str, Settings]) -> str:
    """Data and model, and whatever is not as on the boards that share them."""
    base = {name: settings.get(name) for name in ("data", "model")}
    alike = [other for other in known.values() if all(other.get(n) == v for n, v in base.items())]
    differing = [n for n, v in settings.items() if any(other.get(n) != v for other in alike)]
    parts = ["-".join(str(v) for v in base.values()), *(f"{n}={format_value(settings[n])}" for n in differing)]
    name = safe_name(",".join(parts)).replace(" ", "_")
    return name if name not in known else f"{name}-{stable_hash(dict(settings))[:6]}"


def _read(mark: Path) -> Settings | None:
    try:
        return dict(json.loads(mark.read_text("utf-8")))
    except (OSError, ValueError, TypeError):  # damaged, or taken away meanwhile: that folder is nobody's
        return None
