"""From clean examples to what each replica of a stack trains on: splits, corrupted examples, affine maps.

NumPy only. One table of raw examples serves all trials. A corrupted example is a new one at the table's end, and a
trial's split is an index into the table, so that nothing is copied per trial.
"""

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from lossbench import registry
from lossbench.errors import Incompatible
from lossbench.interfaces import Model, Task
from lossbench.seeds import Purpose, derive_seed
from lossbench.types import Array, Examples, Problem, Requirement, Trial

log = logging.getLogger("lossbench")

N_DRAWS = 100
"""Draws of groups from which it is told how many rows either side can have with any seed."""
NOTABLE = 0.05
"""A larger share of unused rows is told."""


def divide(rows: Array, share: float, seed: int, classes: Array | None, groups: Array | None) -> tuple[Array, Array]:
    """Rows kept and rows taken, both in order. classes, groups: of the rows. Raises `Incompatible` for too few rows."""
    from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

    if groups is not None:
        return _divide_groups(rows, share, seed, groups)
    # what train_test_split does, without its checks of the arguments: they take as long again
    kind = ShuffleSplit if classes is None else StratifiedShuffleSplit
    try:
        kept, taken = next(kind(1, test_size=share, random_state=seed % 2**32).split(rows, classes))
    except ValueError as error:
        raise Incompatible(f"{len(rows)} rows cannot be split with a share of {share:g}: {error}") from error
    return np.sort(rows[kept]), np.sort(rows[taken])


def divide_evenly(
    rows: Array, share: float, seed: int, classes: Array | None, groups: Array | None
) -> tuple[Array, Array]:
    """As `divide`, with as many rows on either side whatever the seed, as a stack must: some may be left out."""
    if groups is None:
        return divide(rows, share, seed, classes, None)
    codes = np.unique(groups, return_inverse=True)[1]  # names may be of any type
    least = _least(share, codes.tobytes(), codes.dtype.str)
    generator = np.random.default_rng(seed)
    while True:  # one draw in a hundred, or fewer, falls short
        sides = _divide_groups(rows, share, int(generator.integers(2**63)), groups)
        if all(len(side) >= n for side, n in zip(sides, least, strict=True)):
            kept, taken = (np.sort(generator.permutation(side)[:n]) for side, n in zip(sides, least, strict=True))
            return kept, taken


def check_apart(test: Array, groups: Array | None) -> None:
    """Raise `Incompatible` if a data set's own test split shares a group with the rest."""
    if groups is None:
        return
    is_test = np.isin(np.arange(len(groups)), test)
    if shared := set(groups[is_test].tolist()) & set(groups[~is_test].tolist()):
        raise Incompatible(
            f"The data set's own test split shares {len(shared)} groups with the rest, {min(shared)!r} for one: the "
            "rows of a group must lie on one side."
        )


def _divide_groups(rows: Array, share: float, seed: int, groups: Array) -> tuple[Array, Array]:
    """Whole groups to either side; the side taken is as near to its share of the rows as groups in random order get."""
    names, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    wanted, taken, total = share * len(rows), np.zeros(len(names), dtype=bool), 0
    for i in np.random.default_rng(seed).permutation(len(names)):
        if abs(total + sizes[i] - wanted) < abs(total - wanted):
            taken[i], total = True, total + int(sizes[i])
    if not 0 < total < len(rows):
        raise Incompatible(f"{len(names)} groups cannot be split with a share of {share:g}: one side would be empty.")
    return rows[~taken[group]], rows[taken[group]]


@lru_cache(maxsize=8)
def _least(share: float, groups: bytes, dtype: str) -> tuple[int, int]:
    """How many rows either side can have: the least of many draws. Tells if that leaves many unused."""
    names = np.frombuffer(groups, dtype)
    rows = np.arange(len(names))
    sides = [_divide_groups(rows, share, seed, names) for seed in range(N_DRAWS)]
    kept, taken = (min(map(len, side)) for side in zip(*sides, strict=True))
    unused = 1 - (kept + taken) / len(rows)
    if unused > NOTABLE:
        log.warning(
            "%.0f%% of the rows are left out of training and validation: the groups differ in size.", 100 * unused
        )
    return kept, taken


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
    baseline_predictor: Array  # the best constant prediction from clean training targets, for one example
    weights: Array | None = None  # the data's own, of mean 1 over the training split


