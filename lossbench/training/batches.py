"""The data of a stack on the device, the order of its examples, and the batches that replicas see."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lossbench.interfaces import Scaling
from lossbench.training.data import Prepared, Variant, standardisation
from lossbench.types import Array


class Order:
    """Blocks of batches of positions `[K, S, B]` in the training split: K steps, one stream per distinct order seed.

    A block leads from one evaluation point to the next. Every epoch of a stream is a new permutation, drawn from
    (seed, epoch) alone, so any step can be resumed at. A batch may span two epochs: there is no partial batch. With
    fewer examples than the batch, the batch is all of them.
    """

    def __init__(self, seeds: Sequence[int], n_examples: int, batch_size: int, points: Sequence[int]) -> None:
        self.seeds, self.n, self.batch = list(seeds), n_examples, min(batch_size, n_examples)
        self.points = list(points)
        self._drawn: dict[int, Tensor] = {}  # the epochs of the last block: the next one often begins in its last

    def permutations(self, epoch: int) -> Tensor:
        """One permutation per stream, `[S, N]`."""
        generator = torch.Generator()
        rows = [torch.randperm(self.n, generator=generator.manual_seed(seed + epoch)) for seed in self.seeds]
        return torch.stack(rows)

    def stream(self, start: int, stop: int) -> Tensor:
        """Positions start to stop of each endless stream, `[S, stop - start]`."""
        first, last = start // self.n, (stop - 1) // self.n
        old, wanted = self._drawn, range(first, last + 1)
        self._drawn = {e: old[e] if e in old else self.permutations(e) for e in wanted}
        epochs = torch.cat(list(self._drawn.values()), 1)
        return epochs[:, start - first * self.n : stop - first * self.n]

    def __len__(self) -> int:
        return len(self.points) - 1

    def __iter__(self) -> Iterator[Tensor]:
        for start, stop in pairwise(self.points):
            yield self.stream(start * self.batch, stop * self.batch).unflatten(1, (-1, self.batch)).transpose(0, 1)


T = TypeVar("T")
STEPS = 16
"""Steps whose positions are looked up at once."""


class Batch(NamedTuple):
    """What the rows of a stack see at one step."""

    inputs: Tensor  # [R, B, ...] standardised
    targets: Tensor  # [R, B, ...] raw
    position: Tensor  # [R, B] in the training split


class Maps(Protocol):
    """What losses and weightings have to know of the rows' data beyond a batch."""

    @property
    def shift(self) -> Tensor:
        """`[R, 1, D]`, of the targets' affine maps."""

    @property
    def scale(self) -> Tensor:
        """`[R, 1, D]`, the same."""

    @property
    def class_counts(self) -> Tensor | None:
        """`[R, 1, C]`."""

    def weights_at(self, position: Tensor, rows: slice) -> Tensor | None:
        """The data's own weights."""


