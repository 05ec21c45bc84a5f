"""Value and gradient of every loss on a million elements, beside torch's or torchvision's where they have one.

Both sides run in turns in one process of one thread, forward and backward, ours per example and then the mean, theirs
with reduction="mean". Times are medians over the turns, in milliseconds of processor time, which other work on the
machine changes little; the ratio is the median of the turns' ratios. "Held" is what is kept for the backward pass, in
MB. Losses that look at pairs or triplets of a batch get batches whose pairs or triplets are about a million.

    python scripts/bench_losses.py [--turns 15] [--losses mse huber ...] [--rivals] [--markdown] [--default-malloc]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F
from torchvision import ops

from lossbench import losses, registry
from lossbench.interfaces import Loss
from lossbench.registry import list_required
from lossbench.training.run import disable_heap_trimming
from lossbench.types import EMBEDDING_WIDTH, PADDING, Encoding, Problem, Requirement, Space

N, C = 1_000_000, 10
STEPS, TOKENS, LONGEST = 40, 100, 12
LIMIT = 1.3
"""Ours may take this many times as long as the other."""
PAIRS, TRIPLETS = {"binary": (1000, 1), "multilabel": (100, 10), "embedding": (1000, 32)}, (100, 32)
Side = Callable[[], Tensor]


class Call(NamedTuple):
    """What a loss is called with."""

    prediction: Tensor
    target: Tensor
    requires: dict[str, Any]


def shape_of(loss: Loss, name: str) -> tuple[int, ...]:
    """A prediction of a million elements, or one whose pairs are a million."""
    if name == "triplet":
        return TRIPLETS
    if name == "auc_margin" or loss.tasks[0] == "embedding":
        return PAIRS[loss.tasks[0]]
    return {
        Space.EMBEDDING: (N // EMBEDDING_WIDTH, EMBEDDING_WIDTH),
        Space.SEQUENCE_LOGIT: (N // STEPS // TOKENS, STEPS, TOKENS),
        Space.NEXT_TOKEN: (N // STEPS // TOKENS, STEPS, TOKENS),
        Space.BOX_XYXY: (N // 4, 4),
        Space.PAIR_SCORE: (N // 2, 2),
        Space.LIST_SCORE: (N // C**2, C),
        Space.MEAN_LOG_SCALE: (N // 2, 2),
        Space.ZERO_INFLATED: (N // 2, 2),
    }.get(loss.space, (N // 4, 4) if "boxes" in loss.tasks and name == "l1" else _flat(loss))


def _flat(loss: Loss) -> tuple[int, ...]:
    return (N, 1) if loss.tasks[0] in {"regression", "boxes"} or loss.tasks == ("binary",) else (N // C, C)


def boxes(raw: Tensor) -> Tensor:
    """Corners of boxes about the origin, most of which overlap."""
    centre, size = raw[:, :2] / 2, 0.3 + raw[:, 2:].abs()
    return torch.cat([centre - size / 2, centre + size / 2], 1)


def in_space(raw: Tensor, loss: Loss) -> Tensor:
    """What the loss may be given."""
    if loss.space == Space.LOG_PROBABILITY:
        return raw.log_softmax(-1)
    if loss.space == Space.PROBABILITY:
        return raw.softmax(-1) if loss.encoding == Encoding.ONE_HOT else raw.sigmoid()
    return {Space.POSITIVE: F.softplus, Space.BOX_XYXY: boxes}.get(loss.space, lambda x: x)(raw)


def target_of(loss: Loss, shape: tuple[int, ...]) -> Tensor:
    """Random targets in the loss's encoding."""
    *lead, width = shape
    width = width // 2 if loss.space in {Space.MEAN_LOG_SCALE, Space.ZERO_INFLATED} else width
    value = torch.randn(*lead, width)
    n_classes = TOKENS if loss.space in {Space.SEQUENCE_LOGIT, Space.NEXT_TOKEN} else C
    index = torch.randint(n_classes, lead)
    hot = F.one_hot(torch.randint(width, lead), width).float() if loss.encoding in ONE_HOT else value
    return {
        Encoding.POSITIVE: value.exp().floor(),
        Encoding.ABOVE_ZERO: value.exp(),
        Encoding.INDEX: index,
        Encoding.ONE_HOT: hot,
        Encoding.MULTI_HOT: (value > 0).float(),
        Encoding.SIGNED: value.sign(),
        Encoding.BOX_XYXY: boxes(value) if width == 4 else value,
        Encoding.TOKENS: transcripts(lead[0]),
        Encoding.SEQUENCE: index,
        Encoding.RELEVANCE: torch.randint(3, (*lead, width)).float(),
        Encoding.ORDER: value[..., 0].sign(),
        Encoding.TEACHER: torch.stack([value, hot], -2),
    }.get(loss.encoding, value)


