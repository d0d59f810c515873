"""The routes: each parses a request, calls the store, and translates the store's errors into problems."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.routing import PathConverter, Rule

from common.core.endpoints import EndpointSet
from common.faults import CPU_BURN, NULL_NAME, Faults
from common.web.problems import Problem
from services.server.faults import compare_all_names
from services.server.request_parsing import parse_name, parse_page
from services.server.store import DatabaseUnavailable, DuplicateName, NullNameRejected, Store
from services.server.table_maintenance import TableMaintenance

RETRY_AFTER_S = 1

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "POST")


def add_routes(app: Flask, store: Store, maintenance: TableMaintenance, endpoints: EndpointSet, faults: Faults) -> None:
    """Register `GET`, `POST` and `DELETE /<beast>`, and a route that rejects everything else."""

    def check_known(beast: str) -> None:
        if beast not in endpoints.danger:
            raise Problem(HTTPStatus.NOT_FOUND, f"Unknown {endpoints.tag}. Use one of {', '.join(endpoints.names)}.")

    def table(beast: str) -> str:
        check_known(beast)
        if maintenance.is_recreating:
            raise DatabaseUnavailable("the tables are being recreated")
        return beast

    # Flask's own OPTIONS response and 405 would also list the methods that are routed only to be rejected.
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.converters["anything"] = _Anything

    @app.get("/<beast>")
    def _page(beast: str) -> Response:
        with _problems():
            of = table(beast)
            limit, before = parse_page(request.args)
            rows = store.page(of, limit, before)
        if burn_s := faults.random_delay(CPU_BURN, 0.01, 0.02):
            compare_all_names([name for _, name in rows], burn_s)
        response = jsonify([{"name": name} for _, name in rows])
        if len(rows) == limit:
            # Source: RFC 8288, "Web Linking". A page that starts after an id stays the same while names are added.
            response.headers["Link"] = f'</{of}?limit={limit}&before={rows[-1][0]}>; rel="next"'
        return response

    @app.post("/<beast>")
    def _add(beast: str) -> Response:
        with _problems():
            of, name = table(beast), parse_name(request)
            store.add(of, None if faults.should_trigger(NULL_NAME) else name)
        return Response(status=HTTPStatus.CREATED)

    @app.delete("/<beast>")
    def _remove(beast: str) -> Response:
        with _problems():
            store.remove(table(beast), parse_name(request))
        return Response(status=HTTPStatus.NO_CONTENT)

    for rule in (
        Rule("/<beast>", endpoint="other_method"),
        Rule("/", endpoint="unknown_path"),
        Rule("/<anything:path>", endpoint="unknown_path"),
    ):
        app.url_map.add(rule)

    @app.endpoint("other_method")
    def _other_method(beast: str) -> Response:
        check_known(beast)
        if request.method == "OPTIONS":
            return Response(headers={"Allow": ", ".join(METHODS)})
        raise MethodNotAllowed(valid_methods=METHODS)

    @app.endpoint("unknown_path")
    def _unknown_path(**_: str) -> Response:
        """Reject any other path. With Flask's own 404, the span would be named after the raw path."""
        raise Problem(HTTPStatus.NOT_FOUND, "This path does not exist.")


class _Anything(PathConverter):
    """Match any path; Flask's own converter stops at a line break."""

    regex = r"[\s\S]+"
    part_isolating = False  # the pattern has no slash, so werkzeug would assume that it matches a single segment


@contextmanager
def _problems() -> Iterator[None]:
    """Translate the errors of the store into problems, and keep the reason for the log line."""
    try:
        yield
    except Problem as problem:
        g.error = problem.detail
        raise
    except DuplicateName:
        g.error = "the name already exists"
        raise Problem(HTTPStatus.CONFLICT, "The name already exists. Choose another one.") from None
    except NullNameRejected as error:
        g.error = str(error)
        raise Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "Could not store the name.") from error
    except DatabaseUnavailable as error:
        g.error = reason = str(error)
        detail = f"{reason[0].upper()}{reason[1:]}. Retry after {RETRY_AFTER_S} second."
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, retry_after_s=RETRY_AFTER_S) from error
