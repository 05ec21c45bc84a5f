"""The contract: all checks, and running them over one loss."""

from collections.abc import Sequence

from lossbench.check import agreement, batches, cost, declaration, facts, gradients, values
from lossbench.check.contract import Check, Result
from lossbench.check.stand_in import make_stand_in
from lossbench.interfaces.loss import Loss

CHECKS: tuple[Check, ...] = tuple(
    map(
        Check,
        (
            declaration.facts_are_declared,
            declaration.docstring_is_complete,
            declaration.fields_are_documented,
            declaration.fields_are_validated,
            declaration.whole_numbers_are_floats,
            values.is_a_value,
            values.pickles,
            values.one_value_per_example,
            values.float32_is_kept,
            values.bfloat16_is_taken,
            values.gradient_reaches_the_prediction,
            values.inputs_are_left_alone,
            values.nothing_is_drawn,
            values.module_is_the_call,
            values.embeddings_give_scores,
            batches.leading_axes_are_free,
            batches.examples_are_independent,
            batches.batch_axis_is_free,
            batches.order_does_not_matter,
            batches.fields_may_differ_by_row,
            batches.broadcasting_is_refused,
            gradients.gradient_is_that_of_the_value,
            gradients.extremes_are_finite,
            gradients.extremes_are_finite_in_bfloat16,
            gradients.finite_values_have_gradients,
            agreement.right_beats_wrong,
            agreement.certainty_does_not_fall_forever,
            facts.convex_as_claimed,
            facts.bounded_as_claimed,
            facts.robust_as_claimed,
            facts.symmetric_as_claimed,
            cost.route_through_a_stack,
            cost.time_per_element,
        ),
    )
)
"""Every demand on a loss."""


def check_loss(loss: Loss, checks: Sequence[Check] = CHECKS) -> list[Result]:
    """Run the contract over one loss, in seconds. Nothing is raised: whatever goes wrong is a failed result.

    An External that takes but one output, or float32, is given that: see `stand_in`.

    >>> import lossbench.losses
    >>> [r.check for r in check_loss(lossbench.losses.get("huber")) if r.status == "failed"]
    []
    """
    called = make_stand_in(loss)
    return [check.run(loss if check.function.__module__ == declaration.__name__ else called) for check in checks]
