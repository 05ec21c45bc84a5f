"""What an object from a script or a notebook is, as a hash: of its source, its values, and all that these refer to.

Never of pickled bytes, which differ between processes and between versions of Python.
"""

import ast
import dis
import enum
import functools
import hashlib
import inspect
import logging
import textwrap
import time
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from importlib import import_module
from importlib.util import resolve_name
from operator import attrgetter
from pathlib import Path, PurePath
from sys import modules
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    CodeType,
    EllipsisType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    NoneType,
    WrapperDescriptorType,
)
from typing import Any

import numpy as np
import torch
from torch import nn

from lossbench.seeds import hash_values
from lossbench.sources import is_versioned, list_versions, parse_undocumented

GENERATED = "<string>"
"""The file of methods that dataclasses write, and of all that `python -c` runs."""
WRITTEN = frozenset(
    ("__init__", "__repr__", "__eq__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__setattr__", "__delattr__")
)
"""Names of those methods."""
NOT_BEHAVIOUR = frozenset(
    (
        *("__dict__", "__weakref__", "__module__", "__doc__", "__qualname__", "__firstlineno__"),
        *("__static_attributes__", "__abstractmethods__", "__dataclass_fields__", "__dataclass_params__"),
        *("__match_args__", "__annotations__", "__parameters__", "_abc_impl"),
    )
)
"""Attributes of a class that say nothing about what it does, or say again what others say."""


PLAIN = frozenset((NoneType, EllipsisType, bool, int, float, complex, str, bytes, range, torch.dtype, torch.device))
"""Types of values that are what their `repr` says. Not their subclasses, which may do anything."""
CONTAINERS = frozenset((dict, OrderedDict, MappingProxyType, list, tuple, set, frozenset))
"""Types of values that are what they hold."""
TORCHS_OWN = frozenset(vars(nn.Module())) - {"training"}
"""Attributes that every `nn.Module` has. What it is of them is described apart."""
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
STARTED = time.time()
"""A file that has changed since may not be what was imported."""


class Unidentified(Exception):
    """An object of which nothing says what it does: the reason."""


def identify(value: Any) -> str:
    """Return a hash of what an object does: its source, defaults, closure and the globals that it refers to.

    Of an `nn.Module`: its class, its attributes, its state and its hooks. Of a class or function of an installed
    package: its name and the package's version, and what a function made there holds of others. Raises `Unidentified`
    where there is no source, where that has changed since it ran, or where there is no way to see the state.
    """
    return hash_values("object", _Description().of(value))


