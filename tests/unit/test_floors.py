"""No import cycles and no imports from higher floors, also by imports inside functions.

import-linter checks the floors at module level and inside functions, but no cycles among modules of one floor.
"""

import ast
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from modules import parse_modules


def find_imports(tree, modules, package):
    """Return the modules that a module imports anywhere, without what only the type checker sees."""
    found = set()
    for node in walk_at_runtime(tree):
        if isinstance(node, ast.Import):
            found |= {name for alias in node.names for name in list_prefixes(alias.name)}
        elif isinstance(node, ast.ImportFrom):
            source = resolve_source(node, package)
            # `from package import module` imports the module, and a name of the package the package itself
            names = {f"{source}.{alias.name}" for alias in node.names}
            found |= (names & modules) | ({source} if names - modules else set())
    return found & modules


def walk_at_runtime(node):
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for other in node.orelse:
            yield from walk_at_runtime(other)
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from walk_at_runtime(child)


def list_prefixes(name):
    parts = name.split(".")
    return {".".join(parts[:n]) for n in range(2, len(parts) + 1)}


def resolve_source(node, package):
    if not node.level:
        return node.module
    above = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def build_graph(trees):
    names = set(trees)
    packages = {
        name: name if any(n.startswith(f"{name}.") for n in names) else name.rpartition(".")[0] for name in names
    }
    return {name: find_imports(tree, names, packages[name]) - {name} for name, tree in trees.items()}


def find_cycles(graph):
    """Return cycles that share no import, each as its modules in order."""
    graph, cycles = {name: set(targets) for name, targets in graph.items()}, []
    while True:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            cycle = error.args[1]  # each is imported by the next, the last being the first
            cycles.append(cycle)
            graph[cycle[1]].discard(cycle[0])
        else:
            return cycles


def load_floors():
    """Return each part of lossbench with the number of its floor, 0 being the highest."""
    settings = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    (contract,) = (c for c in settings["tool"]["importlinter"]["contracts"] if c["containers"] == ["lossbench"])
    return {part.strip(): floor for floor, parts in enumerate(contract["layers"]) for part in parts.split("|")}


def get_part(module):
    return module.split(".")[1] if "." in module else None


def test_there_are_no_cycles():
    assert find_cycles(build_graph(parse_modules())) == []


def test_imports_go_to_lower_floors():
    floors, wrong = load_floors(), []
    for module, targets in build_graph(parse_modules()).items():
        for target in targets:
            own, other = get_part(module), get_part(target)
            if None not in (own, other) and own != other and floors[own] >= floors[other]:
                wrong.append(f"{module} imports {target}")
    assert wrong == []


def parse_all(**texts):
    return {f"lossbench.{name}": ast.parse(text) for name, text in texts.items()}


@pytest.mark.parametrize(
    "text",
    [
        "import lossbench.b",
        "from lossbench import b",
        "from lossbench.b import name",
        "from . import b",
        "from .b import name",
        "def f():\n    from lossbench.b import name",
        "if TYPE_CHECKING:\n    pass\nelse:\n    import lossbench.b",
    ],
)
def test_a_cycle_is_seen(text):
    trees = parse_all(a=text, b="import lossbench.c", c="class C:\n    def f(self):\n        import lossbench.a")
    (cycle,) = find_cycles(build_graph(trees | {"lossbench": ast.parse("")}))
    assert set(cycle) == {"lossbench.a", "lossbench.b", "lossbench.c"}


def test_what_only_the_type_checker_imports_is_no_cycle():
    trees = parse_all(a="if TYPE_CHECKING:\n    import lossbench.b", b="import lossbench.a")
    assert find_cycles(build_graph(trees)) == []
