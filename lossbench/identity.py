"""The identity of an object from a script or a notebook: a hash of its source, its values, and all that these refer to.

`identify` describes the object by plain values (lists, texts, numbers), recursively, and hashes the description. It
does not hash pickled bytes, which differ between processes and between versions of Python.
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
"""The file name of the methods that dataclasses generate, and of all that `python -c` runs."""
GENERATED_METHODS = frozenset(
    ("__init__", "__repr__", "__eq__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__setattr__", "__delattr__")
)
NOT_BEHAVIOUR = frozenset(
    (
        *("__dict__", "__weakref__", "__module__", "__doc__", "__qualname__", "__firstlineno__"),
        *("__static_attributes__", "__abstractmethods__", "__dataclass_fields__", "__dataclass_params__"),
        *("__match_args__", "__annotations__", "__parameters__", "_abc_impl"),
    )
)
"""Attributes of a class that do not affect its behaviour, or that follow from others."""


PLAIN = frozenset((NoneType, EllipsisType, bool, int, float, complex, str, bytes, range, torch.dtype, torch.device))
"""Types of values that their `repr` describes completely. Not their subclasses, which may do anything."""
CONTAINERS = frozenset((dict, OrderedDict, MappingProxyType, list, tuple, set, frozenset))
"""Types of values that their elements describe completely."""
MODULE_INTERNALS = frozenset(vars(nn.Module())) - {"training"}
"""Attributes that every `nn.Module` has. Parameters, buffers, submodules and hooks are described apart."""
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
STARTED = time.time()
"""A file that has changed since this process started may not be what was imported."""


class Unidentified(Exception):
    """An object has no identity, as its behaviour cannot be read. The message gives the reason."""


def identify(value: Any) -> str:
    """Return a hash of an object's behaviour: its source, defaults, closure and the globals that it refers to.

    Of an `nn.Module`: its class, its attributes, its state and its hooks. Of a class or function of an installed
    package: its name and the package's version, and the objects in the closure of a function made there. Raises
    `Unidentified` where there is no source, where that has changed since it ran, or where the state cannot be read.
    """
    return hash_values("object", _Describer().describe(value))


class _Describer:
    """Describes objects as plain values. An object that was seen before is a number, so that circles end.

    The words in descriptions ("again", "enum", "instance") enter hashes: changing one changes the ids of trials.
    """

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}  # from id() to the object's number
        self._open_modules: set[int] = set()  # modules that are being described
        self._kept: list[Any] = []  # keeps objects alive: the id of a freed one could be used again

    def describe(self, value: Any) -> Any:
        # 1. values without identity: equal ones are the same
        if type(value) in PLAIN or isinstance(value, np.generic | PurePath):
            return repr(value)
        # a parameter is no such value: one that two modules share is not two equal ones
        if isinstance(value, np.ndarray | torch.Tensor) and not isinstance(value, nn.Parameter):
            return _describe_array(value)
        # 2. objects, each of which is described once
        if id(value) in self._seen:
            return ["again", self._seen[id(value)]]
        self._seen[id(value)] = len(self._seen)
        self._kept.append(value)
        if isinstance(value, enum.Enum):  # before the rest: it may be a text or a number as well
            return ["enum", self.describe(type(value)), value.name, self.describe(value.value)]
        return self._describe_object(value)

    @functools.singledispatchmethod
    def _describe_object(self, value: Any) -> Any:
        """Describe an instance of any class by the class and the instance's attributes."""
        kind = type(value)
        if (name := _find_installed_name(value)) is not None:
            return name
        # attributes in slots and in __dict__
        slots: list[str] = []
        for base in kind.__mro__:
            names = vars(base).get("__slots__", ())
            slots += [names] if isinstance(names, str) else [n for n in names if not n.startswith("__")]
        slots = [name for name in slots if hasattr(value, name)]
        state = {n: getattr(value, n) for n in slots} | dict(getattr(value, "__dict__", {}))
        # the state of an object made in C cannot be read, unless it says what it wraps
        if "__wrapped__" not in state and (_is_opaque(kind) or not (slots or hasattr(value, "__dict__"))):
            raise Unidentified(f"nothing tells what {kind.__qualname__} holds")
        state = {n: v for n, v in state.items() if n == "__wrapped__" or not n.startswith("__")}
        return ["instance", self.describe(kind), self.describe(state)]

    def _describe_container(self, values: Any) -> list[Any]:
        """Describe the container itself, without its elements."""
        kind = type(values)
        if kind in CONTAINERS:
            return [kind.__name__]
        factory = [self.describe(values.default_factory)] if isinstance(values, defaultdict) else []
        return [self.describe(kind), self.describe(dict(getattr(values, "__dict__", {}))), *factory]

    @_describe_object.register
    def _describe_parameter(self, parameter: nn.Parameter) -> Any:
        return _describe_array(parameter)

    @_describe_object.register
    def _describe_mapping(self, values: Mapping) -> Any:  # type: ignore[type-arg]
        return [
            "mapping",
            self._describe_container(values),
            [[self.describe(k), self.describe(v)] for k, v in values.items()],
        ]

    @_describe_object.register
    def _describe_set(self, values: set | frozenset) -> Any:  # type: ignore[type-arg]
        return ["set", self._describe_container(values), sorted((self.describe(v) for v in values), key=repr)]

    @_describe_object.register
    def _describe_sequence(self, values: list | tuple) -> Any:  # type: ignore[type-arg]
        return ["sequence", self._describe_container(values), [self.describe(v) for v in values]]

    @_describe_object.register
    def _describe_logger(self, logger: logging.Logger) -> Any:
        return ["logger", logger.name]

    @_describe_object.register
    def _describe_method(self, method: MethodType) -> Any:
        return ["method", self.describe(method.__func__), self.describe(method.__self__)]

    @_describe_object.register
    def _describe_partial(self, call: functools.partial) -> Any:  # type: ignore[type-arg]
        return ["partial", self.describe(call.func), self.describe(call.args), self.describe(call.keywords)]

    @_describe_object.register
    def _describe_property(self, value: property) -> Any:
        return ["property", *(self.describe(f) for f in (value.fget, value.fset) if f)]

    @_describe_object.register
    def _describe_static(self, value: staticmethod | classmethod) -> Any:  # type: ignore[type-arg]
        return [type(value).__name__, self.describe(value.__func__)]

    @_describe_object.register
    def _describe_cached(self, value: functools.cached_property) -> Any:  # type: ignore[type-arg]
        return ["cached", self.describe(value.func)]

    @_describe_object.register
    def _describe_builtin(self, function: BuiltinFunctionType) -> Any:
        owner = function.__self__  # of `table.get`, the table; of `len`, its module
        bound = [] if isinstance(owner, ModuleType | NoneType) else [self.describe(owner)]
        return [*_name_with_version(function.__module__ or "builtins", function.__qualname__), *bound]

    @_describe_object.register
    def _describe_descriptor(
        self, method: MethodDescriptorType | WrapperDescriptorType | ClassMethodDescriptorType
    ) -> Any:
        return ["descriptor", self.describe(method.__objclass__), method.__name__]

    @_describe_object.register
    def _describe_module(self, module: ModuleType) -> Any:
        if _has_version(module):
            return _name_with_version(module.__name__, "")
        return ["module", ast.unparse(parse_undocumented(inspect.getsource(module)))]

    @_describe_object.register
    def _describe_class(self, kind: type) -> Any:
        if _is_installed(kind):
            return _name_with_version(kind.__module__, kind.__qualname__)
        bases = [self.describe(base) for base in (*kind.__bases__, type(kind))]
        members = [
            [name, self.describe(value)]
            for name, value in sorted(vars(kind).items())
            if name not in NOT_BEHAVIOUR and not _is_generated(kind, name, value)
        ]
        # default factories are no attributes of the class
        made = [f for f in fields(kind) if f.default_factory is not MISSING] if is_dataclass(kind) else []
        return ["class", kind.__qualname__, bases, members, [[f.name, self.describe(f.default_factory)] for f in made]]

    @_describe_object.register
    def _describe_function(self, function: FunctionType) -> Any:
        # 1. the closure, unless an installed module offers the function under its name: then it is the same everywhere
        is_installed = _is_installed(function)
        closed = []
        if not is_installed or _find_installed_name(function) is None:
            closed = [self._describe_cell(cell) for cell in function.__closure__ or ()]
        if is_installed:  # maybe a decorator's, around the user's function
            code = function.__code__
            return [*_name_with_version(function.__module__, function.__qualname__), code.co_qualname, *closed]
        # 2. globals and modules that it uses; `names` are those of globals and attributes
        names = list(dict.fromkeys(name for code in _list_codes(function.__code__) for name in code.co_names))
        read = _list_globals(function)
        used = [[n, self._describe_used(function.__globals__[n], names)] for n in names if n in read]
        imported = [self._describe_used(module, names) for module in _list_imports(function)]
        # 3. defaults and attributes
        attributes = {n: v for n, v in vars(function).items() if not n.startswith("__")}
        defaults = [self.describe(v) for v in (function.__defaults__, function.__kwdefaults__, attributes)]
        return ["function", _read_source(function), defaults, closed, used, imported]

    def _describe_used(self, value: Any, names: list[str]) -> Any:
        """Describe a global; of the user's modules also the attributes that are used, which may have been set since."""
        if not isinstance(value, ModuleType) or _has_version(value):
            return self.describe(value)
        if id(value) in self._open_modules:
            return ["inside", value.__name__]
        self._open_modules.add(id(value))
        attributes = [[n, self._describe_used(vars(value)[n], names)] for n in names if n in vars(value)]
        self._open_modules.remove(id(value))
        return [self.describe(value), attributes]

    def _describe_cell(self, cell: Any) -> Any:
        try:
            return self.describe(cell.cell_contents)
        except ValueError:  # it is still empty
            return "empty"

    @_describe_object.register
    def _describe_network(self, network: nn.Module) -> Any:
        attributes = {n: v for n, v in vars(network).items() if n not in MODULE_INTERNALS}
        state = [self.describe(dict(part)) for part in (network._parameters, network._buffers, network._modules)]
        hooks = [[name, [self.describe(hook) for hook in getattr(network, name).values()]] for name in HOOKS]
        return ["network", self.describe(type(network)), self.describe(attributes), state, hooks]


