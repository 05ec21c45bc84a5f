"""The order of examples: for each stream an endless sequence of permutations, cut into batches."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor


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