ONE_HOT = {Encoding.ONE_HOT, Encoding.TEACHER}


def transcripts(n: int) -> Tensor:
    """`[n, S]` tokens, half of the longest to the longest."""
    lengths = torch.randint(LONGEST // 2, LONGEST + 1, (n, 1))
    return torch.where(torch.arange(LONGEST) < lengths, torch.randint(1, TOKENS, (n, LONGEST)), PADDING)


def call_of(loss: Loss, name: str) -> Call:
    """One call, drawn anew but the same each time."""
    torch.manual_seed(0)
    shape = shape_of(loss, name)
    n_outputs = C if loss.space == Space.EMBEDDING else shape[-1]
    problem = Problem(input_shape=(1,), n_outputs=n_outputs, n_examples=shape[0])
    state = loss.init_state(problem)
    given = {
        Requirement.CLASS_COUNTS: torch.randint(1, 50, (1, C)),
        Requirement.RESIDUAL_SCALE: torch.ones(1, 1),
        Requirement.PARAMETERS: loss.init_parameters(problem, torch.Generator().manual_seed(0)),
        Requirement.STATE: None if state is None else state + 0.05,
        Requirement.INDEX: torch.arange(shape[0]),
        Requirement.PROGRESS: 0.5,
    }
    prediction = in_space(torch.randn(shape), loss).requires_grad_()
    return Call(prediction, target_of(loss, shape), {str(n): given[n] for n in loss.requires})


def ours(loss: Loss, call: Call) -> Side:
    """The mean of our losses."""

    def run() -> Tensor:
        values = loss(call.prediction, call.target, **call.requires)
        values = values[0] if Requirement.STATE in loss.requires else values
        return values.sum() / values.numel()  # as LossModule does: torch's mean divides each gradient

    return run


def _pairs(p: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    i, j = torch.triu_indices(len(p), len(p), 1)
    return p[i], p[j], 2.0 * (t[i] == t[j]) - 1


def _hinge_embedding(p: Tensor, t: Tensor) -> Tensor:
    one, other, sign = _pairs(p, t)
    return F.hinge_embedding_loss(F.pairwise_distance(one, other), sign)


def _triplets(p: Tensor, t: Tensor) -> Tensor:
    same = t[:, None] == t
    wanted = (same & ~torch.eye(len(t), dtype=torch.bool))[:, :, None] & ~same[:, None]
    anchor, positive, negative = wanted.nonzero(as_tuple=True)
    return F.triplet_margin_loss(p[anchor], p[positive], p[negative])


def _ctc(p: Tensor, t: Tensor) -> Tensor:
    logs = p.log_softmax(-1).transpose(0, 1)
    steps = torch.full((len(t),), STEPS)
    return F.ctc_loss(logs, t.clamp_min(0), steps, (t >= 0).sum(1), reduction="none").mean()


def _next_token(p: Tensor, t: Tensor) -> Tensor:
    return F.cross_entropy(p[:, :-1].reshape(-1, TOKENS), t[:, 1:].reshape(-1))


def _listed(t: Tensor) -> Tensor:
    """Multi-hot targets as torch's margin wants them: a list of indices, then -1."""
    order = t.sort(dim=-1, descending=True, stable=True).indices
    return torch.where(torch.arange(t.shape[-1]) < t.sum(-1, keepdim=True), order, -1)


# what is made of the target alone is made before the clock runs
PREPARED: dict[str, Callable[[Tensor], Tensor]] = {"multilabel_margin": _listed}
RIVALS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": F.mse_loss,
    "mae": F.l1_loss,
    "l1": F.l1_loss,
    "smooth_l1": F.smooth_l1_loss,
    "huber": F.huber_loss,
    "gaussian_nll": lambda p, t: F.gaussian_nll_loss(p[:, :1], t, (2 * p[:, 1:]).exp(), full=True),
    "poisson_nll": F.poisson_nll_loss,
    "bce": F.binary_cross_entropy_with_logits,
    "cross_entropy": F.cross_entropy,
    "nll": F.nll_loss,
    "kl_divergence": lambda p, t: F.kl_div(p, t, reduction="batchmean"),
    "soft_margin": F.soft_margin_loss,
    "multi_margin": F.multi_margin_loss,
    "multilabel_margin": F.multilabel_margin_loss,
    "multilabel_soft_margin": F.multilabel_soft_margin_loss,
    "focal": lambda p, t: ops.sigmoid_focal_loss(p, t, reduction="mean"),
    "giou": lambda p, t: ops.generalized_box_iou_loss(p, t, reduction="mean"),
    "diou": lambda p, t: ops.distance_box_iou_loss(p, t, reduction="mean"),
    "ciou": lambda p, t: ops.complete_box_iou_loss(p, t, reduction="mean"),
    "margin_ranking": lambda p, t: F.margin_ranking_loss(p[:, 0], p[:, 1], t, margin=1.0),
    "cosine_embedding": lambda p, t: F.cosine_embedding_loss(*_pairs(p, t)),
    "hinge_embedding": _hinge_embedding,
    "triplet": _triplets,
    "ctc": _ctc,
    "autoregressive_nll": _next_token,
}


def built_in() -> list[str]:
    """All but what is made of other losses."""
    entries = registry.losses.entries().items()
    return [n for n, e in entries if e.kind.__module__.startswith("lossbench.") and not list_required(e.kind)]


def timed(side: Side, prediction: Tensor) -> float:
    """Milliseconds of processor time of one forward and backward pass: other work on the machine hardly shows."""
    started = time.thread_time()
    torch.autograd.grad(side(), prediction)
    return 1000 * (time.thread_time() - started)


def held(side: Side) -> float:
    """MB kept between forward and backward."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = side()
        del value
    return sum(kept.values()) / 1e6


class Line(NamedTuple):
    """What was measured of one loss."""

    name: str
    shape: tuple[int, ...]
    milliseconds: float
    megabytes: float
    rival: tuple[float, float, float] | None  # milliseconds, megabytes, ratio


def measured(name: str, turns: int) -> Line:
    """Ours and theirs in turns, after one of each that does not count."""
    loss = losses.get(name)
    call = call_of(loss, name)
    sides = [ours(loss, call)]
    if name in RIVALS:
        target = PREPARED.get(name, lambda t: t)(call.target)
        sides.append(lambda: RIVALS[name](call.prediction, target))
        torch.testing.assert_close(*(side() for side in sides), rtol=1e-4, atol=1e-5)
    times = [[timed(side, call.prediction) for side in sides] for _ in range(turns + 1)][1:]
    mine = statistics.median(t[0] for t in times)
    rival = None
    if name in RIVALS:
        ratio = statistics.median(t[0] / t[1] for t in times)
        rival = (statistics.median(t[1] for t in times), held(sides[1]), ratio)
    return Line(name, tuple(call.prediction.shape), mine, held(sides[0]), rival)


def cells(line: Line) -> list[str]:
    """One row of the table."""
    theirs = [f"{line.rival[0]:.2f}", f"{line.rival[1]:.0f}", f"{line.rival[2]:.2f}"] if line.rival else [""] * 3
    size = " x ".join(map(str, line.shape))
    return [line.name, size, f"{line.milliseconds:.2f}", theirs[0], theirs[2], f"{line.megabytes:.0f}", theirs[1]]


HEADINGS = ("loss", "prediction", "ours, ms", "torch, ms", "ratio", "held, MB", "torch, MB")


def show(lines: list[Line], markdown: bool) -> None:
    """The table; above the limit a ratio is red."""
    if markdown:
        for row in (HEADINGS, ("---",) * len(HEADINGS), *map(cells, lines)):
            print("| " + " | ".join(row) + " |")
        return
    table = Table(*HEADINGS)
    for line in lines:
        late = line.rival is not None and line.rival[2] > LIMIT
        table.add_row(*cells(line), style="red" if late else None)
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--losses", nargs="+", default=built_in())
    parser.add_argument("--rivals", action="store_true", help="only those that torch or torchvision has")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--default-malloc", action="store_true", help="memory as in a process that is not ours")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not given.default_malloc:
        disable_heap_trimming()
    names = [n for n in given.losses if n in RIVALS or not given.rivals]
    show([measured(name, given.turns) for name in names], given.markdown)


if __name__ == "__main__":
    main()