@dataclass(frozen=True)
class Prepared:
    """The data of trials that train together; `variants[r]` and `orders[r]` are row r's."""

    trials: tuple[Trial, ...]
    inputs: Array
    targets: Array
    variants: tuple[Variant, ...]
    orders: tuple[int, ...]  # seeds of the batch order
    test: Array
    problem: Problem
    test_groups: Array | None = None  # of the test rows, as whole numbers

    def part(self, rows: slice) -> "Prepared":
        """The same for some of the rows."""
        return replace(self, trials=self.trials[rows], variants=self.variants[rows], orders=self.orders[rows])


class Table:
    """Raw rows, and the corrupted versions of some of them behind."""

    def __init__(self, rows: Array) -> None:
        self.n, self._parts = len(rows), [rows]

    def append(self, rows: Array) -> Array:
        """Add rows; their numbers."""
        self._parts.append(rows.astype(self._parts[0].dtype))
        self.n += len(rows)
        return np.arange(self.n - len(rows), self.n)

    def rows(self) -> Array:
        """All of them."""
        return np.concatenate(self._parts)


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


def standardisation(inputs: Array) -> tuple[Array, Array]:
    """Mean and standard deviation over the rows in float64.

    Per feature of `[N, D]` and of sequences `[N, T, D]`, per channel of images `[N, C, H, W]`.
    """
    axes = (0, 1) if inputs.ndim == 3 else (0, *range(2, inputs.ndim))
    centre = inputs.mean(axes, dtype=np.float64, keepdims=True)[0]
    spread = inputs.std(axes, dtype=np.float64, keepdims=True)[0]
    return centre, np.where(spread > 1e-12, spread, 1.0)


def _loaded(trial: Trial) -> Examples:
    """All examples, in types that corrupted values fit into and torch can index with."""
    examples = registry.datasets.build(trial.data).load()
    inputs, targets = examples.inputs, examples.targets
    if not np.issubdtype(inputs.dtype, np.floating):
        inputs = inputs.astype(np.float32)
    targets = targets.astype(np.float64 if np.issubdtype(targets.dtype, np.floating) else np.int64)
    _check_lengths(trial, examples)
    if not np.isfinite(inputs).all():
        raise Incompatible(f"data={trial.data.label} has inputs that are not finite numbers: fill them in first.")
    return replace(examples, inputs=inputs, targets=targets, weights=_loaded_weights(trial, examples))


def _check_lengths(trial: Trial, examples: Examples) -> None:
    n = len(examples.inputs)
    for what, rows in (("targets", examples.targets), ("groups", examples.groups)):
        if rows is not None and len(rows) != n:
            raise Incompatible(f"data={trial.data.label} has {n} inputs and {len(rows)} {what}: there must be as many.")
    test = examples.test
    if test is not None and (len(test) == 0 or min(test) < 0 or max(test) >= n):
        raise Incompatible(
            f"data={trial.data.label} must name its test rows by numbers from 0 to {n - 1}. Got {np.asarray(test)}."
        )


def _loaded_weights(trial: Trial, examples: Examples) -> Array | None:
    if examples.weights is None:
        return None
    weights = np.asarray(examples.weights, dtype=np.float64)
    if weights.shape != (len(examples.inputs),) or not np.isfinite(weights).all() or weights.min(initial=0) < 0:
        raise Incompatible(
            f"data={trial.data.label} must have one weight for each of {len(examples.inputs)} rows, a number of at "
            f"least 0. Got {list(weights.shape)} weights, the least being {weights.min(initial=0):g}."
        )
    return weights


def _by_class(task: Task, examples: Examples) -> Examples:
    """Classes as groups, if they are to be held out; then the data's own test split counts if it holds some out."""
    if not task.held_out_classes:
        return examples
    task.count_outputs(examples)  # raises unless targets are classes, and enough of them
    test, targets = examples.test, examples.targets
    shared = test is None or np.isin(np.delete(targets, test), targets[test]).any()
    return replace(examples, groups=targets, test=None if shared else test)