def _describe_array(values: Any) -> list[Any]:
    if isinstance(values, torch.Tensor):
        kind, shape = str(values.dtype), [*values.shape, values.requires_grad]
        try:
            flat = values.detach().cpu().contiguous()
            # as bytes: numpy has no bfloat16
            content = flat.flatten().view(torch.uint8).numpy() if flat.numel() else np.zeros(0, np.uint8)
        except (RuntimeError, ValueError) as error:  # sparse, quantised, or still without values
            raise Unidentified(f"nothing tells what a tensor of {values.layout} and {values.dtype} holds") from error
    else:
        if isinstance(values, np.ma.MaskedArray):
            return ["masked", _describe_array(values.filled()), _describe_array(np.ma.getmaskarray(values))]
        kind, shape = values.dtype.str, list(values.shape)
        content = np.ascontiguousarray(values)
        if values.dtype == object:  # its bytes are addresses
            return ["array", kind, shape, [repr(v) for v in values.ravel()]]
    return ["array", kind, shape, hashlib.sha256(content.tobytes()).hexdigest()]


def _is_opaque(kind: type) -> bool:
    """Return True if a class inherits from one that is written in C, other than `object`."""
    heap = 1 << 9  # Py_TPFLAGS_HEAPTYPE: set for classes that Python code defines
    return next(base for base in kind.__mro__ if not base.__flags__ & heap) is not object


