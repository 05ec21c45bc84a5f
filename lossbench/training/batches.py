"""The data of a stack on the device, the sampler of its positions, and the batches that the replicas see."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lossbench.interfaces import Scaling
from lossbench.training.data import PreparedData, compute_centre_and_spread
from lossbench.types import Array


class Sampler:
    """Blocks of batches of positions `[K, S, B]` in the training split: K steps, one stream per distinct order seed.

    A block leads from one evaluation point to the next. Every epoch of a stream is a new permutation, drawn from
    (seed, epoch) alone, so training can be resumed at any step. A batch may span two epochs: there is no partial
    batch. With fewer examples than the batch size, the batch is all of them.

    edges: steps at which blocks begin and end.
    """

    def __init__(self, seeds: Sequence[int], n_examples: int, batch_size: int, edges: Sequence[int]) -> None:
        self.seeds, self.n_examples, self.batch_size = list(seeds), n_examples, min(batch_size, n_examples)
        self.edges = list(edges)
        self._permutations: dict[int, Tensor] = {}  # by epoch, of the last block: the next often begins in its last

    def draw_permutations(self, epoch: int) -> Tensor:
        """Draw one permutation per stream, `[S, N]`."""
        generator = torch.Generator()
        seeds = [seed + epoch for seed in self.seeds]
        return torch.stack([torch.randperm(self.n_examples, generator=generator.manual_seed(seed)) for seed in seeds])

    def get_positions(self, start: int, stop: int) -> Tensor:
        """Return elements start to stop of each endless stream, `[S, stop - start]`."""
        first, last = start // self.n_examples, (stop - 1) // self.n_examples  # epochs
        previous = self._permutations
        self._permutations = {
            epoch: previous[epoch] if epoch in previous else self.draw_permutations(epoch)
            for epoch in range(first, last + 1)
        }
        epochs = torch.cat(list(self._permutations.values()), 1)  # [S, N (last - first + 1)]
        offset = first * self.n_examples
        return epochs[:, start - offset : stop - offset]

    def __len__(self) -> int:
        return len(self.edges) - 1

    def __iter__(self) -> Iterator[Tensor]:
        for start, stop in pairwise(self.edges):
            positions = self.get_positions(start * self.batch_size, stop * self.batch_size)  # [S, K B]
            yield positions.unflatten(1, (-1, self.batch_size)).transpose(0, 1)  # [K, S, B]


T = TypeVar("T")
LOOKUP_STEPS = 16
"""Steps whose positions are looked up at once."""


class Batch(NamedTuple):
    """The examples that the replicas of a stack see at one step."""

    inputs: Tensor  # [R, B, ...] standardised
    targets: Tensor  # [R, B, ...] raw
    position: Tensor  # [R, B] in the training split


class DataFacts(Protocol):
    """Facts about the replicas' data, beyond a batch, that losses and weightings need."""

    @property
    def shift(self) -> Tensor:
        """Shift of the targets' affine maps, `[R, 1, D]`."""

    @property
    def scale(self) -> Tensor:
        """Scale of the targets' affine maps, `[R, 1, D]`."""

    @property
    def class_counts(self) -> Tensor | None:
        """Examples per class, `[R, 1, C]`; None for other tasks."""

    def get_sample_weights(self, position: Tensor, replicas: slice) -> Tensor | None:
        """Return the data's own weights; None if the data have none."""


