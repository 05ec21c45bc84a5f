"""From clean examples to what each replica of a stack trains on: splits, corrupted examples, affine maps.

NumPy only. One table of raw examples serves all trials. A corrupted example is a new row at the table's end, and a
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

N_GROUP_DRAWS = 100
"""Draws of groups from which it is estimated how many examples either side can have with any seed."""
NOTABLE_UNUSED_SHARE = 0.05
"""A larger share of unused examples is logged."""


def split_examples(
    rows: Array, share: float, seed: int, classes: Array | None, groups: Array | None
) -> tuple[Array, Array]:
    """Split rows of the table into those that remain and those that are held out, both in order.

    share: of the rows to hold out. classes, groups: of the rows. Raises `Incompatible` for too few rows.
    """
    from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

    if groups is not None:
        return _split_groups(rows, share, seed, groups)
    # what train_test_split does, without its checks of the arguments: they take as long again
    splitter = ShuffleSplit if classes is None else StratifiedShuffleSplit
    try:
        remaining, held_out = next(splitter(1, test_size=share, random_state=seed % 2**32).split(rows, classes))
    except ValueError as error:
        raise Incompatible(f"{len(rows)} examples cannot be split with a share of {share:g}: {error}") from error
    return np.sort(rows[remaining]), np.sort(rows[held_out])


def split_examples_evenly(
    rows: Array, share: float, seed: int, classes: Array | None, groups: Array | None
) -> tuple[Array, Array]:
    """Split like `split_examples`, with the same sizes for every seed, which a stack needs.

    Where examples come in groups, some may be left out.
    """
    if groups is None:
        return split_examples(rows, share, seed, classes, None)
    codes = np.unique(groups, return_inverse=True)[1]  # names may be of any type
    sizes = _estimate_side_sizes(share, codes.tobytes(), codes.dtype.str)
    generator = np.random.default_rng(seed)
    while True:  # one draw in a hundred, or fewer, falls short
        sides = _split_groups(rows, share, int(generator.integers(2**63)), groups)
        if all(len(side) >= n for side, n in zip(sides, sizes, strict=True)):
            remaining, held_out = (
                np.sort(generator.permutation(side)[:n]) for side, n in zip(sides, sizes, strict=True)
            )
            return remaining, held_out


def check_groups_apart(test: Array, groups: Array | None) -> None:
    """Raise `Incompatible` if a data set's own test split shares a group with the rest."""
    if groups is None:
        return
    is_test = np.isin(np.arange(len(groups)), test)
    if shared := set(groups[is_test].tolist()) & set(groups[~is_test].tolist()):
        raise Incompatible(
            f"The data set's own test split shares {len(shared)} groups with the rest, {min(shared)!r} for one: the "
            "examples of a group must lie on one side."
        )


def _split_groups(rows: Array, share: float, seed: int, groups: Array) -> tuple[Array, Array]:
    """Split complete groups; in random order, hold a group out if that brings the side nearer to its share."""
    names, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    goal, held_out, total = share * len(rows), np.zeros(len(names), dtype=bool), 0
    for i in np.random.default_rng(seed).permutation(len(names)):
        if abs(total + sizes[i] - goal) < abs(total - goal):
            held_out[i], total = True, total + int(sizes[i])
    if not 0 < total < len(rows):
        raise Incompatible(f"{len(names)} groups cannot be split with a share of {share:g}: one side would be empty.")
    return rows[~held_out[group]], rows[held_out[group]]


@lru_cache(maxsize=8)
def _estimate_side_sizes(share: float, groups: bytes, dtype: str) -> tuple[int, int]:
    """Return how many examples either side can have: the least of many draws. Warn if that leaves many unused."""
    names = np.frombuffer(groups, dtype)
    rows = np.arange(len(names))
    sides = [_split_groups(rows, share, seed, names) for seed in range(N_GROUP_DRAWS)]
    remaining, held_out = (min(map(len, side)) for side in zip(*sides, strict=True))
    unused = 1 - (remaining + held_out) / len(rows)
    if unused > NOTABLE_UNUSED_SHARE:
        log.warning(
            "%.0f%% of the examples are left out of training and validation: the groups differ in size.", 100 * unused
        )
    return remaining, held_out


@dataclass(frozen=True)
class Split:
    """Row numbers of one split in the input and target tables, and the share of them that is corrupted."""

    inputs: Array  # [N]
    targets: Array  # [N]
    realised: float