def _find_installed_name(value: Any) -> list[Any] | None:
    """Return the name under which an installed module offers this very object (a ufunc, a sentinel), with a version."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", getattr(value, "__name__", None))
    if not (isinstance(module, str) and isinstance(name, str) and module in modules and _has_version(modules[module])):
        return None
    try:
        return _name_with_version(module, name) if attrgetter(name)(modules[module]) is value else None
    except AttributeError:
        return None


def _has_version(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return module.__name__ != "__main__" and (file is None or is_versioned(file))


def _is_installed(value: Any) -> bool:
    """Return True if a class or function has a version: that of its package, of lossbench or of Python."""
    if isinstance(value, FunctionType):
        file = value.__code__.co_filename  # __module__ can be set, by functools.wraps for one
        return Path(file).is_absolute() and is_versioned(file)
    if value.__module__ in ("builtins", "__main__"):
        return bool(value.__module__ == "builtins")
    module = modules.get(value.__module__)
    home = getattr(module, "__file__", None)
    if home is None:  # built into Python, or made in a cell
        return getattr(module, "__spec__", None) is not None
    return Path(home).is_absolute() and is_versioned(home)


def _name_with_version(module: str, name: str) -> list[Any]:
    return ["installed", module, name, *list_versions(module)]


def _is_generated(kind: type, name: str, value: Any) -> bool:
    """Return True if `dataclass`, `NamedTuple` or the interpreter has made a class's member."""
    # descriptors of slots and of __dict__
    if isinstance(value, MemberDescriptorType | GetSetDescriptorType):
        return True
    if issubclass(kind, tuple) and "_fields" in vars(kind):
        return name == "__new__" or name in vars(kind)["_fields"]
    if not isinstance(value, FunctionType) or "__dataclass_fields__" not in vars(kind):
        return False
    # the user may have written one of these methods: then its file is another
    return name in GENERATED_METHODS and inspect.unwrap(value).__code__.co_filename == GENERATED


