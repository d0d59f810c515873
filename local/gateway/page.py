"""The gateway's own page: static files, and the front-end libraries if they are installed."""

import functools
from collections.abc import Callable
from pathlib import Path

from local.gateway.refusal import Refusal
from local.gateway.web import Answer, Request, Route

WEB = Path(__file__).parent / "web"
HTML = "text/html; charset=utf-8"
SCRIPT = "text/javascript; charset=utf-8"
STYLE = "text/css; charset=utf-8"
FILES = {"/": ("index.html", HTML)} | {
    f"/{name}": (name, STYLE if name.endswith(".css") else SCRIPT)
    for name in ("page.css", "page.js", "dom.js", "map.js", "flame.js", "trace.js")
}
# In the order they need each other: each adds itself to what the ones before put on the page.
# fmt: off
D3 = ("color", "interpolate", "array", "format", "time", "time-format", "scale", "hierarchy", "ease", "dispatch",
      "timer", "selection", "transition")
# fmt: on
LIBRARIES = {
    "cytoscape.js": "cytoscape/dist/cytoscape.min.js",
    **{f"d3-{name}.js": f"d3-{name}/dist/d3-{name}.min.js" for name in D3},
    "d3-flame-graph.js": "d3-flame-graph/dist/d3-flamegraph.umd.min.js",
}
HEADERS = {
    # Nothing from elsewhere and nothing inline: a hostile span name has no way to run, even if it got into the page.
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


def page_routes(node_modules: Path = WEB / "node_modules") -> list[Route]:
    """The routes of the page; without `node_modules` it has no service map and no flame graph, and says so."""
    installed = {name: node_modules / path for name, path in LIBRARIES.items() if (node_modules / path).is_file()}
    routes = [Route("GET", path, functools.partial(_file, WEB / name, kind)) for path, (name, kind) in FILES.items()]
    routes += [Route("GET", f"/lib/{name}", functools.partial(_file, path, SCRIPT)) for name, path in installed.items()]
    tags = "".join(f'<script defer src="/lib/{name}"></script>\n' for name in installed)
    routes[0] = Route("GET", "/", functools.partial(_index, tags))
    return routes


def _index(tags: str, _: Request) -> Answer:
    html = (WEB / "index.html").read_text(encoding="utf-8").replace("<!-- libraries -->", tags)
    return Answer(html.encode(), HTML, headers=HEADERS)


def _file(path: Path, kind: str, _: Request) -> Answer:
    return Answer(path.read_bytes(), kind, headers=HEADERS)


def host_guard(bind: str) -> Callable[[str], None]:
    """A check of the Host header: without it any web page could read the telemetry by DNS rebinding."""
    allowed = LOOPBACK | {bind.lower(), f"[{bind.lower()}]"}

    def check(host: str) -> None:
        name = host.lower()
        if not name.endswith("]"):
            name = name.rpartition(":")[0] if ":" in name else name
        if name not in allowed:
            raise Refusal(403, "this page answers to localhost and 127.0.0.1 only")

    return check