class _Description:
    """Describes objects as plain values; what was seen before is named by its number, so that circles end."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._entered: set[int] = set()  # modules that are being described
        self._kept: list[Any] = []  # an object that is let go could leave its id to another one

    def of(self, value: Any) -> Any:
        if type(value) in PLAIN or isinstance(value, np.generic | PurePath):
            return repr(value)
        # a parameter that two modules share is not two equal ones
        if isinstance(value, np.ndarray | torch.Tensor) and not isinstance(value, nn.Parameter):
            return _of_array(value)
        if id(value) in self._seen:
            return ["again", self._seen[id(value)]]
        self._seen[id(value)] = len(self._seen)
        self._kept.append(value)
        if isinstance(value, enum.Enum):  # it may be a text or a number as well
            return ["enum", self.of(type(value)), value.name, self.of(value.value)]
        return self._of_object(value)

    @functools.singledispatchmethod
    def _of_object(self, value: Any) -> Any:
        """Describe an instance of any class by that and by its attributes."""
        kind = type(value)
        if (name := _installed_name(value)) is not None:
            return name
        slots = [n for base in kind.__mro__ for n in _slots(base) if hasattr(value, n)]
        held = {n: getattr(value, n) for n in slots} | dict(getattr(value, "__dict__", {}))
        # what is made in C holds what nobody sees, unless it says what it wraps
        if "__wrapped__" not in held and (_is_opaque(kind) or not (slots or hasattr(value, "__dict__"))):
            raise Unidentified(f"nothing tells what {kind.__qualname__} holds")
        held = {n: v for n, v in held.items() if n == "__wrapped__" or not n.startswith("__")}
        return ["instance", self.of(kind), self.of(held)]

    def _of_kind(self, values: Any) -> list[Any]:
        """Describe what a container is beside what it holds."""
        kind = type(values)
        if kind in CONTAINERS:
            return [kind.__name__]
        made = [self.of(values.default_factory)] if isinstance(values, defaultdict) else []
        return [self.of(kind), self.of(dict(getattr(values, "__dict__", {}))), *made]

    @_of_object.register
    def _of_parameter(self, parameter: nn.Parameter) -> Any:
        return _of_array(parameter)

    @_of_object.register
    def _of_mapping(self, values: Mapping) -> Any:  # type: ignore[type-arg]
        return ["mapping", self._of_kind(values), [[self.of(k), self.of(v)] for k, v in values.items()]]

    @_of_object.register
    def _of_set(self, values: set | frozenset) -> Any:  # type: ignore[type-arg]
        return ["set", self._of_kind(values), sorted((self.of(v) for v in values), key=repr)]

    @_of_object.register
    def _of_sequence(self, values: list | tuple) -> Any:  # type: ignore[type-arg]
        return ["sequence", self._of_kind(values), [self.of(v) for v in values]]

    @_of_object.register
    def _of_logger(self, logger: logging.Logger) -> Any:
        return ["logger", logger.name]

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
    def _of_cached(self, value: functools.cached_property) -> Any:  # type: ignore[type-arg]
        return ["cached", self.of(value.func)]

    @_of_object.register
    def _of_builtin(self, function: BuiltinFunctionType) -> Any:
        owner = function.__self__  # of `table.get`, the table
        bound = [] if isinstance(owner, ModuleType | NoneType) else [self.of(owner)]
        return [*_versioned(function.__module__ or "builtins", function.__qualname__), *bound]

    @_of_object.register
    def _of_descriptor(self, method: MethodDescriptorType | WrapperDescriptorType | ClassMethodDescriptorType) -> Any:
        return ["descriptor", self.of(method.__objclass__), method.__name__]

    @_of_object.register
    def _of_module(self, module: ModuleType) -> Any:
        if _has_version(module):
            return _versioned(module.__name__, "")
        return ["module", ast.unparse(parse_undocumented(inspect.getsource(module)))]

    @_of_object.register
    def _of_class(self, kind: type) -> Any:
        if _is_installed(kind):
            return _versioned(kind.__module__, kind.__qualname__)
        bases = [self.of(base) for base in (*kind.__bases__, type(kind))]
        members = {
            n: v for n, v in sorted(vars(kind).items()) if n not in NOT_BEHAVIOUR and not _is_written(kind, n, v)
        }
        described = [[name, self.of(value)] for name, value in members.items()]
        made = [f for f in fields(kind) if f.default_factory is not MISSING] if is_dataclass(kind) else []
        return ["class", kind.__qualname__, bases, described, [[f.name, self.of(f.default_factory)] for f in made]]

    @_of_object.register
    def _of_function(self, function: FunctionType) -> Any:
        closed = [self._of_cell(cell) for cell in function.__closure__ or ()] if _may_hold_others(function) else []
        if _is_installed(function):  # maybe a decorator's, around the user's function
            code = function.__code__
            return [*_versioned(function.__module__, function.__qualname__), code.co_qualname, *closed]
        names = list(dict.fromkeys(_names(function.__code__)))
        used = [[n, self._of_used(function.__globals__[n], names)] for n in names if n in _globals_of(function)]
        imported = [self._of_used(module, names) for module in _imported(function)]
        own = {n: v for n, v in vars(function).items() if not n.startswith("__")}
        defaults = [self.of(function.__defaults__), self.of(function.__kwdefaults__), self.of(own)]
        return ["function", _source(function), defaults, closed, used, imported]

    def _of_used(self, value: Any, names: list[str]) -> Any:
        """Describe a global; of a module of the user's also what is taken from it, which may have been set since."""
        if not isinstance(value, ModuleType) or _has_version(value):
            return self.of(value)
        if id(value) in self._entered:
            return ["inside", value.__name__]
        self._entered.add(id(value))
        taken = [[n, self._of_used(vars(value)[n], names)] for n in names if n in vars(value)]
        self._entered.remove(id(value))
        return [self.of(value), taken]

    def _of_cell(self, cell: Any) -> Any:
        try:
            return self.of(cell.cell_contents)
        except ValueError:  # it is empty as yet
            return "empty"

    @_of_object.register
    def _of_network(self, network: nn.Module) -> Any:
        own = {n: v for n, v in vars(network).items() if n not in TORCHS_OWN}
        state = [self.of(dict(held)) for held in (network._parameters, network._buffers, network._modules)]
        hooks = [[name, [self.of(hook) for hook in getattr(network, name).values()]] for name in HOOKS]
        return ["network", self.of(type(network)), self.of(own), state, hooks]


