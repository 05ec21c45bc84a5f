"""What an object from a script or a notebook is, as a hash: of its source, its values, and all that these refer to.

Never of pickled bytes, which differ between processes and between versions of Python.
"""

import ast
import enum
import functools
import hashlib
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path
from sys import modules
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType, NoneType
from typing import Any

import numpy as np
import torch
from torch import nn

from lossbench.seeds import stable_hash
from lossbench.sources import is_versioned, without_docstrings

GENERATED = "<string>"
"""The file of methods that dataclasses write."""
NOT_BEHAVIOUR = frozenset(
    (
        *("__dict__", "__weakref__", "__module__", "__doc__", "__qualname__", "__firstlineno__"),
        *("__static_attributes__", "__abstractmethods__", "__dataclass_fields__", "__dataclass_params__"),
        *("__match_args__", "__annotations__", "__parameters__", "_abc_impl"),
    )
)
"""Attributes of a class that say nothing about what it does, or say again what others say."""


PLAIN = (NoneType, bool, int, float, complex, str, bytes, range, np.generic)
"""Values that are what their `repr` says."""


class Unidentified(Exception):
    """An object of which nothing says what it does: the reason."""


def identify(value: Any) -> str:
    """Return a hash of what an object does: its source, defaults, closure and the globals that it refers to.

    Of an `nn.Module`: its class, its public attributes and its state. Of a class or function of an installed package:
    its name and the package's version. Raises `Unidentified` where there is no source, or no way to see the state.
    """
    return stable_hash("object", _Description().of(value))