class Preparation:
    """Builds the splits of many trials over one data set, sharing what they share."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        first = trials[0]
        self.task: Task = registry.tasks.build(first.task)
        self.examples = _by_class(self.task, _loaded(first))
        self.inputs, self.targets = Table(self.examples.inputs), Table(self.examples.targets)
        self.labels = self.examples.targets if self.examples.targets.ndim == 1 else None
        self.rest, self.test = self._test_split(first)
        self.most: dict[Hashable, float] = {}
        for trial in trials:
            self.most[trial.corruption] = max(trial.corruption_rate, self.most.get(trial.corruption, 0.0))
        self._splits: dict[int, tuple[Array, Array]] = {}
        self._overlays: dict[Hashable, Overlay] = {}

    def _of(self, rows: Array) -> tuple[Array | None, Array | None]:
        classes, groups = (None if x is None else x[rows] for x in (self.labels, self.examples.groups))
        return classes, groups

    def _test_split(self, trial: Trial) -> tuple[Array, Array]:
        everything = np.arange(len(self.examples.inputs))
        if self.examples.test is not None:
            check_apart(self.examples.test, self.examples.groups)
            return np.setdiff1d(everything, self.examples.test), self.examples.test
        return divide(everything, trial.split_test, derive_seed(Purpose.TEST, trial), *self._of(everything))

    def test_groups(self) -> Array | None:
        """The group of each test row, if the data have groups: their names may be of any type."""
        groups = self.examples.groups
        return None if groups is None else np.unique(groups, return_inverse=True)[1][self.test]

    def splits(self, trial: Trial) -> tuple[Array, Array]:
        """Clean training and validation rows of a seed."""
        seed = derive_seed(Purpose.SPLIT, trial)
        if seed not in self._splits:
            parts = divide_evenly(self.rest, trial.split_validation, seed, *self._of(self.rest))
            self._check_classes(trial, *parts)
            self._splits[seed] = parts
        return self._splits[seed]

    def _check_classes(self, trial: Trial, train: Array, validation: Array) -> None:
        if not self.task.held_out_classes:
            return
        for name, rows in {"training": train, "validation": validation, "test": self.test}.items():
            if len(set(self.examples.targets[rows].tolist())) < 2:
                raise Incompatible(
                    f"data={trial.data.label} leaves {name} a single class, which nothing can be told from. Change "
                    f"split.test={trial.split_test:g} or split.validation={trial.split_validation:g}."
                )

    def seen(self, trial: Trial) -> tuple[Split, Split]:
        """Training and validation as the trial sees them; raises `Incompatible` if too few rows can be corrupted."""
        train, validation = self.splits(trial)
        rate = trial.corruption_rate if trial.validation == "corrupted" else 0.0
        return self._corrupted(trial, "training", train, trial.corruption_rate), self._corrupted(
            trial, "validation", validation, rate
        )

    def _corrupted(self, trial: Trial, part: str, rows: Array, rate: float) -> Split:
        count = round(rate * len(rows))
        if count == 0:
            return Split(rows, rows, 0.0)
        key = (part, derive_seed(Purpose.CORRUPTION, trial, part))
        if key not in self._overlays:
            self._overlays[key] = self._overlay(trial, part, rows)
        overlay = self._overlays[key]
        if count > overlay.eligible:
            raise Incompatible(
                f"corruption={trial.corruption.label} at rate {rate:g} wants {count} of {len(rows)} {part} rows, and "
                f"only {overlay.eligible} can be corrupted: the rate can be at most {overlay.eligible / len(rows):.3f}."
            )
        inputs, targets = (overlay.applied(rows, new, count) for new in (overlay.inputs, overlay.targets))
        return Split(inputs, targets, count / len(rows))

    def _overlay(self, trial: Trial, part: str, rows: Array) -> Overlay:
        """Drawn once for all rates: a lower rate takes the first of what the highest takes."""
        generator = np.random.default_rng(derive_seed(Purpose.CORRUPTION, trial, part))
        clean = Examples(self.examples.inputs[rows], self.examples.targets[rows], self.examples.class_names)
        order = generator.permutation(len(rows))
        drawn = registry.corruptions.build(trial.corruption)(clean, generator)
        eligible = len(rows) if drawn.eligible is None else int(drawn.eligible.sum())
        if drawn.eligible is not None:
            order = np.concatenate([order[drawn.eligible[order]], order[~drawn.eligible[order]]])
        first = order[: round(self.most[trial.corruption] * len(rows))]
        inputs = None if drawn.inputs is None else self.inputs.append(drawn.inputs[first])
        targets = None if drawn.targets is None else self.targets.append(drawn.targets[first])
        return Overlay(order, inputs, targets, eligible)

    def problem(self, trial: Trial) -> Problem:
        """The sizes that heads and losses are made for."""
        shape = self.examples.inputs.shape[1:]
        n_train = len(self.splits(trial)[0])
        n_steps = steps_read(registry.models.build(trial.model), shape) if self.task.sequence else 0
        return Problem(shape, self.task.count_outputs(self.examples), n_train, self.examples.class_names, n_steps)


def steps_read(model: Model, input_shape: tuple[int, ...]) -> int:
    """T: how many steps a model gives for one example."""
    import torch

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        return int(model.trunk(input_shape)[0].eval()(torch.zeros(1, *input_shape)).shape[1])


def _key(trial: Trial) -> Hashable:
    return (trial.seed, trial.corruption, trial.corruption_rate, trial.validation)


def prepare(trials: Sequence[Trial]) -> tuple[Prepared | None, dict[Trial, str]]:
    """The data of trials that share task, data and split sizes; and those that cannot train on theirs, with reasons.

    None instead of data if no trial can.
    """
    work = Preparation(trials)
    problem = work.problem(trials[0])
    seen, rejected = _seen(work, trials)
    inputs, targets = work.inputs.rows(), work.targets.rows()
    rejected |= _unweighted(work, [t for t in trials if t not in rejected])
    rejected |= _refused(work.task, problem, [t for t in trials if t not in rejected], targets, seen)
    good = tuple(t for t in trials if t not in rejected)
    if not good:
        return None, rejected
    distinct = {_key(t): t for t in good}
    variants = {k: _variant(work, t, problem, (inputs, targets), seen[k]) for k, t in distinct.items()}
    orders = tuple(derive_seed(Purpose.ORDER, t) for t in good)
    rows = tuple(variants[_key(t)] for t in good)
    return Prepared(good, inputs, targets, rows, orders, work.test, problem, work.test_groups()), rejected


def _seen(work: Preparation, trials: Sequence[Trial]) -> tuple[dict[Hashable, tuple[Split, Split]], dict[Trial, str]]:
    seen: dict[Hashable, tuple[Split, Split]] = {}
    rejected: dict[Trial, str] = {}
    for trial in trials:
        try:
            if _key(trial) not in seen:
                seen[_key(trial)] = work.seen(trial)
        except Incompatible as error:
            rejected[trial] = str(error)
    return seen, rejected


def _refused(
    task: Task, problem: Problem, trials: Sequence[Trial], targets: Array, seen: dict[Hashable, tuple[Split, Split]]
) -> dict[Trial, str]:
    found = {}
    for trial in trials:
        (train, _), loss = seen[_key(trial)], registry.losses.build(trial.loss)
        try:
            loss.check(targets[train.targets], problem)
            for part, own in loss.split_parts(targets[train.targets], problem):
                task.check(own, part.encoding)
        except Incompatible as error:
            found[trial] = f"loss={trial.loss.label} cannot be trained on this data: {error}"
    return found


def _unweighted(work: Preparation, trials: Sequence[Trial]) -> dict[Trial, str]:
    """Trials that want the data's own weights where there are none."""
    wanting = [t for t in trials if Requirement.SAMPLE_WEIGHT in registry.weightings.build(t.weighting).requires]
    weights, told = work.examples.weights, "weighting={} needs data with weights: {} data={}."
    if weights is None:
        return {t: told.format(t.weighting.label, "there are none in", t.data.label) for t in wanting}
    lacking = [t for t in wanting if not weights[work.splits(t)[0]].any()]
    return {
        t: told.format(t.weighting.label, "they are 0 throughout the training split of", t.data.label) for t in lacking
    }


def _variant(
    work: Preparation, trial: Trial, problem: Problem, tables: tuple[Array, Array], seen: tuple[Split, Split]
) -> Variant:
    (inputs, targets), (train, validation) = tables, seen
    rows, weights = work.splits(trial)[0], work.examples.weights
    dirty, clean = targets[train.targets], work.examples.targets[rows]
    return Variant(
        train,
        validation,
        *standardisation(inputs[train.inputs]),
        *work.task.fit_scaling(dirty),
        class_counts=work.task.count_per_class(dirty, problem),
        baseline_predictor=work.task.predict_baseline(clean, 1, problem),
        weights=None if weights is None else weights[rows] / (weights[rows].mean() or 1),
    )