def _of_array(values: Any) -> list[Any]:
    if isinstance(values, torch.Tensor):
        kind, shape = str(values.dtype), [*values.shape, values.requires_grad]
        try:
            flat = values.detach().cpu().contiguous()
            content = flat.flatten().view(torch.uint8).numpy() if flat.numel() else np.zeros(0, np.uint8)
        except (RuntimeError, ValueError) as error:  # sparse, quantised or without values as yet
            raise Unidentified(f"nothing tells what a tensor of {values.layout} and {values.dtype} holds") from error
    else:
        if isinstance(values, np.ma.MaskedArray):
            return ["masked", _of_array(values.filled()), _of_array(np.ma.getmaskarray(values))]
        kind, shape = values.dtype.str, list(values.shape)
        content = np.ascontiguousarray(values)
        if values.dtype == object:
            return ["array", kind, shape, [repr(v) for v in values.ravel()]]
    return ["array", kind, shape, hashlib.sha256(content.tobytes()).hexdigest()]


def _slots(kind: type) -> list[str]:
    found = vars(kind).get("__slots__", ())
    return [found] if isinstance(found, str) else [n for n in found if not n.startswith("__")]


def _is_opaque(kind: type) -> bool:
    """Whether a class inherits from one that is written in C, other than `object`."""
    heap = 1 << 9  # Py_TPFLAGS_HEAPTYPE
    return next(base for base in kind.__mro__ if not base.__flags__ & heap) is not object


def _installed_name(value: Any) -> list[Any] | None:
    """Return what any process finds it by, where an installed module offers it under its name: a ufunc, a sentinel."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", getattr(value, "__name__", None))
    if not (isinstance(module, str) and isinstance(name, str) and module in modules and _has_version(modules[module])):
        return None
    try:
        return _versioned(module, name) if attrgetter(name)(modules[module]) is value else None
    except AttributeError:
        return None


def _may_hold_others(function: FunctionType) -> bool:
    """Whether a function's closure counts: not that of what an installed module offers under its name."""
    return not _is_installed(function) or _installed_name(function) is None


def _has_version(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return module.__name__ != "__main__" and (file is None or is_versioned(file))


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
    return ["installed", module, name, *list_versions(module)]


def _is_written(kind: type, name: str, value: Any) -> bool:
    """Whether a member is written by `dataclass` or `NamedTuple`, or says where the attributes lie."""
    if isinstance(value, MemberDescriptorType | GetSetDescriptorType):
        return True
    if issubclass(kind, tuple) and "_fields" in vars(kind):
        return name == "__new__" or name in vars(kind)["_fields"]
    if not isinstance(value, FunctionType) or "__dataclass_fields__" not in vars(kind):
        return False
    return name in WRITTEN and inspect.unwrap(value).__code__.co_filename == GENERATED


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _names(code: CodeType) -> Iterator[str]:
    """The names of globals and of attributes."""
    for one in _codes(code):
        yield from one.co_names


def _globals_of(function: FunctionType) -> set[str]:
    """The globals that it reads. An attribute of the same name is another thing."""
    return {
        step.argval
        for code in _codes(function.__code__)
        for step in dis.get_instructions(code)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and step.argval in function.__globals__
    }


def _imported(function: FunctionType) -> Iterator[ModuleType]:
    """The modules that a function imports itself."""
    for code in _codes(function.__code__):
        steps = list(dis.get_instructions(code))
        for place, step in enumerate(steps):
            if step.opname == "IMPORT_NAME":
                level = steps[place - 2].argval  # then the names, then the module's
                package = function.__globals__.get("__package__")
                try:
                    yield import_module(resolve_name("." * level + step.argval, package))
                except ImportError as error:
                    raise Unidentified(f"{function.__qualname__} imports {step.argval}: {error}") from error


def _source(function: FunctionType) -> list[Any]:
    """Without layout, comments and docstrings; of a lambda the line, and what tells it from others of that line."""
    code = function.__code__
    try:
        text = textwrap.dedent(inspect.getsource(code))  # a function's own: of a wrapper it would be the wrapped one's
    except (OSError, TypeError) as error:
        raise Unidentified(f"the source of {function.__qualname__} cannot be read") from error
    if _is_stale(code):
        raise Unidentified(f"the file of {function.__qualname__} has changed since it was imported")
    try:
        tree = parse_undocumented(text)
    except SyntaxError:  # a line of a larger expression
        return [text.strip(), *_code(function.__code__)]
    return [ast.unparse(tree), *(_code(function.__code__) if function.__name__ == "<lambda>" else ())]


def _is_stale(code: CodeType) -> bool:
    """Whether a file has changed, and holds something else now in the place of this function."""
    file = Path(code.co_filename)
    if not file.is_file() or file.stat().st_mtime < STARTED:
        return False
    try:
        there = compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
    except SyntaxError:
        return True
    alike = (c for c in _codes(there) if (c.co_firstlineno, c.co_qualname) == (code.co_firstlineno, code.co_qualname))
    return _code(code) not in map(_code, alike)


def _code(code: CodeType) -> list[Any]:
    constants = [_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return [code.co_code.hex(), constants, list(code.co_names)]
