"""The contract: the list of all checks, and a function that runs them on one loss."""

from collections.abc import Sequence

from lossbench.check import batches, declaration, gradients, performance, properties, right_and_wrong, values
from lossbench.check.contract import Check, Result
from lossbench.check.external_wrapper import wrap_external
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
            batches.fields_may_differ_by_replica,
            batches.broadcasting_is_refused,
            gradients.gradient_is_that_of_the_value,
            gradients.extremes_are_finite,
            gradients.extremes_are_finite_in_bfloat16,
            gradients.finite_values_have_gradients,
            right_and_wrong.right_beats_wrong,
            right_and_wrong.certainty_does_not_fall_forever,
            properties.convex_as_claimed,
            properties.bounded_as_claimed,
            properties.robust_as_claimed,
            properties.symmetric_as_claimed,
            performance.route_through_a_stack,
            performance.time_per_element,
        ),
    )
)
"""All checks, in the order in which they run."""


def check_loss(loss: Loss, checks: Sequence[Check] = CHECKS) -> list[Result]:
    """Run the contract on one loss, in seconds. Nothing is raised: whatever goes wrong is a failed result.

    An `External` that takes only one output, or float32, gets that (see `lossbench.check.external_wrapper`).

    >>> import lossbench.losses
    >>> [r.check for r in check_loss(lossbench.losses.get("huber")) if r.status == "failed"]
    []
    """
    wrapped = wrap_external(loss)
    # a wrapper has no fields and docstring of its own to check
    return [check.run(loss if check.function.__module__ == declaration.__name__ else wrapped) for check in checks]
