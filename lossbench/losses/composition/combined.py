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
"""Value of `outputs` that makes one such term per output."""


@dataclass(frozen=True)
class Term:
    """One loss of a combination, its weight, and its outputs (names or numbers; none stand for all)."""

    loss: Loss
    label: str
    weight: float = 1.0
    outputs: tuple[str | int, ...] | str = ()

    def __post_init__(self) -> None:
        check_nonnegative(self, weight=self.weight)
        is_list = isinstance(self.outputs, tuple) and all(
            isinstance(x, str | int) and not isinstance(x, bool) for x in self.outputs
        )
        if self.outputs != EACH and not is_list:
            raise InvalidValue(f"outputs must be a list of names or numbers, or {EACH}. Got {self.outputs!r} instead.")


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
        # 1. parse the terms; their facts become those of this instance, and a stacked copy keeps both
        parsed = tuple(_parse_term(term) for term in self.terms)
        self.__dict__.update(_merge_facts([term.loss for term in parsed]), parsed_terms=parsed)
        # 2. an output is one number, so two terms must not take it for a value and a log rate, say
        for i, term in enumerate(parsed):
            for other in parsed[:i]:
                if _share_outputs(term, other) and get_reading(term.loss.space) != get_reading(other.loss.space):
                    raise InvalidValue(
                        f"{other.label} reads the output as {other.loss.space}, and {term.label} as {term.loss.space}: "
                        "no output can be both. Give them different outputs."
                    )

    def __hash__(self) -> int:
        return hash(repr(self))

    def __call__(self, prediction: Tensor, target: Tensor, **requires: Any) -> Tensor:
        """Return the sum, for terms that take the same prediction and target."""
        terms = self.parsed_terms
        if len({(t.loss.space, t.loss.encoding) for t in terms}) > 1 or any(t.outputs for t in terms):
            raise InvalidValue(
                "Terms that take different predictions, targets or outputs can only be combined in an experiment, "
                "where the task converts: "
                + "; ".join(f"{t.label} takes {t.loss.space} and {t.loss.encoding}" for t in terms)
            )
        if any(Requirement.STATE in t.loss.requires for t in terms):
            raise InvalidValue("A loss that carries a state can only be combined in an experiment.")
        values = [t.loss(prediction, target, **_select_required(i, t.loss, requires)) for i, t in enumerate(terms)]
        return sum_weighted(values, [t.weight for t in terms], prediction.shape[:-1])

    @property
    def parsed_terms(self) -> tuple[Term, ...]:
        """The terms as losses with weights and outputs, in the order of `terms`."""
        terms: tuple[Term, ...] = self.__dict__["parsed_terms"]
        return terms

    def init_parameters(self, problem: Problem, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the parameters of all terms; `term0_alpha_logit` belongs to the first one."""
        by_term = [term.loss.init_parameters(problem, generator) for term in self.parsed_terms]
        return {f"term{i}_{name}": tensor for i, tensors in enumerate(by_term) for name, tensor in tensors.items()}

    def check(self, targets: Array, problem: Problem) -> None:
        """Raise `Incompatible` for outputs that do not exist or have no loss, or that a term cannot learn from."""
        terms = list(self.expand_terms(problem))
        # 1. each term can learn from its targets
        for (term, columns), (_, part) in zip(terms, self.split_parts(targets, problem), strict=True):
            term.loss.check(part, narrow_problem(problem, columns))
        # 2. each output has a term
        trained = {column for _, columns in terms for column in columns or range(problem.n_outputs)}
        if left := set(range(problem.n_outputs)) - trained:
            names = [str(problem.class_names[i] if problem.class_names else i) for i in sorted(left)]
            raise Incompatible(f"no term trains output {', '.join(names)}: give it one, or 'outputs: {EACH}' to one.")

    def split_parts(self, targets: Array, problem: Problem) -> list[tuple[Loss, Array]]:
        """Return the terms' losses, each with its targets."""
        terms = self.expand_terms(problem)
        return [(t.loss, targets[..., list(columns)] if columns else targets) for t, columns in terms]

    def expand_terms(self, problem: Problem) -> Iterator[tuple[Term, tuple[int, ...]]]:
        """Yield the terms with the numbers of their outputs, none for all; `each` becomes one term per output."""
        for term in self.parsed_terms:
            if term.outputs == EACH:
                for i in range(problem.n_outputs):
                    yield replace(term, outputs=(i,)), (i,)
            else:
                yield term, tuple(_find_output(output, problem) for output in term.outputs)


def sum_weighted(values: Sequence[Tensor], weights: Sequence[Any], shape: torch.Size) -> Tensor:
    """Sum values `[..., B]`; if some are batch-level, `[...]`, take the means over the batch of the others first."""
    if any(v.shape != shape for v in values):
        values = [v.mean(-1) if v.shape == shape else v for v in values]
    return torch.stack([w * v for w, v in zip(weights, values, strict=True)]).sum(0)


def narrow_problem(problem: Problem, columns: tuple[int, ...]) -> Problem:
    """Return the problem with some of the outputs only; with all of them if `columns` is empty."""
    if not columns:
        return problem
    names = tuple(problem.class_names[i] for i in columns) if problem.class_names else ()
    return replace(problem, n_outputs=len(columns), class_names=names)


def _parse_term(spec: Any) -> Term:
    if isinstance(spec, str):
        spec = {"name": spec}
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        raise InvalidValue(
            f"A term must be a loss's name, or a mapping with its name and fields. Got {spec!r} instead."
        )
    fields = dict(spec)
    name, weight, outputs = fields.pop("name"), fields.pop("weight", 1.0), fields.pop("outputs", ())
    outputs = tuple(outputs) if isinstance(outputs, Sequence) and not isinstance(outputs, str) else outputs
    return Term(registry.losses.get(name, **fields), name, weight, outputs)


def _merge_facts(losses: Sequence[Loss]) -> dict[str, Any]:
    # 1. one head that all can be trained with: a linear one goes with any other but an embedding
    heads = {x.head for x in losses} - {Head.LINEAR}
    if len(heads) > 1 or (Head.EMBEDDING in heads and any(x.head is not Head.EMBEDDING for x in losses)):
        raise InvalidValue(f"Terms must agree on a head. Got {', '.join(sorted({x.head for x in losses}))}.")
    # 2. the tasks that all fit; "*" fits any
    limits = [x.tasks for x in losses if "*" not in x.tasks] or [("*",)]
    tasks = tuple(task for task in limits[0] if all(task in limit for limit in limits))
    if not tasks:
        raise Incompatible(f"No task fits all terms: they are for {'; '.join(' and '.join(x) for x in limits)}.")
    # 3. a sum of convex (bounded, robust) losses is so too; for any other sum nothing is claimed
    return {
        "tasks": tasks,
        "space": losses[0].space,
        "encoding": losses[0].encoding,
        "head": next(iter(heads), Head.LINEAR),
        "requires": tuple(dict.fromkeys(requirement for x in losses for requirement in x.requires)),
        "batch_level": any(x.batch_level for x in losses),
        "convex": True if all(x.convex for x in losses) else None,
        "bounded": True if all(x.bounded for x in losses) else None,
        "robust": True if all(x.robust for x in losses) else None,
    }


def _share_outputs(first: Term, second: Term) -> bool:
    if not first.outputs or not second.outputs or EACH in (first.outputs, second.outputs):
        return True
    return bool(set(first.outputs) & set(second.outputs))


def _find_output(output: str | int, problem: Problem) -> int:
    names = problem.class_names
    if isinstance(output, str) and output in names:
        return names.index(output)
    if isinstance(output, int) and 0 <= output < problem.n_outputs:
        return output
    known = [*names, *map(str, range(problem.n_outputs))]
    raise Incompatible(str(make_unknown("output", str(output), known, "Outputs")))


def _select_required(i: int, loss: Loss, requires: Mapping[str, Any]) -> dict[str, Any]:
    """Select what the term at `i` requires from what all terms require."""
    selected = {str(n): requires[n] for n in loss.requires}
    if Requirement.PARAMETERS in loss.requires:
        start = f"term{i}_"
        selected["parameters"] = {
            n.removeprefix(start): t for n, t in requires["parameters"].items() if n.startswith(start)
        }
    return selected