@dataclass(frozen=True)
class DataVariant:
    """The data that the trials of one (seed, corruption, corruption rate, validation) see."""

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
class PreparedData:
    """The data of trials that train together; `variants[r]` and `orders[r]` are replica r's."""

    trials: tuple[Trial, ...]
    inputs: Array
    targets: Array
    variants: tuple[DataVariant, ...]
    orders: tuple[int, ...]  # seeds of the batch order
    test: Array  # row numbers
    problem: Problem
    test_groups: Array | None = None  # of the test examples, as whole numbers

    def select(self, replicas: slice) -> "PreparedData":
        """Return the same for some of the replicas."""
        return replace(
            self, trials=self.trials[replicas], variants=self.variants[replicas], orders=self.orders[replicas]
        )


class Table:
    """Raw examples, one per row, and behind them the corrupted versions of some."""

    def __init__(self, rows: Array) -> None:
        self.n, self._parts = len(rows), [rows]

    def append(self, rows: Array) -> Array:
        """Append rows; return their numbers."""
        self._parts.append(rows.astype(self._parts[0].dtype))
        self.n += len(rows)
        return np.arange(self.n - len(rows), self.n)

    def concatenate(self) -> Array:
        """Return all rows as one array."""
        return np.concatenate(self._parts)


@dataclass(frozen=True)
class Overlay:
    """The order in which positions of a split are corrupted, and the table rows that then replace them."""

    order: Array  # [N] positions
    inputs: Array | None  # row numbers for the first positions of `order`
    targets: Array | None
    n_eligible: int

    def apply(self, rows: Array, replacements: Array | None, count: int) -> Array:
        """Return `rows` with the first `count` positions replaced."""
        out = rows.copy()
        if replacements is not None:
            out[self.order[:count]] = replacements[:count]
        return out


def compute_centre_and_spread(inputs: Array) -> tuple[Array, Array]:
    """Return mean and standard deviation over the examples in float64; 1 where nothing varies.

    Per feature of `[N, D]` and of sequences `[N, T, D]`, per channel of images `[N, C, H, W]`.
    """
    axes = (0, 1) if inputs.ndim == 3 else (0, *range(2, inputs.ndim))
    centre = inputs.mean(axes, dtype=np.float64, keepdims=True)[0]
    spread = inputs.std(axes, dtype=np.float64, keepdims=True)[0]
    return centre, np.where(spread > 1e-12, spread, 1.0)


def _load_examples(trial: Trial) -> Examples:
    """Load and check all examples, in types that corrupted values fit into and torch can index with."""
    examples = registry.datasets.build(trial.data).load()
    name, n = f"data={trial.data.label}", len(examples.inputs)

    # 1. lengths, and row numbers of the test split
    for part, values in (("targets", examples.targets), ("groups", examples.groups)):
        if values is not None and len(values) != n:
            raise Incompatible(f"{name} has {n} inputs and {len(values)} {part}: there must be as many.")
    test = examples.test
    if test is not None and (len(test) == 0 or min(test) < 0 or max(test) >= n):
        raise Incompatible(f"{name} must name its test examples by numbers from 0 to {n - 1}. Got {np.asarray(test)}.")

    # 2. types
    inputs, targets, weights = examples.inputs, examples.targets, examples.weights
    if not np.issubdtype(inputs.dtype, np.floating):
        inputs = inputs.astype(np.float32)
    targets = targets.astype(np.float64 if np.issubdtype(targets.dtype, np.floating) else np.int64)
    if not np.isfinite(inputs).all():
        raise Incompatible(f"{name} has inputs that are not finite numbers: fill them in first.")
    if weights is not None:
        weights = np.asarray(weights, dtype=np.float64)
        if weights.shape != (n,) or not np.isfinite(weights).all() or weights.min(initial=0) < 0:
            raise Incompatible(
                f"{name} must have one weight for each of {n} examples, a number of at least 0. "
                f"Got {list(weights.shape)} weights, the least being {weights.min(initial=0):g}."
            )
    return replace(examples, inputs=inputs, targets=targets, weights=weights)


def group_by_class(task: Task, examples: Examples) -> Examples:
    """Make classes groups, if they are to be held out.

    The data's own test split then counts if it holds some classes out completely.
    """
    if not task.held_out_classes:
        return examples
    task.count_outputs(examples)  # raises unless targets are classes, and enough of them
    test, targets = examples.test, examples.targets
    shared = test is None or np.isin(np.delete(targets, test), targets[test]).any()
    return replace(examples, groups=targets, test=None if shared else test)


