"""The gateway's own page: static files, and the front-end libraries if they are installed."""

import functools
from pathlib import Path

from common.core.address import is_trusted_host
from local.gateway.http_error import HttpError
from local.gateway.web import READY, Answer, Request, Route

WEB = Path(__file__).parent / "web"
HTML = "text/html; charset=utf-8"
SCRIPT = "text/javascript; charset=utf-8"
KINDS = {"html": HTML, "js": SCRIPT, "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
FILES = ("page.css", "page.js", "dom.js", "map.js", "flame.js", "trace.js", "icon.svg")
# In the order of their dependencies: each script extends what the ones before it defined.
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
    # Nothing from other sites and nothing inline: a hostile span name could not run, even if it got into the page.
    # The hash is that of the style sheet that d3-flame-graph adds; if a new version changes it, browsers log a warning.
    "Content-Security-Policy": (
        "default-src 'self'; style-src 'self' 'sha256-PjPkXjWPssRCMzB6p5SnF25xrwIH7ThbVHWlE+SG1DE=';"
        " frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page_routes(node_modules: Path = WEB / "node_modules") -> list[Route]:
    """The routes of the page; without `node_modules` it has no service map and no flame graph, and says so."""
    installed = {name: node_modules / path for name, path in LIBRARIES.items() if (node_modules / path).is_file()}
    tags = "".join(f'<script defer src="/lib/{name}"></script>\n' for name in installed)
    return [
        Route("GET", "/", functools.partial(_index, tags)),
        Route("GET", "/-/ready", READY.handler),  # the path on Alloy's port
        *(Route("GET", f"/{name}", functools.partial(_file, WEB / name, KINDS[name.split(".")[1]])) for name in FILES),
        *(Route("GET", f"/lib/{name}", functools.partial(_file, path, SCRIPT)) for name, path in installed.items()),
    ]


def _index(tags: str, _: Request) -> Answer:
    html = (WEB / "index.html").read_text(encoding="utf-8").replace("<!-- libraries -->", tags)
    return Answer(html.encode(), HTML, headers=HEADERS)


def _file(path: Path, kind: str, _: Request) -> Answer:
    return Answer(path.read_bytes(), kind, headers=HEADERS)


def reject_other_hosts(host: str) -> None:
    """Raise HttpError 403 unless the Host header names this machine: other sites could read the telemetry otherwise."""
    if not is_trusted_host(host):
        raise HttpError(403, "use localhost, an IP address or the name of this machine")
