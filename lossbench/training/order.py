"""The order of examples: for each stream an endless sequence of permutations, cut into batches."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


class Order:
    """Batches of positions `[S, B]` in the training split, one stream per distinct order seed.

    Every epoch of a stream is a new permutation, drawn from (seed, epoch) alone, so any step can be resumed at. A
    batch may span two epochs: there is no partial batch. With fewer examples than the batch, the batch is all of them.
    """

    def __init__(self, seeds: Sequence[int], n_examples: int, batch_size: int, steps: int) -> None:
        self.seeds, self.n, self.batch = list(seeds), n_examples, min(batch_size, n_examples)
        self.steps, self.start = steps, 0

    def permutations(self, epoch: int) -> Tensor:
        """One permutation per stream, `[S, N]`."""
        generator = torch.Generator()
        rows = [torch.randperm(self.n, generator=generator.manual_seed(seed + epoch)) for seed in self.seeds]
        return torch.stack(rows)

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[Tensor]:
        epoch, window = -1, torch.empty(0)
        for step in range(self.start, self.steps):
            now, offset = divmod(step * self.batch, self.n)
            if now != epoch:
                epoch = now
                window = torch.cat([self.permutations(now), self.permutations(now + 1)], 1)
            yield window[:, offset : offset + self.batch]
