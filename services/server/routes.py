"""The routes: each turns a request into a question to the store, and the store's refusals into answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.routing import PathConverter, Rule

from common.core.endpoints import EndpointSet
from common.faults import CPU_BURN, NULL_NAME, Faults
from common.web.problems import Problem
from services.server.faults.burn import compare_all_names
from services.server.request_parsing import parse_name, parse_page
from services.server.store import DatabaseUnavailable, DuplicateName, NullNameRejected, Store
from services.server.table_maintenance import TableMaintenance

RETRY_AFTER_S = 1

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "POST")


def add_routes(app: Flask, store: Store, maintenance: TableMaintenance, endpoints: EndpointSet, faults: Faults) -> None:
    """Register `GET`, `POST` and `DELETE /<beast>`, and what to say to everything else."""

    def known(beast: str) -> None:
        if beast not in endpoints.danger:
            raise Problem(HTTPStatus.NOT_FOUND, f"There is no such beast; there are {', '.join(endpoints.names)}.")

    def table(beast: str) -> str:
        known(beast)
        if maintenance.is_recreating:
            raise DatabaseUnavailable("the tables are being made anew")
        return beast

    # Flask's answer to OPTIONS, and its 405, would also count in the methods that are routed only to be refused.
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.converters["anything"] = _Anything

    @app.get("/<beast>")
    def _page(beast: str) -> Response:
        with _refusals():
            of = table(beast)
            limit, before = parse_page(request.args)
            rows = store.page(of, limit, before)
        if burnt_s := faults.random_delay(CPU_BURN, 0.01, 0.02):
            compare_all_names([name for _, name in rows], burnt_s)
        response = jsonify([{"name": name} for _, name in rows])
        if len(rows) == limit:
            # Source: RFC 8288, "Web Linking". A page that starts after an id stays the same while names are added.
            response.headers["Link"] = f'</{of}?limit={limit}&before={rows[-1][0]}>; rel="next"'
        return response

    @app.post("/<beast>")
    def _add(beast: str) -> Response:
        with _refusals():
            of, name = table(beast), parse_name(request)
            store.add(of, None if faults.should_trigger(NULL_NAME) else name)
        return Response(status=HTTPStatus.CREATED)

    @app.delete("/<beast>")
    def _remove(beast: str) -> Response:
        with _refusals():
            store.remove(table(beast), parse_name(request))
        return Response(status=HTTPStatus.NO_CONTENT)

    for rule in (
        Rule("/<beast>", endpoint="other_method"),
        Rule("/", endpoint="elsewhere"),
        Rule("/<anything:path>", endpoint="elsewhere"),
    ):
        app.url_map.add(rule)

    @app.endpoint("other_method")
    def _other_method(beast: str) -> Response:
        known(beast)
        if request.method == "OPTIONS":
            return Response(headers={"Allow": ", ".join(METHODS)})
        raise MethodNotAllowed(valid_methods=METHODS)

    @app.endpoint("elsewhere")
    def _elsewhere(**_: str) -> Response:
        """Take what no other route does: Flask's own 404 leaves a span that is named by the address as it came."""
        raise Problem(HTTPStatus.NOT_FOUND, "There is nothing at this address.")


class _Anything(PathConverter):
    """A path with whatever is in it: the stock converter stops at a line break."""

    regex = r"[\s\S]+"
    part_isolating = False  # werkzeug would take it for one segment of a path, since there is no slash in the pattern


@contextmanager
def _refusals() -> Iterator[None]:
    """Translate what the store and the checks refuse, and keep the reason for the log line."""
    try:
        yield
    except Problem as problem:
        g.error = problem.detail
        raise
    except DuplicateName:
        g.error = "the name exists"
        raise Problem(HTTPStatus.CONFLICT, "The name exists; choose another.") from None
    except NullNameRejected as lost:
        g.error = str(lost)
        raise Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "The name was lost on its way to the database.") from lost
    except DatabaseUnavailable as away:
        g.error = str(away)
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"Come again: {away}.", retry_after_s=RETRY_AFTER_S) from away