class _Description:
    """Describes objects as plain values; what was seen before is named by its number, so that circles end."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []  # an object that is let go could leave its id to another one

    def of(self, value: Any) -> Any:
        if isinstance(value, enum.Enum):
            return [type(value).__qualname__, value.name]
        if isinstance(value, PLAIN):
            return repr(value)
        if isinstance(value, np.ndarray | torch.Tensor):
            return _of_array(value)
        if id(value) in self._seen:
            return ["again", self._seen[id(value)]]
        self._seen[id(value)] = len(self._seen)
        self._kept.append(value)
        return self._of_object(value)

    @functools.singledispatchmethod
    def _of_object(self, value: Any) -> Any:
        """Describe an instance of any class by that and by its attributes."""
        if not hasattr(value, "__dict__"):
            raise Unidentified(f"nothing tells what {type(value).__qualname__} holds")
        public = {n: v for n, v in vars(value).items() if not n.startswith("__")}
        return ["instance", self.of(type(value)), self.of(public)]

    @_of_object.register
    def _of_mapping(self, values: Mapping) -> Any:  # type: ignore[type-arg]
        return ["mapping", [[self.of(k), self.of(v)] for k, v in values.items()]]

    @_of_object.register
    def _of_set(self, values: set | frozenset) -> Any:  # type: ignore[type-arg]
        return ["set", sorted((self.of(v) for v in values), key=repr)]

    @_of_object.register
    def _of_sequence(self, values: list | tuple) -> Any:  # type: ignore[type-arg]
        return [type(values).__name__, [self.of(v) for v in values]]

    @_of_object.register
    def _of_method(self, method: MethodType) -> Any:
        return ["method", self.of(method.__func__), self.of(method.__self__)]

    @_of_object.register
    def _of_partial(self, call: functools.partial) -> Any:  # type: ignore[type-arg]
        return ["partial", self.of(call.func), self.of(call.args), self.of(call.keywords)]

    @_of_object.register
    def _of_property(self, value: property) -> Any:
        return ["property", *(self.of(f) for f in (value.fget, value.fset) if f)]

    @_of_object.register
    def _of_wrapped(self, value: staticmethod | classmethod) -> Any:  # type: ignore[type-arg]
        return [type(value).__name__, self.of(value.__func__)]

    @_of_object.register
    def _of_builtin(self, function: BuiltinFunctionType) -> Any:
        return _versioned(function.__module__ or "builtins", function.__qualname__)

    @_of_object.register
    def _of_module(self, module: ModuleType) -> Any:
        file = getattr(module, "__file__", None)
        if file is None or is_versioned(file):
            return _versioned(module.__name__, "")
        return ["module", ast.unparse(without_docstrings(inspect.getsource(module)))]

    @_of_object.register
    def _of_class(self, kind: type) -> Any:
        if _is_installed(kind):
            return _versioned(kind.__module__, kind.__qualname__)
        bases = [self.of(base) for base in kind.__bases__]
        members = {n: v for n, v in sorted(vars(kind).items()) if n not in NOT_BEHAVIOUR and not _is_generated(v)}
        described = [[name, self.of(value)] for name, value in members.items()]
        made = [f for f in fields(kind) if f.default_factory is not MISSING] if is_dataclass(kind) else []
        return ["class", kind.__qualname__, bases, described, [[f.name, self.of(f.default_factory)] for f in made]]

    @_of_object.register
    def _of_function(self, function: FunctionType) -> Any:
        if _is_installed(function):
            wrapped = function.__closure__ if function.__module__.startswith("lossbench.") else None
            inside = [self._of_cell(cell) for cell in wrapped or ()]  # @lossbench.loss holds the user's function
            return [*_versioned(function.__module__, function.__qualname__), *inside]
        names = dict.fromkeys(_names(function.__code__))
        used = [[n, self.of(function.__globals__[n])] for n in names if n in function.__globals__]
        closed = [self._of_cell(cell) for cell in function.__closure__ or ()]
        defaults = [self.of(function.__defaults__), self.of(function.__kwdefaults__)]
        return ["function", _source(function), defaults, closed, used]

    def _of_cell(self, cell: Any) -> Any:
        try:
            return self.of(cell.cell_contents)
        except ValueError:  # it is empty as yet
            return "empty"

    @_of_object.register
    def _of_network(self, network: nn.Module) -> Any:
        public = {n: v for n, v in vars(network).items() if not n.startswith("_")}
        state = [[name, _of_array(tensor)] for name, tensor in network.state_dict().items()]
        parts = [[name, self.of(part)] for name, part in network.named_children()]
        return ["network", self.of(type(network)), self.of(public), state, parts]


def _of_array(values: Any) -> list[Any]:
    if isinstance(values, torch.Tensor):
        kind, shape = str(values.dtype), list(values.shape)
        flat = values.detach().cpu().contiguous()
        content = flat.flatten().view(torch.uint8).numpy() if flat.numel() else np.zeros(0, np.uint8)
    else:
        kind, shape = values.dtype.str, list(values.shape)
        content = np.ascontiguousarray(values)
        if values.dtype == object:
            return ["array", kind, shape, [repr(v) for v in values.ravel()]]
    return ["array", kind, shape, hashlib.sha256(content.tobytes()).hexdigest()]


def _is_installed(value: Any) -> bool:
    """Whether a class or function has a version: that of its package, of lossbench or of Python."""
    if isinstance(value, FunctionType):
        file = value.__code__.co_filename
        return Path(file).is_absolute() and is_versioned(file)
    if value.__module__ in ("builtins", "__main__"):
        return bool(value.__module__ == "builtins")
    module = modules.get(value.__module__)
    home = getattr(module, "__file__", None)
    if home is None:  # built into Python, or made in a cell
        return getattr(module, "__spec__", None) is not None
    return Path(home).is_absolute() and is_versioned(home)


def _versioned(module: str, name: str) -> list[Any]:
    known = _distributions().get(module.partition(".")[0], [])
    return ["installed", module, name, *(f"{found} {version(found)}" for found in known)]


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())


def _is_generated(value: Any) -> bool:
    # what dataclasses write, also where they wrap it
    return isinstance(value, FunctionType) and inspect.unwrap(value).__code__.co_filename == GENERATED


def _names(code: CodeType) -> Iterator[str]:
    """The global names of a function and of those inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _source(function: FunctionType) -> list[Any]:
    """Without layout, comments and docstrings; of a lambda the line, and what tells it from others of that line."""
    try:
        text = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError) as error:
        raise Unidentified(f"the source of {function.__qualname__} cannot be read") from error
    try:
        tree = without_docstrings(text)
    except SyntaxError:  # a line of a larger expression
        return [text.strip(), *_code(function.__code__)]
    return [ast.unparse(tree), *(_code(function.__code__) if function.__name__ == "<lambda>" else ())]


def _code(code: CodeType) -> list[Any]:
    constants = [_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return [code.co_code.hex(), constants, list(code.co_names)]