def _list_codes(code: CodeType) -> Iterator[CodeType]:
    """Yield a function's code and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _list_codes(constant)


def _list_globals(function: FunctionType) -> set[str]:
    """Return the names of the globals that a function reads, which `co_names` mixes with those of attributes."""
    return {
        instruction.argval
        for code in _list_codes(function.__code__)
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME") and instruction.argval in function.__globals__
    }


def _list_imports(function: FunctionType) -> Iterator[ModuleType]:
    """Yield the modules that a function's body imports."""
    for code in _list_codes(function.__code__):
        instructions = list(dis.get_instructions(code))
        for i, instruction in enumerate(instructions):
            if instruction.opname == "IMPORT_NAME":
                # the stack has got the level, the names after `import`, and now the module's name
                level = instructions[i - 2].argval
                package = function.__globals__.get("__package__")
                try:
                    yield import_module(resolve_name("." * level + instruction.argval, package))
                except ImportError as error:
                    raise Unidentified(f"{function.__qualname__} imports {instruction.argval}: {error}") from error


def _read_source(function: FunctionType) -> list[Any]:
    """Return a function's source without layout, comments and docstrings.

    Of a lambda: its line, and its code, which differs between several lambdas of one line.
    """
    code = function.__code__
    try:
        text = textwrap.dedent(inspect.getsource(code))  # by the code: of a wrapper it would be the wrapped function's
    except (OSError, TypeError) as error:
        raise Unidentified(f"the source of {function.__qualname__} cannot be read") from error
    if _is_stale(code):
        raise Unidentified(f"the file of {function.__qualname__} has changed since it was imported")
    try:
        tree = parse_undocumented(text)
    except SyntaxError:  # a line of a larger expression
        return [text.strip(), *_describe_code(code)]
    return [ast.unparse(tree), *(_describe_code(code) if function.__name__ == "<lambda>" else ())]


def _is_stale(code: CodeType) -> bool:
    """Return True if a function's file has changed and now holds other code in its place."""
    file = Path(code.co_filename)
    if not file.is_file() or file.stat().st_mtime < STARTED:
        return False
    try:
        compiled = compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
    except SyntaxError:
        return True
    place = (code.co_firstlineno, code.co_qualname)
    candidates = (c for c in _list_codes(compiled) if (c.co_firstlineno, c.co_qualname) == place)
    return _describe_code(code) not in map(_describe_code, candidates)


def _describe_code(code: CodeType) -> list[Any]:
    constants = [_describe_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return [code.co_code.hex(), constants, list(code.co_names)]
