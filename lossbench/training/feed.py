"""The data of a stack on the device, and the batches of its rows."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lossbench.interfaces import Scaling
from lossbench.training.prepare import Prepared, Variant
from lossbench.types import Array


class Batch(NamedTuple):
    """What the rows of a stack see at one step."""

    inputs: Tensor  # [R, B, ...] standardised
    targets: Tensor  # [R, B, ...] raw
    position: Tensor  # [R, B] positions in the training split


class Feed(nn.Module):
    """Raw tables, and per distinct variant `V` an index into them and an affine map. Nothing is `[R, N, ...]`."""

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

    def __init__(self, prepared: Prepared) -> None:
        super().__init__()
        self._keep("inputs", prepared.inputs)
        self._keep("targets", prepared.targets)
        self._keep("variant", np.array(prepared.variant_of))
        self._keep("order", np.array(prepared.order_of))
        self._keep("test", prepared.test)
        for part in ("train", "validation"):
            splits = [getattr(v, part) for v in prepared.variants]
            self._keep(f"{part}_inputs", np.stack([s.inputs for s in splits]))
            self._keep(f"{part}_targets", np.stack([s.targets for s in splits]))
        self._keep_maps(prepared.variants, prepared.variant_of)

    def _keep(self, name: str, values: Array) -> None:
        if np.issubdtype(values.dtype, np.floating):
            values = values.astype(np.float32)  # Lightning raises it to float64 where that is asked for
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)), persistent=False)

    def _keep_maps(self, variants: list[Variant], of: list[int]) -> None:
        def rows(name: str) -> Array:
            values = np.stack([getattr(v, name) for v in variants])
            return values[of][:, None]  # [R, 1, ...]: broadcasts over the batch

        self._keep("centre", rows("centre"))
        self._keep("inverse", 1 / rows("spread"))
        self._keep("shift", rows("shift"))
        self._keep("scale", rows("scale"))
        counted = variants[0].class_counts is not None
        self.register_buffer("class_counts", None, persistent=False)
        if counted:
            self._keep("class_counts", rows("class_counts").astype(np.float32))

    @property
    def scaling(self) -> Scaling:
        """The targets' affine maps, `[R, 1, D]`."""
        return Scaling(self.shift, self.scale)

    def _standardised(self, index: Tensor) -> Tensor:
        rows, batch = index.shape
        inputs = self.inputs.index_select(0, index.flatten()).unflatten(0, (rows, batch))
        return (inputs - self.centre) * self.inverse

    def _targets(self, index: Tensor) -> Tensor:
        return self.targets.index_select(0, index.flatten()).unflatten(0, index.shape)

    def batch(self, positions: Tensor) -> Batch:
        """The training batch at positions `[S, B]` of each order stream."""
        index = positions[self.order]
        inputs, targets = (getattr(self, f"train_{n}")[self.variant[:, None], index] for n in ("inputs", "targets"))
        return Batch(self._standardised(inputs), self._targets(targets), index)

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
