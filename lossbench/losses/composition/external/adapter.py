"""The adapter that turns a class or function of another library into a `Loss`."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from inspect import Parameter
from typing import Any, ClassVar, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from lossbench.errors import InvalidValue
from lossbench.interfaces.encodings import DEFAULT_ENCODING, ENCODINGS, EncodingFacts
from lossbench.interfaces.loss import Loss
from lossbench.interfaces.spaces import DEFAULT_SPACE, SPACES, SpaceFacts
from lossbench.losses.composition.external import imports, results, roles
from lossbench.types import Encoding, Head, Problem, Requirement, Space
from lossbench.validation import check_choice, check_count, check_switch

LAYOUTS = ("last", "first", "steps")
REDUCTIONS = ("none", "keep", "each")
OPEN: Mapping[str, Any] = {
    "space": DEFAULT_SPACE,
    "encoding": DEFAULT_ENCODING,
    "arguments": list(roles.USUAL),
    "layout": "last",
    "axes": 0,
    "reduction": "none",
    "batch_level": False,
    "entry": "",
}
"""Fields that may be left open, and their values unless others are inferred."""

S = TypeVar("S", bound=StrEnum)


@dataclass(frozen=True)
class _Built:
    # no part of an External's value: any two compare equal, so those who compare attributes see no difference
    instance: Any = field(compare=False)


@dataclass(frozen=True)
class External(Loss):
    r"""Any existing loss, unchanged: a class (``torch.nn.HuberLoss``) or a function, found by its import path.

    .. math:: \ell = \text{target}(\text{params})(\text{arguments})

    ``params`` go to a class's constructor, or with each call to a function; a list of numbers becomes a tensor where
    the parameter is annotated as one or is called ``weight`` or ``pos_weight``. ``method``: what is called of the
    instance, ``forward`` unless it is said.

    In an experiment, fields that are left open (None) are inferred from the names of the arguments and from calls on
    random data of the task. The result is reported and recorded, and can be set.
    ``space`` and ``encoding``: of its predictions and targets; left open, what
    the task's default loss takes, or else the first that it can be called with. ``arguments``: the call's, in order, of
    prediction, target, embedding, residual, input_lengths, target_lengths; by keyword as ``labels=target``. ``layout``:
    where the classes are of sequences, ``last`` as ``[N, T, C]``, ``first`` as ``[N, C, T]``, ``steps`` as ``[T, N,
    C]``. ``axes``: how many of size 1 are added behind, 2 for losses of images ``[N, C, H, W]``. ``reduction``:
    ``none`` asks for values per example where ``reduction`` is a parameter that ``params`` leave open and the loss is
    not ``batch_level``, ``keep`` leaves it alone, ``each`` calls it with one example at a time. ``batch_level``: it
    gives one value per batch. ``entry``: of a mapping or tuple that it returns, the key or place of the loss. Trainable
    parameters of an ``nn.Module`` are trained with the model's.

    prediction, target: one batch ``[N, ...]``, in ``space`` and ``encoding``. Returns ``[N]``, the mean over any
    further axes; if ``batch_level`` the mean over all axes, ``[]``. Raises `InvalidValue` if the path leads nowhere,
    the parameters do not fit, or a call gives no tensor, one of another shape or on another device, or changes a
    buffer.
    Reference: PyTorch, loss functions, https://docs.pytorch.org/docs/stable/nn.html#loss-functions

    >>> import torch
    >>> huber = External(target="torch.nn.HuberLoss", params={"delta": 2.0})
    >>> huber(torch.tensor([[1.0], [5.0]]), torch.zeros(2, 1))
    tensor([0.5000, 8.0000])
    """

    family = "composition"
    tasks = ("*",)
    aliases = ("any nn.Module or function of prediction and target",)
    use_when = "the loss exists elsewhere, and is to be compared as it is"
    pitfall = "space, encoding and the order of the arguments are taken on trust: a wrong one trains, and badly"
    payload: ClassVar[tuple[Any, ...]] = ()
    """The object in place of an import path, if there is one; `target` then is what it is called."""
    target: str
    params: dict[str, Any] = field(default_factory=dict)
    space: Space | None = None  # type: ignore[misc,assignment]  # a class fact of other losses
    encoding: Encoding | None = None  # type: ignore[misc,assignment]
    arguments: list[str] | None = None
    layout: str | None = None
    axes: int | None = None
    reduction: str | None = None
    batch_level: bool | None = None  # type: ignore[misc,assignment]
    entry: str | None = None
    method: str = "forward"

    def __post_init__(self) -> None:
        # 1. open fields get their usual values
        for name, usual in OPEN.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, usual)
        # 2. text from the command line becomes members of the enums
        object.__setattr__(self, "space", _parse_member(self, Space, "space"))
        object.__setattr__(self, "encoding", _parse_member(self, Encoding, "encoding"))
        object.__setattr__(self, "entry", str(self.entry))
        # 3. each field by itself, then the loss itself: it must exist, fit its parameters and have the method
        check_choice(self, LAYOUTS, layout=self.layout)
        check_choice(self, REDUCTIONS, reduction=self.reduction)
        check_count(self, 0, axes=self.axes)
        check_switch(self, batch_level=self.batch_level)
        for argument in self.arguments or []:
            check_choice(self, roles.ROLES, arguments=roles.split(argument)[1])
        imports.get_method(self.target, self._get_instance(), self.method)
        if self._is_trained() and self.method != "forward":
            raise InvalidValue(f"{self.target} has trainable parameters: only its forward can be called.")

    def __hash__(self) -> int:
        return hash(repr(self))

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def space_facts(self) -> SpaceFacts:
        """Return the table's entry of the space of its predictions."""
        return SPACES[cast(Space, self.space)]  # __post_init__ has filled what was open

    @property
    def encoding_facts(self) -> EncodingFacts:
        """Return the table's entry of the encoding of its targets."""
        return ENCODINGS[cast(Encoding, self.encoding)]

    @property
    def head(self) -> Head:  # type: ignore[override]
        """The head that gives predictions in its space."""
        return self.space_facts.head

    @property
    def requires(self) -> tuple[Requirement, ...]:  # type: ignore[override]
        """PARAMETERS, if it has trainable ones."""
        return (Requirement.PARAMETERS,) if self._is_trained() else ()

    def __call__(self, prediction: Tensor, target: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return one value per example of one batch, or one in all if `batch_level`."""
        if self.reduction == "each" and not self.batch_level:

            def call_example(p: Tensor, t: Tensor) -> Tensor:
                return self.value(p[None], t[None], parameters).mean()

            return vmap(call_example, randomness="different")(prediction, target)
        value = self.value(prediction, target, parameters)
        if self.batch_level:
            return value.mean()
        results.check_examples(self.target, value, prediction)
        return value.flatten(1).mean(1) if value.dim() > 1 else value

    def value(self, prediction: Tensor, target: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the loss among its results, of any shape."""
        result = self.result(prediction, target, parameters)
        return results.pick_entry(self.target, result, self.entry or "", prediction.device)

    def result(self, prediction: Tensor, target: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Any:
        """Call it and return its results as they are."""
        arguments = [roles.split(a) for a in self.arguments or []]
        # compute only the roles that it takes: a class has no residual
        tensors = [
            (key, self._arrange_axes(roles.ROLES[role](prediction, target), prediction)) for key, role in arguments
        ]
        return results.call_without_state(
            self.target,
            self._get_instance(),
            self._get_call(prediction, parameters),
            [x for keyword, x in tensors if not keyword],
            {keyword: x for keyword, x in tensors if keyword},
        )

    def signature(self) -> list[Parameter]:
        """Return the parameters of a call."""
        return imports.read_signature(imports.get_method(self.target, self._get_instance(), self.method))

    def init_parameters(self, problem: Problem, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw its trainable parameters anew."""
        if not self._is_trained():
            return {}
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            instance = self._build()
        # no dots, which no name in an nn.ParameterDict has
        return {n.replace(".", "/"): p.detach().clone() for n, p in instance.named_parameters() if p.requires_grad}

    def score_classes(self, prediction: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        """Raise `InvalidValue`: nothing is known of its class vectors."""
        if not self.space_facts.scored_by_loss:
            return super().score_classes(prediction, parameters)
        raise InvalidValue(f"{self.target} trains an embedding, and what scores it gives to classes is not known.")

    def describe(self) -> str:
        """Describe in one line how lossbench calls it."""
        order = ", ".join(self.arguments or [])
        form = {"last": "", "first": ", classes first", "steps": ", steps first"}[str(self.layout)]
        form += f", {self.axes} more axes" if self.axes else ""
        values = "one value per batch, so it counts as batch-level" if self.batch_level else "one value per example"
        values += ", called with one at a time" if self.reduction == "each" and not self.batch_level else ""
        values += "; its parameters are trained" if self._is_trained() else ""
        return f"external {self.target}: takes {order} ({self.space}, {self.encoding}{form}), gives {values}."

    def _arrange_axes(self, values: Tensor, prediction: Tensor) -> Tensor:
        """Move the axes to where the third-party loss has them; lengths `[N]` stay."""
        if values.ndim == prediction.ndim and self.layout != "last":
            values = values.movedim(-1, 1) if self.layout == "first" else values.transpose(0, 1)
        return values[(..., *[None] * (self.axes or 0))]

    def _is_trained(self) -> bool:
        instance = self._get_instance()
        return isinstance(instance, nn.Module) and any(p.requires_grad for p in instance.parameters())

    def _get_call(self, like: Tensor, parameters: Mapping[str, Tensor] | None) -> Callable[..., Any]:
        # move its tensors to the device and type of the predictions, which does nothing from the second call on
        instance = self._get_instance()
        if isinstance(instance, functools.partial):
            moved = {n: v.to(like) if isinstance(v, Tensor) else v for n, v in instance.keywords.items()}
            return functools.partial(instance.func, **moved)
        if isinstance(instance, nn.Module):
            instance.to(like)
        if not parameters:
            return imports.get_method(self.target, instance, self.method)
        # a module is called with the trial's parameters in place of its own
        named = {n.replace("/", "."): p.to(like) for n, p in parameters.items()}
        return lambda *arguments, **keywords: functional_call(instance, named, arguments, keywords)

    def _get_instance(self) -> Any:
        built = self.__dict__.get("_built")
        if built is None:
            built = self.__dict__["_built"] = _Built(self._build())
        return built.instance

    def _build(self) -> Any:
        return imports.build(self.target, self.params, self.reduction == "none" and not self.batch_level, self.payload)


def _parse_member(owner: External, kind: type[S], name: str) -> S:
    value = getattr(owner, name)
    check_choice(owner, list(kind), **{name: value})
    return kind(value)