class Preparation:
    """Builds the splits of many trials over one data set, sharing what they have in common."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        first = trials[0]
        self.task: Task = registry.tasks.build(first.task)
        self.examples = group_by_class(self.task, _load_examples(first))
        self.inputs, self.targets = Table(self.examples.inputs), Table(self.examples.targets)
        self.labels = self.examples.targets if self.examples.targets.ndim == 1 else None

        # the test split is the same for all trials
        rows = np.arange(len(self.examples.inputs))
        if self.examples.test is not None:
            check_groups_apart(self.examples.test, self.examples.groups)
            self.rest, self.test = np.setdiff1d(rows, self.examples.test), self.examples.test
        else:
            seed = derive_seed(Purpose.TEST, first)
            self.rest, self.test = split_examples(rows, first.split_test, seed, *self._get_classes_and_groups(rows))

        # the highest corruption rate of each corruption: so many examples of it are kept
        self.highest_rates: dict[Hashable, float] = {}
        for trial in trials:
            highest = self.highest_rates.get(trial.corruption, 0.0)
            self.highest_rates[trial.corruption] = max(trial.corruption_rate, highest)
        self._clean_splits: dict[int, tuple[Array, Array]] = {}  # by seed
        self._overlays: dict[Hashable, Overlay] = {}

    def _get_classes_and_groups(self, rows: Array) -> tuple[Array | None, Array | None]:
        classes, groups = (None if x is None else x[rows] for x in (self.labels, self.examples.groups))
        return classes, groups

    def get_test_groups(self) -> Array | None:
        """Return the group of each test example, if the data have groups: as numbers, whatever type the names have."""
        groups = self.examples.groups
        return None if groups is None else np.unique(groups, return_inverse=True)[1][self.test]

    def split_clean(self, trial: Trial) -> tuple[Array, Array]:
        """Return the row numbers of clean training and validation examples of a seed."""
        seed = derive_seed(Purpose.SPLIT, trial)
        if seed not in self._clean_splits:
            train, validation = split_examples_evenly(
                self.rest, trial.split_validation, seed, *self._get_classes_and_groups(self.rest)
            )
            if self.task.held_out_classes:
                for name, rows in {"training": train, "validation": validation, "test": self.test}.items():
                    if len(set(self.examples.targets[rows].tolist())) < 2:
                        raise Incompatible(
                            f"data={trial.data.label} leaves {name} a single class, which nothing can be told from. "
                            f"Change split.test={trial.split_test:g} or split.validation={trial.split_validation:g}."
                        )
            self._clean_splits[seed] = train, validation
        return self._clean_splits[seed]

    def split_corrupted(self, trial: Trial) -> tuple[Split, Split]:
        """Return training and validation as the trial sees them.

        Raises `Incompatible` if too few examples can be corrupted.
        """
        train, validation = self.split_clean(trial)
        validation_rate = trial.corruption_rate if trial.validation == "corrupted" else 0.0
        return (
            self._corrupt(trial, "training", train, trial.corruption_rate),
            self._corrupt(trial, "validation", validation, validation_rate),
        )

    def _corrupt(self, trial: Trial, part: str, rows: Array, corruption_rate: float) -> Split:
        """Replace a share of the rows by their corrupted versions."""
        count = round(corruption_rate * len(rows))
        if count == 0:
            return Split(rows, rows, 0.0)
        key = (part, derive_seed(Purpose.CORRUPTION, trial, part))
        if key not in self._overlays:
            self._overlays[key] = self._draw_overlay(trial, part, rows)
        overlay = self._overlays[key]
        if count > overlay.n_eligible:
            raise Incompatible(
                f"corruption={trial.corruption.label} at corruption rate {corruption_rate:g} needs {count} of "
                f"{len(rows)} {part} examples, and only {overlay.n_eligible} can be corrupted: the corruption rate can "
                f"be at most {overlay.n_eligible / len(rows):.3f}."
            )
        inputs, targets = (overlay.apply(rows, new, count) for new in (overlay.inputs, overlay.targets))
        return Split(inputs, targets, count / len(rows))

    def _draw_overlay(self, trial: Trial, part: str, rows: Array) -> Overlay:
        """Draw once for all corruption rates: a lower one corrupts the first of those that the highest corrupts."""
        # 1. corrupted versions of all examples of the split, and a random order of positions
        generator = np.random.default_rng(derive_seed(Purpose.CORRUPTION, trial, part))
        clean = Examples(self.examples.inputs[rows], self.examples.targets[rows], self.examples.class_names)
        order = generator.permutation(len(rows))
        corrupted = registry.corruptions.build(trial.corruption)(clean, generator)
        # 2. examples that can be corrupted come first
        eligible = corrupted.eligible
        if eligible is not None:
            order = np.concatenate([order[eligible[order]], order[~eligible[order]]])
        # 3. as many rows for the table as the highest corruption rate needs
        first = order[: round(self.highest_rates[trial.corruption] * len(rows))]
        return Overlay(
            order,
            inputs=None if corrupted.inputs is None else self.inputs.append(corrupted.inputs[first]),
            targets=None if corrupted.targets is None else self.targets.append(corrupted.targets[first]),
            n_eligible=len(rows) if eligible is None else int(eligible.sum()),
        )

    def build_problem(self, trial: Trial) -> Problem:
        """Return the sizes that heads and losses are built for."""
        shape = self.examples.inputs.shape[1:]
        n_train = len(self.split_clean(trial)[0])
        n_steps = count_sequence_steps(registry.models.build(trial.model), shape) if self.task.sequence else 0
        return Problem(shape, self.task.count_outputs(self.examples), n_train, self.examples.class_names, n_steps)


def count_sequence_steps(model: Model, input_shape: tuple[int, ...]) -> int:
    """Return T, the number of steps that a model gives for one example."""
    import torch

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        return int(model.trunk(input_shape)[0].eval()(torch.zeros(1, *input_shape)).shape[1])


def _get_variant_key(trial: Trial) -> Hashable:
    return (trial.seed, trial.corruption, trial.corruption_rate, trial.validation)


def prepare(trials: Sequence[Trial]) -> tuple[PreparedData | None, dict[Trial, str]]:
    """Prepare the data of trials that share task, data and split sizes.

    Return the data of those that can train on them, None if no trial can; and the other trials with the reasons.
    """
    preparation = Preparation(trials)
    problem = preparation.build_problem(trials[0])
    examples, task = preparation.examples, preparation.task
    rejected: dict[Trial, str] = {}

    # 1. splits, which trials of one variant share; rejected if too few examples can be corrupted
    splits: dict[Hashable, tuple[Split, Split]] = {}
    for trial in trials:
        try:
            key = _get_variant_key(trial)
            if key not in splits:
                splits[key] = preparation.split_corrupted(trial)
        except Incompatible as error:
            rejected[trial] = str(error)
    inputs, targets = preparation.inputs.concatenate(), preparation.targets.concatenate()

    # 2. the weighting requires the data's own weights; the loss requires certain targets
    accepted = []
    for trial in trials:
        if trial in rejected:
            continue
        train, _ = splits[_get_variant_key(trial)]
        try:
            _check_weights(trial, preparation)
            _check_loss(trial, targets[train.targets], task, problem)
            accepted.append(trial)
        except Incompatible as error:
            rejected[trial] = str(error)
    if not accepted:
        return None, rejected

    # 3. affine maps, class counts and baseline predictor of each variant
    variants: dict[Hashable, DataVariant] = {}
    for key, trial in {_get_variant_key(t): t for t in accepted}.items():
        train, validation = splits[key]
        clean, _ = preparation.split_clean(trial)
        seen_targets = targets[train.targets]
        weights = None if examples.weights is None else examples.weights[clean]
        variants[key] = DataVariant(
            train,
            validation,
            *compute_centre_and_spread(inputs[train.inputs]),
            *task.fit_scaling(seen_targets),
            class_counts=task.count_per_class(seen_targets, problem),
            baseline_predictor=task.predict_baseline(examples.targets[clean], 1, problem),
            weights=None if weights is None else weights / (weights.mean() or 1),
        )

    prepared = PreparedData(
        tuple(accepted),
        inputs,
        targets,
        variants=tuple(variants[_get_variant_key(t)] for t in accepted),
        orders=tuple(derive_seed(Purpose.ORDER, t) for t in accepted),
        test=preparation.test,
        problem=problem,
        test_groups=preparation.get_test_groups(),
    )
    return prepared, rejected


def _check_weights(trial: Trial, preparation: Preparation) -> None:
    """Raise `Incompatible` if the weighting requires the data's own weights and there are none."""
    if Requirement.SAMPLE_WEIGHT not in registry.weightings.build(trial.weighting).requires:
        return
    message = f"weighting={trial.weighting.label} needs data with weights:"
    weights = preparation.examples.weights
    if weights is None:
        raise Incompatible(f"{message} there are none in data={trial.data.label}.")
    if not weights[preparation.split_clean(trial)[0]].any():
        raise Incompatible(f"{message} they are 0 throughout the training split of data={trial.data.label}.")


def _check_loss(trial: Trial, targets: Array, task: Task, problem: Problem) -> None:
    """Raise `Incompatible` if the loss cannot be trained on these targets."""
    loss = registry.losses.build(trial.loss)
    try:
        loss.check(targets, problem)
        for part, part_targets in loss.split_parts(targets, problem):
            task.check(part_targets, part.encoding)
    except Incompatible as error:
        raise Incompatible(f"loss={trial.loss.label} cannot be trained on this data: {error}") from error
