"""What losses are called with in tests: the samples of `lossbench.check`, to which new spaces and encodings go."""

from lossbench.check.samples import PAIRS, PROBLEM, B, C, Call, N, boxes, call_for, extremes, stack, tokens

__all__ = ["PAIRS", "PROBLEM", "B", "C", "Call", "N", "boxes", "call_for", "extremes", "stack", "tokens"]
