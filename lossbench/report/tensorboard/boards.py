"""The boards that TensorBoard shows: a board per comparison, with a run per loss, and the folders of both."""

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
    """One loss with its weighting: a summary for each corruption and corruption rate.

    name: the loss and its weighting, with head and learning rate only where runs differ in them.
    """

    name: str
    cells: tuple[Summary, ...]

    @property
    def settings(self) -> Settings:
        """The known settings that all its cells have in common."""
        first, *others = [
            {"loss": cell.loss, "weighting": cell.weighting, "corruption": cell.corruption}
            | cell.settings
            | {"metric": cell.metric}
            for cell in self.cells
        ]
        return {k: v for k, v in first.items() if v is not None and all(other.get(k) == v for other in others)}


@dataclass(frozen=True)
class Board:
    """Runs that share all settings but those that a loss may have of its own."""

    settings: Settings
    runs: tuple[Run, ...]

    @property
    def cells(self) -> list[Summary]:
        """The cells of all runs."""
        return [cell for run in self.runs for cell in run.cells]


def select_trials(summary: Summary) -> tuple[str, ...]:
    """Return the trials whose curves are shown: diverged ones only where there are no others."""
    return summary.trials or summary.diverged


def get_shared_settings(summary: Summary) -> Settings:
    """Return the settings that all losses of a comparison share."""
    known = {k: v for k, v in summary.settings.items() if k not in LOSS_SETTINGS and v is not None}
    return known | {"metric": summary.metric}


def group_boards(summaries: Iterable[Summary]) -> list[Board]:
    """Return one board per comparison; cells in which nothing was trained are left out."""
    groups: dict[tuple[Any, ...], list[Summary]] = defaultdict(list)
    for summary in summaries:
        if select_trials(summary):
            groups[tuple(sorted(get_shared_settings(summary).items()))].append(summary)
    return [Board(get_shared_settings(cells[0]), tuple(_group_runs(cells))) for cells in groups.values()]


def _group_runs(cells: Sequence[Summary]) -> list[Run]:
    # 1. the cells of each loss with its weighting
    groups: dict[tuple[str, str], list[Summary]] = defaultdict(list)
    for cell in cells:
        groups[cell.loss, cell.weighting].append(cell)
    runs = [run for group in groups.values() for run in _split_runs(group)]
    # 2. names that folders cannot tell apart get a digest of their trials
    count = Counter(run.name for run in runs)
    digests = [hash_values([select_trials(cell) for cell in run.cells])[:6] for run in runs]
    return [
        run if count[run.name] == 1 else Run(f"{run.name} {digest}", run.cells)
        for run, digest in zip(runs, digests, strict=True)
    ]


def _split_runs(cells: Sequence[Summary]) -> list[Run]:
    """Return as few runs as possible, none of which has two cells of one corruption and corruption rate."""
    for names in (
        (),
        ("head",),
        ("lr",),
        LOSS_SETTINGS,
    ):  # no split, then by more and more
        groups: dict[tuple[Any, ...], list[Summary]] = defaultdict(list)
        for cell in cells:
            groups[tuple(cell.settings.get(name) for name in names)].append(cell)
        places = [{(cell.corruption, cell.corruption_rate) for cell in group} for group in groups.values()]
        if all(len(distinct) == len(group) for distinct, group in zip(places, groups.values(), strict=True)):
            break
    runs = []
    for group in groups.values():
        first = group[0]
        parts = [f"{name}={format_value(first.settings.get(name))}" for name in names]
        runs.append(Run(make_safe_name(" ".join([first.name, *parts])), tuple(group)))
    return runs


def format_value(value: Any) -> str:
    """Return a setting as names hold it: `0.5`."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def make_safe_name(name: str) -> str:
    """Return a folder's name: without a slash, which would make two of it, and not too long."""
    safe = re.sub(r"[^\w .+*=,()\[\]-]+", "_", name).strip(" .") or "_"
    return safe if len(safe) <= LETTERS else f"{safe[: LETTERS - 7]}~{hash_values(name)[:6]}"


MARK = "study.json"
"""Holds the settings of the board in whose folder it is."""
ALPHABET, N_SORTED = "(0123456789abcdefghijklmnopqrstuvwxyz", 7
N_RANKS = len(ALPHABET) + 1  # any other letter has rank 0
SPAN = 1e6  # seconds over which the letters are spread: times of today are exact to 2e-7


def get_board_folder(tree: Path, board: Board) -> Path:
    """Find the board's folder below `tree`, or create one that is named for the settings in which boards differ.

    A folder keeps its name, whatever comes later: a running TensorBoard would lose it.
    """
    # 1. a folder whose mark holds these settings; one that is damaged, or removed meanwhile, belongs to no board
    task_folder = tree / make_safe_name(str(board.settings.get("task", "task")))
    known: dict[str, Settings] = {}
    for mark in sorted(task_folder.glob(f"*/{MARK}")):
        try:
            known[mark.parent.name] = dict(json.loads(mark.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            continue
    for name, settings in known.items():
        if settings == board.settings:
            return task_folder / name

    # 2. a new one, with its mark written whole or not at all
    folder = task_folder / _name_folder(board.settings, known)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{MARK}"
    temporary.write_text(json.dumps(board.settings, indent=1), "utf-8")
    os.replace(temporary, folder / MARK)
    return folder


def _name_folder(settings: Mapping[str, Any], known: Mapping[str, Settings]) -> str:
    """Return a name of data and model, and of every setting in which boards with the same two differ from this one."""
    base = {name: settings.get(name) for name in ("data", "model")}
    similar = [other for other in known.values() if all(other.get(n) == v for n, v in base.items())]
    differing = [n for n, v in settings.items() if any(other.get(n) != v for other in similar)]
    parts = ["-".join(str(v) for v in base.values()), *(f"{n}={format_value(settings[n])}" for n in differing)]
    name = make_safe_name(",".join(parts)).replace(" ", "_")
    return name if name not in known else f"{name}-{hash_values(dict(settings))[:6]}"


def compute_start(folder: Path, name: str = "") -> float:
    """Return a run's start in seconds since 1970. TensorBoard lists runs by it, so that it has to rise with the name.

    It depends on the first letters only, and not on other runs, which may come later.
    """
    letters = (name.lower() + " " * N_SORTED)[:N_SORTED]
    # the letters' ranks are the digits of a fraction from 0 to 1
    place = sum((1 + ALPHABET.find(letter)) / N_RANKS ** (at + 1) for at, letter in enumerate(letters))
    return (folder / MARK).stat().st_mtime - SPAN * (1 - place)
