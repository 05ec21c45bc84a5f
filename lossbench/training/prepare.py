"""From clean examples to what each row of a stack trains on: indices, a few corrupted rows, affine maps. NumPy only.

One table of raw rows serves all trials. A corrupted row is a new row at the table's end, and a trial's split is an
index into the table, so that nothing is copied per trial.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from lossbench import registry
from lossbench.errors import Incompatible
from lossbench.interfaces import Task
from lossbench.seeds import Purpose, seed_for
from lossbench.types import Array, Examples, Problem, Trial


class Table:
    """Raw rows, and the corrupted versions of some of them behind."""

    def __init__(self, rows: Array) -> None:
        self.n, self._parts = len(rows), [rows]

    def append(self, rows: Array) -> Array:
        """Add rows; their numbers."""
        self._parts.append(rows.astype(self._parts[0].dtype))
        self.n += len(rows)
        return np.arange(self.n - len(rows), self.n)

    @cached_property
    def rows(self) -> Array:
        """All of them; nothing may be added afterwards."""
        return np.concatenate(self._parts)


@dataclass(frozen=True)
class Split:
    """Row numbers of one split in the input and target tables, and the share of them that is corrupted."""

    inputs: Array
    targets: Array
    realised: float


@dataclass(frozen=True)
class Variant:
    """What the trials of one (seed, corruption, rate, validation) see."""

    train: Split
    validation: Split
    centre: Array  # of the inputs: [D], or [C, 1, 1] for images
    spread: Array
    shift: Array  # of the targets: [D]
    scale: Array
    class_counts: Array | None


@dataclass(frozen=True)
class Prepared:
    """The data of a stack; `variant_of[r]` and `order_of[r]` say which of them row r uses."""

    inputs: Array
    targets: Array
    variants: list[Variant]
    variant_of: list[int]
    orders: list[int]  # seeds of the distinct batch orders
    order_of: list[int]
    test: Array
    problem: Problem
    trivial: list[Array]  # per variant: the best constant prediction, repeated for the test split
    rejected: dict[int, str] = field(default_factory=dict)  # rows that cannot train on their data, with the reason


def standardisation(inputs: Array) -> tuple[Array, Array]:
    """Mean and standard deviation over the training rows: per feature, or per channel of images `[N, C, H, W]`."""
    axes = (0, *range(2, inputs.ndim))
    centre = inputs.mean(axes, dtype=np.float64, keepdims=True)[0]
    spread = inputs.std(axes, dtype=np.float64, keepdims=True)[0]
    return centre, np.where(spread > 1e-12, spread, 1.0)


def _divide(rows: Array, share: float, seed: int, classes: Array | None) -> tuple[Array, Array]:
    from sklearn.model_selection import train_test_split

    try:
        kept, taken = train_test_split(rows, test_size=share, random_state=seed % 2**32, stratify=classes)
    except ValueError as error:
        raise Incompatible(f"{len(rows)} rows cannot be split with a share of {share:g}: {error}") from error
    return np.sort(kept), np.sort(taken)


@dataclass(frozen=True)
class Overlay:
    """The order in which positions of a split fall to corruption, and the table rows that then replace them."""

    order: Array
    inputs: Array | None
    targets: Array | None
    eligible: int

    def applied(self, rows: Array, replacements: Array | None, count: int) -> Array:
        """`rows` with the first `count` positions replaced."""
        out = rows.copy()
        if replacements is not None:
            out[self.order[:count]] = replacements[:count]
        return out


class Preparation:
    """Builds the splits of many trials over one data set, sharing what they share."""

    def __init__(self, trial: Trial) -> None:
        self.task: Task = registry.tasks.build(trial.task)
        self.examples = registry.datasets.build(trial.data).load()
        self.inputs, self.targets = Table(self.examples.inputs), Table(self.examples.targets)
        self.labels = self.examples.targets if self.examples.targets.ndim == 1 else None
        self.rest, self.test = self._test_split(trial)
        self._splits: dict[int, tuple[Array, Array]] = {}
        self._overlays: dict[tuple[object, ...], Overlay] = {}

    def _of(self, rows: Array) -> Array | None:
        return None if self.labels is None else self.labels[rows]

    def _test_split(self, trial: Trial) -> tuple[Array, Array]:
        everything = np.arange(len(self.examples.inputs))
        if self.examples.test is not None:
            return np.setdiff1d(everything, self.examples.test), self.examples.test
        return _divide(everything, trial.split_test, seed_for(Purpose.TEST, trial), self._of(everything))

    def splits(self, trial: Trial) -> tuple[Array, Array]:
        """Clean training and validation rows of a seed."""
        seed = seed_for(Purpose.SPLIT, trial)
        if seed not in self._splits:
            self._splits[seed] = _divide(self.rest, trial.split_validation, seed, self._of(self.rest))
        return self._splits[seed]

    def corrupted(self, trial: Trial, part: str, rows: Array, rate: float, most: float) -> Split:
        """`rows` with `rate` of them corrupted; the rows for `most`, the highest rate, are drawn once for all rates."""
        count = round(rate * len(rows))
        if count == 0:
            return Split(rows, rows, 0.0)
        key = (part, seed_for(Purpose.CORRUPTION, trial, part))
        if key not in self._overlays:
            self._overlays[key] = self._overlay(trial, part, rows, round(most * len(rows)))
        overlay = self._overlays[key]
        if count > overlay.eligible:
            raise Incompatible(
                f"corruption={trial.corruption.label} at rate {rate:g} wants {count} of {len(rows)} {part} rows, and "
                f"only {overlay.eligible} can be corrupted: the rate can be at most {overlay.eligible / len(rows):.3f}."
            )
        return Split(
            overlay.applied(rows, overlay.inputs, count),
            overlay.applied(rows, overlay.targets, count),
            count / len(rows),
        )

    def _overlay(self, trial: Trial, part: str, rows: Array, most: int) -> Overlay:
        generator = np.random.default_rng(seed_for(Purpose.CORRUPTION, trial, part))
        clean = Examples(self.examples.inputs[rows], self.examples.targets[rows], self.examples.class_names)
        order = generator.permutation(len(rows))
        drawn = registry.corruptions.build(trial.corruption)(clean, generator)
        eligible = len(rows) if drawn.eligible is None else int(drawn.eligible.sum())
        if drawn.eligible is not None:
            order = np.concatenate([order[drawn.eligible[order]], order[~drawn.eligible[order]]])
        first = order[:most]
        inputs = None if drawn.inputs is None else self.inputs.append(drawn.inputs[first])
        targets = None if drawn.targets is None else self.targets.append(drawn.targets[first])
        return Overlay(order, inputs, targets, eligible)

    def problem(self, trial: Trial) -> Problem:
        """The sizes that heads and losses are made for."""
        shape = self.examples.inputs.shape[1:]
        n_train = len(self.splits(trial)[0])
        return Problem(shape, self.task.n_outputs(self.examples), n_train, self.examples.class_names)


def _key(trial: Trial) -> tuple[object, ...]:
    return (trial.seed, trial.corruption, trial.rate, trial.validation)


def prepare(trials: Sequence[Trial]) -> Prepared:
    """The data of trials that share task, data and split sizes."""
    work = Preparation(trials[0])
    problem = work.problem(trials[0])
    distinct = {_key(t): t for t in trials}
    most = {t.corruption: max(u.rate for u in trials if u.corruption == t.corruption) for t in trials}
    splits = {k: _both(work, t, most[t.corruption]) for k, t in distinct.items()}
    inputs, targets = work.inputs.rows, work.targets.rows
    variants = [_variant(work.task, problem, inputs, targets, *splits[k]) for k in distinct]
    orders = [seed_for(Purpose.ORDER, t) for t in trials]
    names = list(distinct)
    return Prepared(
        inputs=inputs,
        targets=targets,
        variants=variants,
        variant_of=[names.index(_key(t)) for t in trials],
        orders=sorted(set(orders)),
        order_of=_places(orders),
        test=work.test,
        problem=problem,
        trivial=[_trivial(work, t, problem) for t in distinct.values()],
        rejected=_rejected(work.task, trials, [targets[splits[_key(t)][0].targets] for t in trials]),
    )


def _both(work: Preparation, trial: Trial, most: float) -> tuple[Split, Split]:
    train, validation = work.splits(trial)
    rate = trial.rate if trial.validation == "corrupted" else 0.0
    return (
        work.corrupted(trial, "training", train, trial.rate, most),
        work.corrupted(trial, "validation", validation, rate, most),
    )


def _variant(task: Task, problem: Problem, inputs: Array, targets: Array, train: Split, validation: Split) -> Variant:
    seen = targets[train.targets]
    shift, scale = task.scaling(seen)
    centre, spread = standardisation(inputs[train.inputs])
    return Variant(train, validation, centre, spread, shift, scale, task.class_counts(seen, problem))


def _trivial(work: Preparation, trial: Trial, problem: Problem) -> Array:
    clean = work.examples.targets[work.splits(trial)[0]]
    return work.task.trivial(clean, len(work.test), problem)


def _rejected(task: Task, trials: Sequence[Trial], targets: Sequence[Array]) -> dict[int, str]:
    found = {}
    for row, (trial, seen) in enumerate(zip(trials, targets, strict=True)):
        try:
            task.check(seen, registry.losses.build(trial.loss).encoding)
        except Incompatible as error:
            found[row] = f"loss={trial.loss.label} cannot be trained on this data: {error}"
    return found


def _places(values: Iterable[int]) -> list[int]:
    values = list(values)
    ordered = sorted(set(values))
    return [ordered.index(v) for v in values]