class Feed(nn.Module):
    """Raw tables, and per distinct variant `V` an index into them and an affine map. Nothing is `[R, N, ...]`.

    Targets and their maps stay in float64, and inputs are centred before they are rounded to float32: a large offset
    (years, temperatures in kelvin) would else eat the digits that tell rows apart.
    """

    inputs: Tensor
    targets: Tensor
    variant: Tensor
    order: Tensor
    test: Tensor
    centre: Tensor
    inverse: Tensor
    shift: Tensor
    scale: Tensor
    class_counts: Tensor | None
    weights: Tensor | None

    def __init__(self, prepared: Prepared) -> None:
        super().__init__()
        self.offset, _ = standardisation(prepared.inputs)
        self.order_seeds, order = _distinct(prepared.orders)
        by_id = {id(v): v for v in prepared.variants}  # arrays do not compare to one truth value
        ids, of = _distinct([id(v) for v in prepared.variants])
        variants = [by_id[i] for i in ids]
        self._keep("inputs", (prepared.inputs - self.offset).astype(np.float32))
        self._keep("targets", prepared.targets)
        self._keep("order", np.array(order))
        self._keep("variant", np.array(of))
        self._keep("test", prepared.test)
        self._keep_splits(variants)
        self._keep_maps(variants, of)

    def _keep(self, name: str, values: Array) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)), persistent=False)

    def _keep_splits(self, variants: list[Variant]) -> None:
        for part in ("train", "validation"):
            splits = [getattr(v, part) for v in variants]
            self._keep(f"{part}_inputs", np.stack([s.inputs for s in splits]))
            self._keep(f"{part}_targets", np.stack([s.targets for s in splits]))

    def _keep_maps(self, variants: list[Variant], of: list[int]) -> None:
        def rows(values: list[Array]) -> Array:
            return np.stack(values)[of][:, None]  # [R, 1, ...]: broadcasts over the batch

        self._keep("centre", rows([v.centre - self.offset for v in variants]).astype(np.float32))
        self._keep("inverse", rows([1 / v.spread for v in variants]).astype(np.float32))
        self._keep("shift", rows([v.shift for v in variants]))
        self._keep("scale", rows([v.scale for v in variants]))
        self.register_buffer("class_counts", None, persistent=False)
        counts = [v.class_counts for v in variants if v.class_counts is not None]
        if counts:
            self._keep("class_counts", rows(counts).astype(np.float32))
        self.register_buffer("weights", None, persistent=False)
        weights = [v.weights for v in variants if v.weights is not None]
        if weights:
            self._keep("weights", np.stack(weights))

    @property
    def scaling(self) -> Scaling:
        """The targets' affine maps, `[R, 1, D]`."""
        return Scaling(self.shift, self.scale)

    def _standardised(self, index: Tensor) -> Tensor:
        inputs = self.inputs.index_select(0, index.flatten()).unflatten(0, index.shape)
        return inputs.sub_(self.centre).mul_(self.inverse)

    def _targets(self, index: Tensor) -> Tensor:
        return self.targets.index_select(0, index.flatten()).unflatten(0, index.shape)

    def batches(self, block: Tensor) -> Iterator[Batch]:
        """The training batches at positions `[K, S, B]` of each order stream, for K steps."""
        for positions in block.split(STEPS):
            position = positions.index_select(1, self.order)  # [k, R, B]
            indices = [self._in_table(f"train_{n}", position) for n in ("inputs", "targets")]
            for inputs, targets, places in zip(*indices, position, strict=True):
                yield Batch(self._standardised(inputs), self._targets(targets), places)

    def _in_table(self, name: str, position: Tensor) -> Tensor:
        """Numbers of the table's rows for positions `[k, R, B]` in a split."""
        split = self.get_buffer(name)  # [V, N]
        # one index into all variants' numbers: a pair of indices takes three times as long
        flat = (position + self.variant[:, None] * split.shape[1]).flatten()
        return split.flatten().index_select(0, flat).unflatten(0, position.shape)

    def weights_at(self, position: Tensor, rows: slice) -> Tensor | None:
        """The data's own weights at positions `[r, B]` of the training splits of `rows`."""
        return None if self.weights is None else self.weights[self.variant[rows, None], position]

    def size(self, split: str) -> int:
        """How many examples a split has."""
        return len(self.test) if split == "test" else int(self.get_buffer(f"{split}_inputs").shape[1])

    def examples(self, split: str, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Examples start to stop of "validation" or "test" for every row: inputs standardised, targets raw."""
        if split == "test":
            index = self.test[start:stop].expand(len(self.variant), -1)
            return self._standardised(index), self._targets(index)
        inputs, targets = (self.get_buffer(f"{split}_{n}")[self.variant, start:stop] for n in ("inputs", "targets"))
        return self._standardised(inputs), self._targets(targets)


def _distinct(values: Sequence[T]) -> tuple[list[T], list[int]]:
    """The distinct values in order of appearance, and the place of each value among them."""
    places: dict[T, int] = {}
    of = [places.setdefault(v, len(places)) for v in values]
    return list(places), of
