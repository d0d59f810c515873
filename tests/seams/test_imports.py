"""Imports go one way: from services to common, and from the tools to both."""

import ast
from collections.abc import Iterator

import pytest

from tests.seams.tree import texts

TREES = {name: ast.parse(text) for name, text in texts(".py") if not name.endswith("_pb2.py")}  # made by protoc
ALLOWED = {
    "common": {"common"},
    "services": {"common", "services"},
    "tools": {"common", "tools"},
    "local": {"common", "tools", "local"},
    "bench": {"common", "services", "tools", "local", "bench"},
    "doctor": {"common", "tools", "local", "doctor"},
    "loadtest": {"common", "loadtest"},
    "workshop": {"common", "tools", "workshop"},
    "mimir": {"tools", "mimir"},
    "grafana": {"tools", "grafana", "mimir"},
}
ALLOWED["tests"] = {*ALLOWED, "tests"}


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the modules that a file imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are by full name"
            yield node.module or ""


@pytest.mark.parametrize("name", TREES)
def test_a_file_imports_only_allowed_packages(name: str) -> None:
    """Otherwise a change to one service could break another, and the image would need packages of the demo."""
    own = name.split("/", maxsplit=1)[0]
    ours = {module.split(".")[0] for module in imported(TREES[name])} & set(ALLOWED)
    assert ours <= ALLOWED.get(own, set())


@pytest.mark.parametrize("service", ["server", "requester", "recorder"])
def test_no_service_imports_another(service: str) -> None:
    """They communicate over HTTP and through the queue."""
    others = {"server", "requester", "recorder"} - {service}
    for name, tree in TREES.items():
        if name.startswith(f"services/{service}/"):
            known = {module.split(".")[1] for module in imported(tree) if module.startswith("services.")}
            assert not known & others, name


def test_common_does_not_depend_on_the_service_it_runs_in() -> None:
    """No string in it is the name of a service, except in docstrings as an example."""
    names = ("mythical-server", "mythical-requester", "mythical-recorder")
    for name, tree in TREES.items():
        if not name.startswith("common/"):
            continue
        docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, _DOCUMENTED)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in docstrings:
                assert not any(service in node.value for service in names), f"{name}:{node.lineno}"


def test_only_the_setup_of_telemetry_imports_the_fast_layer() -> None:
    """The layer is optional: a copy without the folder works with INSTRUMENTATION=stock."""
    importing = {
        name
        for name, tree in TREES.items()
        if not name.startswith(("tests/", "common/fast/"))
        and any(module.startswith("common.fast") for module in imported(tree))
    }
    assert importing == {"common/telemetry/setup.py"}


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@pytest.mark.parametrize("name", [name for name in TREES if name.startswith(("common/", "services/"))])
def test_imports_have_no_side_effects(name: str) -> None:
    """Calls at the top level of a module create values, no threads, no connections, and no output."""
    quiet = {
        "getLogger", "compile", "frozenset", "EndpointSet", "Fault", "NamedTuple", "TypeVar", "Struct", "Lock", "local",
        "dataclass", "field", "split", "cache", "attrgetter", "maketrans", "count", "tuple", "partial", "Getter",
        "MappingProxyType",
    }  # fmt: skip
    for node in TREES[name].body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            assert name.endswith("__main__.py"), f"{name}:{node.lineno}"
        if isinstance(node, ast.Assign):
            made = node.value
            if isinstance(made, ast.Call):
                called = made.func.attr if isinstance(made.func, ast.Attribute) else getattr(made.func, "id", "")
                assert called in quiet or called.lstrip("_")[:1].isupper(), f"{name}:{node.lineno} calls {called}"
