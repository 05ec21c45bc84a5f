"""Checks that measure: the route of a loss through a stack, and its time."""

import time

import torch

from lossbench.check.batches import R, vary_fields
from lossbench.check.calls import draw_call, stack_calls
from lossbench.check.contract import CheckFailed, NotApplicable, is_built_in
from lossbench.interfaces.loss import Loss
from lossbench.interfaces.samples import B
from lossbench.training.routes import choose_route

LOOPING = frozenset({"External", "ExternalWrapper"})
"""Reviewed classes of built-in losses that need a call per replica: the code they call is not lossbench's."""
EXAMPLES = 8192
BATCH_LEVEL_EXAMPLES = 120  # some losses take all triples, or need halves or thirds
REPEATS = 3


def route_through_a_stack(loss: Loss) -> str:
    """Replicas that differ share a call: broadcast, fold, vmap, or else one call per replica (loop)."""
    equal = _choose_route([loss] * R)
    try:
        replicas = vary_fields(loss)
    except NotApplicable:
        return equal
    different = _choose_route(replicas)
    return equal if different == equal else f"{equal}; {different} where fields differ"


def _choose_route(replicas: list[Loss]) -> str:
    call = stack_calls([draw_call(replica, seed) for seed, replica in enumerate(replicas)])
    route = choose_route(replicas, call.prediction, call.target, call.requires)
    if route == "loop" and is_built_in(replicas[0]) and type(replicas[0]).__name__ not in LOOPING:
        raise CheckFailed("got loop, one call per replica, expected broadcast, fold or vmap")
    return route


def time_per_element(loss: Loss) -> str:
    """Value and gradient in float32 on one batch: a measurement that never fails."""
    n = BATCH_LEVEL_EXAMPLES if loss.batch_level else EXAMPLES
    call = draw_call(loss).to(torch.float32).select(torch.arange(n) % B)
    prediction = call.prediction.requires_grad_()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call.evaluate(loss).sum().backward()
        seconds.append(time.perf_counter() - start)
    # the fastest run is the least disturbed one
    return f"{1e9 * min(seconds) / prediction.numel():.3g} ns per element"
