"""Except in tests, no code uses private names of other packages, which a new release may change without notice."""

import ast
from collections.abc import Iterator

import pytest

from tests.seams.tree import texts

TREES = {
    name: ast.parse(text)
    for name, text in texts(".py")
    if not name.startswith("tests/") and not name.endswith("_pb2.py")  # generated
}

# It lets a connection survive headers that pika cannot decode; test_tolerant.py fails when pika can.
EXEMPT = {"common/messaging/tolerant.py"}

ALLOWED_MODULES = {
    "opentelemetry._logs",  # the API and the SDK of logs have no other name yet
    "opentelemetry.sdk._logs",
    "opentelemetry.sdk._logs.export",
}
ALLOWED_NAMES = {
    "_current_frames",  # sys: the only access to the stacks of all threads
    "_srcfile",  # logging: its documentation says to set it to None
    "_get_current_object",  # werkzeug: documented, for the object behind a proxy
    "_asdict",  # namedtuple: public, the underscore keeps it apart from the fields
    "_replace",
}


def private(name: str) -> bool:
    """Return whether a name is private by convention; dunder names are Python's."""
    return name.startswith("_") and not name.startswith("__") and name not in ALLOWED_NAMES


def own_names(tree: ast.Module) -> set[str]:
    """Return the private names that a file defines itself: functions, classes, variables, and attributes of self."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            names.add(node.attr)
    return names


def is_self(node: ast.AST) -> bool:
    """Return whether an expression is `self` or `cls`."""
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def is_call(node: ast.AST, function: str) -> bool:
    """Return whether an expression calls that built-in function."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function


def is_use(node: ast.AST, own: set[str]) -> bool:
    """Return whether a node uses another package's private name, or replaces a variable of a module."""
    match node:
        case ast.ImportFrom() if node.module not in ALLOWED_MODULES:
            return any(map(private, [*(node.module or "").split("."), *(alias.name for alias in node.names)]))
        case ast.Attribute():
            return private(node.attr) and node.attr not in own and not is_self(node.value)
        case ast.Subscript():
            return is_call(node.value, "vars")
        case ast.Call(func=ast.Name(id="setattr")):
            return True
        case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str(name)), *_]):
            return private(name)
        case _:
            return False


def uses(tree: ast.Module) -> Iterator[str]:
    """Return each such use with its line."""
    own = own_names(tree)
    return (f"{node.lineno}: {ast.unparse(node)}" for node in ast.walk(tree) if is_use(node, own))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(TREES.keys() - EXEMPT))
def test_a_file_uses_only_public_names_of_other_packages(name: str) -> None:
    """A feature without a public interface is left out, or is in the one exempt file with its reason."""
    assert not list(uses(TREES[name]))


@pytest.mark.parametrize(
    "source",
    [
        "from granian import _granian",
        "from opentelemetry.sdk.metrics._internal import instrument",
        "provider._measurement_consumer",
        "vars(exporters)['encode_spans'] = ours",
        "setattr(module, 'name', 1)",
        "getattr(exporter, '_translate_data')",
        "super()._receive_metrics()",
    ],
)
def test_a_private_use_is_found(source: str) -> None:
    """Otherwise, the test above would pass because it finds nothing."""
    assert list(uses(ast.parse(source)))
