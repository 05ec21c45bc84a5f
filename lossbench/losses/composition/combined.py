"""Several losses at once: their weighted sum, each on all outputs or on some."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lossbench import registry
from lossbench.errors import Incompatible, InvalidValue, make_unknown
from lossbench.interfaces import Loss
from lossbench.interfaces.spaces import get_reading
from lossbench.types import Array, Head, Problem, Requirement
from lossbench.validation import check_nonnegative

EACH = "each"
"""As `outputs` of a term: one such term per output."""


@dataclass(frozen=True)
class Term:
    """One loss of a combination: its weight, and the outputs that it is taken of (names or numbers; all, if none)."""

    loss: Loss
    label: str
    weight: float = 1.0
    outputs: tuple[str | int, ...] | str = ()

    def __post_init__(self) -> None:
        check_nonnegative(self, weight=self.weight)
        given = self.outputs
        named = isinstance(given, tuple) and all(isinstance(x, str | int) and not isinstance(x, bool) for x in given)
        if given != EACH and not named:
            raise InvalidValue(f"outputs must be a list of names or numbers, or {EACH}. Got {given!r} instead.")


@dataclass(frozen=True)
class Combined(Loss):
    r"""The weighted sum of several losses, each of all outputs or of some: one loss for several goals.

    .. math:: \ell = \sum_k w_k\, \ell_k

    terms: a list of losses, each a name, or a mapping of its name, its fields, a ``weight`` :math:`w_k` (1) and
    ``outputs``: names or numbers of the targets (of the labels) that it is taken of, or ``each`` for one such term per
    output; all outputs if there are none. In an experiment each term is given its own space and encoding, and
    ``weighting=uncertainty``, ``dwa``, ``random``, ``gradnorm`` or ``pcgrad`` weighs the terms as training goes; called
    directly, all terms must share both. prediction, target: as the terms take them. Returns ``[...]``, in the terms'
    units; one value per batch if one of them couples its examples. Raises `InvalidValue` if there are no terms, or if
    two of them read the same output as different things (a value and a log rate).
    Reference: Caruana, Multitask Learning, 1997, https://doi.org/10.1023/A:1007379606734

    >>> import torch
    >>> both = Combined(terms=["mse", {"name": "mae", "weight": 0.5}])
    >>> both(torch.tensor([[2.0]]), torch.zeros(1, 1))
    tensor([5.])
    """

    family = "composition"
    tasks = ("*",)  # of an instance: those that all terms fit
    has_terms = True
    aliases = (
        "a sum of losses",
        "compound loss",
        "multi-task loss",
        "monai.losses.DiceCELoss: of dice and cross_entropy",
    )
    use_when = "one loss does not say all that is wanted, or several outputs have losses of their own"
    pitfall = (
        "the terms' units differ: what a weight of 1 means depends on them, so tune the weights as equally as rates"
    )
    terms: Any

    def __post_init__(self) -> None:
        if not isinstance(self.terms, Sequence) or isinstance(self.terms, str) or not self.terms:
            raise InvalidValue(
                "The 'terms' parameter of Combined must be a list of losses, such as [mse, {name: mae, weight: 0.5}]. "
                f"Got {self.terms!r} instead."
            )
        made = tuple(_term(one) for one in self.terms)
        # facts of this instance, which a stacked copy keeps
        self.__dict__.update(_facts([term.loss for term in made]), made=made)
        _check_readings(made)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __call__(self, prediction: Tensor, target: Tensor, **requires: Any) -> Tensor:
        """The sum, for terms that take the same prediction and target."""
        self._check_direct()
        values = [term.loss(prediction, target, **_own(i, term.loss, requires)) for i, term in enumerate(self.made)]
        return weighted_sum(values, [term.weight for term in self.made], prediction.shape[:-1])

    @property
    def made(self) -> tuple[Term, ...]:
        """The terms as they were given."""
        found: tuple[Term, ...] = self.__dict__["made"]
        return found

    def init_parameters(self, problem: Problem, generator: torch.Generator) -> dict[str, Tensor]:
        """Those of all terms, `term0_alpha_logit` being the first one's."""
        made = [term.loss.init_parameters(problem, generator) for term in self.made]
        return {f"term{i}_{name}": tensor for i, own in enumerate(made) for name, tensor in own.items()}

    def check(self, targets: Array, problem: Problem) -> None:
        """Raise `Incompatible` for outputs that do not exist or have no loss, or that a term cannot learn from."""
        terms = list(self.resolved(problem))
        for (term, columns), (_, own) in zip(terms, self.split_parts(targets, problem), strict=True):
            term.loss.check(own, narrow_problem(problem, columns))
        seen = {column for _, columns in terms for column in columns or range(problem.n_outputs)}
        if left := set(range(problem.n_outputs)) - seen:
            names = [str(problem.class_names[i] if problem.class_names else i) for i in sorted(left)]
            raise Incompatible(f"no term trains output {', '.join(names)}: give it one, or 'outputs: {EACH}' to one.")

    def split_parts(self, targets: Array, problem: Problem) -> list[tuple[Loss, Array]]:
        """The terms' losses, each with those of the targets that it is taken of."""
        return [(t.loss, targets[..., list(columns)] if columns else targets) for t, columns in self.resolved(problem)]

    def resolved(self, problem: Problem) -> Iterator[tuple[Term, tuple[int, ...]]]:
        """The terms with the numbers of their outputs, none for all; `each` becomes as many terms."""
        for term in self.made:
            if term.outputs == EACH:
                for i in range(problem.n_outputs):
                    yield replace(term, outputs=(i,)), (i,)
            else:
                yield term, tuple(_number(output, problem) for output in term.outputs)

    def _check_direct(self) -> None:
        losses = [term.loss for term in self.made]
        if len({(x.space, x.encoding) for x in losses}) > 1 or any(term.outputs for term in self.made):
            raise InvalidValue(
                "Terms that take different predictions, targets or outputs can only be combined in an experiment, "
                "where the task converts: "
                + "; ".join(f"{t.label} takes {t.loss.space} and {t.loss.encoding}" for t in self.made)
            )
        if any(Requirement.STATE in x.requires for x in losses):
            raise InvalidValue("A loss that carries a state can only be combined in an experiment.")