class Batches(nn.Module):
    """The raw tables, and an index into them and an affine map for each distinct variant `V`.

    Nothing is `[R, N, ...]`. Targets and their maps stay in float64, and inputs are centred before they are rounded to
    float32: otherwise a large offset (years, temperatures in kelvin) would use up the digits that tell examples apart.
    """

    inputs: Tensor  # [N_table, ...]
    targets: Tensor  # [N_table, ...]
    variant: Tensor  # [R], which variant a replica sees
    stream: Tensor  # [R], which stream of the sampler a replica follows
    test: Tensor  # [N_test], rows of the table
    centre: Tensor  # [R, 1, ...] of the inputs
    inverse: Tensor  # [R, 1, ...], 1 / spread of the inputs
    shift: Tensor  # [R, 1, D] of the targets
    scale: Tensor
    class_counts: Tensor | None  # [R, 1, C]
    weights: Tensor | None  # [V, N]

    def __init__(self, prepared: PreparedData) -> None:
        super().__init__()

        def store(name: str, values: Array) -> None:
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)), persistent=False)

        # 1. the tables, which all replicas share
        offset, _ = compute_centre_and_spread(prepared.inputs)
        store("inputs", (prepared.inputs - offset).astype(np.float32))
        store("targets", prepared.targets)
        store("test", prepared.test)

        # 2. which stream and which variant each replica has
        self.order_seeds, streams = _index_distinct(prepared.orders)
        by_id = {id(v): v for v in prepared.variants}  # by identity: == on arrays gives arrays
        ids, variant_of = _index_distinct([id(v) for v in prepared.variants])
        variants = [by_id[i] for i in ids]
        store("stream", np.array(streams))
        store("variant", np.array(variant_of))

        # 3. where in the tables each variant's splits lie, [V, N]
        for part in ("train", "validation"):
            splits = [getattr(v, part) for v in variants]
            store(f"{part}_inputs", np.stack([s.inputs for s in splits]))
            store(f"{part}_targets", np.stack([s.targets for s in splits]))

        # 4. each replica's affine maps and class counts
        def per_replica(values: list[Array]) -> Array:
            return np.stack(values)[variant_of][:, None]  # [R, 1, ...]: broadcasts over the batch

        store("centre", per_replica([v.centre - offset for v in variants]).astype(np.float32))
        store("inverse", per_replica([1 / v.spread for v in variants]).astype(np.float32))
        store("shift", per_replica([v.shift for v in variants]))
        store("scale", per_replica([v.scale for v in variants]))
        self.register_buffer("class_counts", None, persistent=False)
        if counts := [v.class_counts for v in variants if v.class_counts is not None]:
            store("class_counts", per_replica(counts).astype(np.float32))
        self.register_buffer("weights", None, persistent=False)
        if weights := [v.weights for v in variants if v.weights is not None]:
            store("weights", np.stack(weights))

    @property
    def scaling(self) -> Scaling:
        """The targets' affine maps, `[R, 1, D]`."""
        return Scaling(self.shift, self.scale)

    def iterate(self, block: Tensor) -> Iterator[Batch]:
        """Yield the training batches at positions `[K, S, B]` of the sampler's streams, one for each of K steps."""
        for positions in block.split(LOOKUP_STEPS):
            position = positions.index_select(1, self.stream)  # [k, R, B]
            indices = [self._look_up_rows(f"train_{name}", position) for name in ("inputs", "targets")]
            for inputs, targets, places in zip(*indices, position, strict=True):
                yield Batch(self._gather_inputs(inputs), self._gather_targets(targets), places)

    def _look_up_rows(self, name: str, position: Tensor) -> Tensor:
        """Convert positions `[k, R, B]` in a split to row numbers of the table."""
        split = self.get_buffer(name)  # [V, N]
        # one index into all variants' numbers: a pair of indices takes three times as long
        flat = (position + self.variant[:, None] * split.shape[1]).flatten()
        return split.flatten().index_select(0, flat).unflatten(0, position.shape)

    def _gather_inputs(self, index: Tensor) -> Tensor:
        inputs = self.inputs.index_select(0, index.flatten()).unflatten(0, index.shape)  # [R, B, ...]
        return inputs.sub_(self.centre).mul_(self.inverse)

    def _gather_targets(self, index: Tensor) -> Tensor:
        return self.targets.index_select(0, index.flatten()).unflatten(0, index.shape)

    def get_sample_weights(self, position: Tensor, replicas: slice) -> Tensor | None:
        """Return the data's own weights at positions `[r, B]` of the training splits of `replicas`."""
        return None if self.weights is None else self.weights[self.variant[replicas, None], position]

    def count_examples(self, split: str) -> int:
        """Return how many examples a split has: "train", "validation" or "test"."""
        return len(self.test) if split == "test" else int(self.get_buffer(f"{split}_inputs").shape[1])

    def get_examples(self, split: str, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return examples start to stop of "validation" or "test" for every replica: inputs standardised, targets raw.

        Both are `[R, stop - start, ...]`.
        """
        if split == "test":
            index = self.test[start:stop].expand(len(self.variant), -1)
            return self._gather_inputs(index), self._gather_targets(index)
        inputs, targets = (self.get_buffer(f"{split}_{n}")[self.variant, start:stop] for n in ("inputs", "targets"))
        return self._gather_inputs(inputs), self._gather_targets(targets)


def _index_distinct(values: Sequence[T]) -> tuple[list[T], list[int]]:
    """Return the distinct values in order of appearance, and for each value its place among them."""
    places: dict[T, int] = {}
    indices = [places.setdefault(v, len(places)) for v in values]
    return list(places), indices
