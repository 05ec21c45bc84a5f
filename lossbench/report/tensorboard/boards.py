"""What TensorBoard shows side by side: a board per comparison, with a run per loss, and the folders of both."""

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossbench.analysis import Summary
from lossbench.analysis.comparison import LOSS_SETTINGS
from lossbench.seeds import hash_values

LETTERS = 100
Settings = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One loss with its weighting: a summary for each corruption and rate.

    name: the loss and its weighting, with head and learning rate only where they tell runs apart.
    """

    name: str
    cells: tuple[Summary, ...]

    @property
    def settings(self) -> Settings:
        """What all its cells have in common, of what is known."""
        first, *others = [_settings(cell) for cell in self.cells]
        return {k: v for k, v in first.items() if v is not None and all(other.get(k) == v for other in others)}


@dataclass(frozen=True)
class Board:
    """Runs that share all settings but their own."""

    settings: Settings
    runs: tuple[Run, ...]

    @property
    def cells(self) -> list[Summary]:
        """Those of all runs."""
        return [cell for run in self.runs for cell in run.cells]


def shown(summary: Summary) -> tuple[str, ...]:
    """Return the trials that its curves are made of: diverged ones only where there is no other."""
    return summary.trials or summary.diverged


def subject(summary: Summary) -> Settings:
    """Return the settings that rivals share."""
    known = {k: v for k, v in summary.settings.items() if k not in LOSS_SETTINGS and v is not None}
    return known | {"metric": summary.metric}


def group_boards(summaries: Iterable[Summary]) -> list[Board]:
    """Return one board per comparison; cells in which nothing was trained are left out."""
    groups: dict[tuple[Any, ...], list[Summary]] = defaultdict(list)
    for summary in summaries:
        if shown(summary):
            groups[tuple(sorted(subject(summary).items()))].append(summary)
    return [Board(subject(cells[0]), tuple(_runs(cells))) for cells in groups.values()]


def _settings(cell: Summary) -> Settings:
    own = {"loss": cell.loss, "weighting": cell.weighting, "corruption": cell.corruption}
    return own | cell.settings | {"metric": cell.metric}


def _runs(cells: Sequence[Summary]) -> list[Run]:
    groups: dict[tuple[str, str], list[Summary]] = defaultdict(list)
    for cell in cells:
        groups[cell.loss, cell.weighting].append(cell)
    found = [run for own in groups.values() for run in _told_apart(own)]
    count = Counter(run.name for run in found)
    return [run if count[run.name] == 1 else Run(f"{run.name} {_digest(run)}", run.cells) for run in found]


def _told_apart(cells: Sequence[Summary]) -> list[Run]:
    """As few runs as can be, none of which has two cells of one corruption and rate."""
    for names in ((), ("head",), ("lr",), LOSS_SETTINGS):
        groups: dict[tuple[Any, ...], list[Summary]] = defaultdict(list)
        for cell in cells:
            groups[tuple(cell.settings.get(name) for name in names)].append(cell)
        if not any(_overlap(own) for own in groups.values()):
            break
    return [Run(_run_name(own[0], names), tuple(own)) for own in groups.values()]


def _overlap(cells: Sequence[Summary]) -> bool:
    return len({(cell.corruption, cell.corruption_rate) for cell in cells}) < len(cells)


def _run_name(cell: Summary, names: Sequence[str]) -> str:
    parts = [f"{name}={format_value(cell.settings.get(name))}" for name in names]
    return safe_name(" ".join([cell.name, *parts]))


def format_value(value: Any) -> str:
    """Return a setting as names hold it: `0.5`."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _digest(run: Run) -> str:
    return hash_values([shown(cell) for cell in run.cells])[:6]


def safe_name(name: str) -> str:
    """Return a folder's name: no slash, which would make two of it, and not too long."""
    plain = re.sub(r"[^\w .+*=,()\[\]-]+", "_", name).strip(" .") or "_"
    return plain if len(plain) <= LETTERS else f"{plain[: LETTERS - 7]}~{hash_values(name)[:6]}"


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
    return name if name not in known else f"{name}-{hash_values(dict(settings))[:6]}"


def _read(mark: Path) -> Settings | None:
    try:
        return dict(json.loads(mark.read_text("utf-8")))
    except (OSError, ValueError, TypeError):  # damaged, or taken away meanwhile: that folder is nobody's
        return None
