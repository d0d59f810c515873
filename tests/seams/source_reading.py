"""Read from syntax trees which telemetry the code emits."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tests.seams.tree import texts

KINDS = {
    "create_counter": "counter",
    "create_up_down_counter": "up-down counter",
    "create_histogram": "histogram",
    "create_gauge": "gauge",
    "create_observable_counter": "counter",
    "create_observable_up_down_counter": "up-down counter",
    "create_observable_gauge": "gauge",
}
LOGGERS = {"log", "logger", "LOGGER"}
LEVELS = {"debug", "info", "warning", "error", "critical", "exception", "log"}


@dataclass(frozen=True)
class Instrument:
    """A metric that the code creates."""

    name: str
    kind: str
    unit: str


@cache
def modules() -> dict[str, ast.Module]:
    """Return the syntax trees of the services and of common/, by file name."""
    return {name: ast.parse(text) for name, text in texts(".py") if name.startswith(("common/", "services/"))}


@cache
def nodes() -> tuple[ast.AST, ...]:
    """Return every node of every tree."""
    return tuple(node for tree in modules().values() for node in ast.walk(tree))


def calls() -> Iterator[ast.Call]:
    """Return every call."""
    return (node for node in nodes() if isinstance(node, ast.Call))


@cache
def constants() -> dict[str, str]:
    """Return the string constants of modules, by name."""
    found: dict[str, str] = {}
    for node in nodes():
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            names = [name.id for name in node.targets if isinstance(name, ast.Name) and name.id.isupper()]
            found |= dict.fromkeys(names, node.value.value)
        elif (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Tuple)
            and isinstance(node.targets[0], ast.Tuple)
        ):
            for name, value in zip(node.targets[0].elts, node.value.elts, strict=True):
                if isinstance(name, ast.Name) and isinstance(value, ast.Constant):
                    found[name.id] = str(value.value)
    return found


def text(node: ast.expr | None) -> str | None:
    """Return the text of an expression that is a constant or the name of one."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return constants().get(node.id) if isinstance(node, ast.Name) else None


def argument(call: ast.Call, position: int, name: str) -> ast.expr | None:
    """Return an argument of a call, by position or by name."""
    if position < len(call.args):
        return call.args[position]
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def instruments() -> set[Instrument]:
    """Return every metric that the code creates, including through a method that was assigned to a shorter name."""
    short = {
        target.id: node.value.attr
        for node in nodes()
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute) and node.value.attr in KINDS
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = set()
    # The fast meter forwards the instruments that it does not create itself; those calls name no metric.
    forwarded = set(ast.walk(modules()["common/fast/metrics.py"]))
    for call in calls():
        if call in forwarded:
            continue
        method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        method = short.get(call.func.id, "") if isinstance(call.func, ast.Name) else method
        if kind := KINDS.get(method):
            unit = argument(call, 1 if "observable" not in method else 2, "unit")
            name = text(argument(call, 0, "name"))
            assert name, f"line {call.lineno}: the name of a metric must be a string constant"
            found.add(Instrument(name, kind, text(unit) or ""))
    return found


def span_names() -> set[str]:
    """Return the names of spans that are constants; composed names are tested where they are made."""
    return {
        name
        for call in calls()
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("start_as_current_span", "start_span")
        if (name := text(argument(call, 0, "name")))
    }


def events() -> set[str]:
    """Return the constant texts of log lines."""
    found = set()
    for call in calls():
        func = call.func
        if isinstance(func, ast.Attribute) and func.attr in LEVELS:
            is_ours = isinstance(func.value, ast.Name) and func.value.id in LOGGERS
            is_ours = is_ours or (
                isinstance(func.value, ast.Call) and ast.unparse(func.value).startswith("logging.get")
            )
            event = text(argument(call, 1 if func.attr == "log" else 0, "msg"))
            if is_ours and event:
                found.add(event)
    return found


def log_fields() -> set[str]:
    """Return the names of log fields: keys of dictionaries called `fields`, and of helpers that return them."""
    return {key for node in nodes() for key in _fields_of(node)}


def _fields_of(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Dict():
            for key, value in zip(node.keys, node.values, strict=True):
                if text(key) in ("fields", "json_fields"):
                    yield from _keys(value)
        case (
            ast.Assign(targets=[ast.Name(id="fields" | "json_fields" | "head")])
            | ast.AugAssign(target=ast.Name(id="fields"))
        ):
            yield from _keys(node.value)
        case ast.Assign(targets=[ast.Subscript(value=ast.Name(id="fields" | "pairs"), slice=name)]):
            yield text(name) or ""
        case ast.Call(func=ast.Attribute(attr="_extra" | "_fields")):
            for keyword in node.keywords:
                yield from [keyword.arg] if keyword.arg else _keys(keyword.value)
        case ast.FunctionDef(name="_fields"):
            yield from _keys(node)


def _keys(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Dict):
            yield from (key for key in map(text, inner.keys) if key)