def weighted_sum(values: Sequence[Tensor], weights: Sequence[Any], shape: torch.Size) -> Tensor:
    """The sum of values `[..., B]`, or `[...]` of batch-level losses, which turn all into means over the batch."""
    if any(v.shape != shape for v in values):
        values = [v.mean(-1) if v.shape == shape else v for v in values]
    return torch.stack([w * v for w, v in zip(weights, values, strict=True)]).sum(0)


def narrow_problem(problem: Problem, columns: tuple[int, ...]) -> Problem:
    """The problem of some outputs; the whole one if there are none."""
    if not columns:
        return problem
    names = tuple(problem.class_names[i] for i in columns) if problem.class_names else ()
    return replace(problem, n_outputs=len(columns), class_names=names)


def _term(given: Any) -> Term:
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise InvalidValue(
            f"A term must be a loss's name, or a mapping with its name and fields. Got {given!r} instead."
        )
    own = dict(given)
    name, weight, outputs = own.pop("name"), own.pop("weight", 1.0), own.pop("outputs", ())
    outputs = tuple(outputs) if isinstance(outputs, Sequence) and not isinstance(outputs, str) else outputs
    return Term(registry.losses.get(name, **own), name, weight, outputs)


def _facts(losses: Sequence[Loss]) -> dict[str, Any]:
    heads = {x.head for x in losses} - {Head.LINEAR}
    if len(heads) > 1 or (Head.EMBEDDING in heads and any(x.head is not Head.EMBEDDING for x in losses)):
        raise InvalidValue(f"Terms must agree on a head. Got {', '.join(sorted({x.head for x in losses}))}.")
    return {
        "tasks": _common_tasks(losses),
        "space": losses[0].space,
        "encoding": losses[0].encoding,
        "head": next(iter(heads), Head.LINEAR),
        "requires": tuple(dict.fromkeys(need for x in losses for need in x.requires)),
        "batch_level": any(x.batch_level for x in losses),
        "convex": True if all(x.convex for x in losses) else None,
        "bounded": True if all(x.bounded for x in losses) else None,
        "robust": True if all(x.robust for x in losses) else None,
    }


def _common_tasks(losses: Sequence[Loss]) -> tuple[str, ...]:
    bound = [x.tasks for x in losses if "*" not in x.tasks] or [("*",)]
    if not (common := tuple(task for task in bound[0] if all(task in tasks for tasks in bound))):
        raise Incompatible(f"No task fits all terms: they are for {'; '.join(' and '.join(x) for x in bound)}.")
    return common


def _check_readings(terms: Sequence[Term]) -> None:
    for i, one in enumerate(terms):
        for other in terms[:i]:
            if _overlap(one, other) and get_reading(one.loss.space) != get_reading(other.loss.space):
                raise InvalidValue(
                    f"{other.label} reads the output as {other.loss.space}, and {one.label} as {one.loss.space}: no "
                    "output can be both. Give them different outputs."
                )


def _overlap(one: Term, other: Term) -> bool:
    if not one.outputs or not other.outputs or EACH in (one.outputs, other.outputs):
        return True
    return bool(set(one.outputs) & set(other.outputs))


def _number(output: str | int, problem: Problem) -> int:
    names = problem.class_names
    if isinstance(output, str) and output in names:
        return names.index(output)
    if isinstance(output, int) and 0 <= output < problem.n_outputs:
        return output
    known = [*names, *map(str, range(problem.n_outputs))]
    raise Incompatible(str(make_unknown("output", str(output), known, "Outputs")))


def _own(i: int, loss: Loss, requires: Mapping[str, Any]) -> dict[str, Any]:
    """What the term at `i` needs, of what all need."""
    found = {str(n): requires[n] for n in loss.requires}
    if Requirement.PARAMETERS in loss.requires:
        start = f"term{i}_"
        found["parameters"] = {
            n.removeprefix(start): t for n, t in requires["parameters"].items() if n.startswith(start)
        }
    return found
