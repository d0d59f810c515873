"""The routes: each turns a request into a question to the store, and the store's refusals into answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.routing import Rule

from common.beasts import Catalogue
from common.faults import NULL_NAME, Faults
from common.problems import Problem
from services.server.requests import name_of, page_of
from services.server.store import NameLost, NameTaken, Store, StoreAway
from services.server.upkeep import Upkeep

RETRY_AFTER_S = 1

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "POST")


def add_routes(app: Flask, store: Store, upkeep: Upkeep, catalogue: Catalogue, faults: Faults) -> None:
    """Register `GET`, `POST` and `DELETE /<beast>`, and what to say to everything else."""

    def table(beast: str) -> str:
        if beast not in catalogue.danger:
            raise Problem(HTTPStatus.NOT_FOUND, f"There is no such beast; there are {', '.join(catalogue.names)}.")
        if upkeep.wiping:
            raise StoreAway("the tables are being made anew")
        return beast

    # Flask's own answer to OPTIONS, and its 405, would count the methods of the route for everything else as well.
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    for rule in (Rule("/", defaults={"path": ""}, endpoint="elsewhere"), Rule("/<path:path>", endpoint="elsewhere")):
        app.url_map.add(rule)

    @app.get("/<beast>")
    def _page(beast: str) -> Response:
        with _refusals():
            of = table(beast)
            limit, before = page_of(request.args)
            rows = store.page(of, limit, before)
        response = jsonify([{"name": name} for _, name in rows])
        if len(rows) == limit:
            # Source: RFC 8288, "Web Linking". A page that starts after an id stays the same while names are added.
            response.headers["Link"] = f'</{of}?limit={limit}&before={rows[-1][0]}>; rel="next"'
        return response

    @app.post("/<beast>")
    def _add(beast: str) -> Response:
        with _refusals():
            of, name = table(beast), name_of(request)
            store.add(of, None if faults.strikes(NULL_NAME) else name)
        return Response(status=HTTPStatus.CREATED)

    @app.delete("/<beast>")
    def _remove(beast: str) -> Response:
        with _refusals():
            store.remove(table(beast), name_of(request))
        return Response(status=HTTPStatus.NO_CONTENT)

    @app.endpoint("elsewhere")
    def _elsewhere(path: str) -> Response:
        """Answer any method at any other address. Without it, the span of an unknown address would bear its name."""
        if path not in catalogue.danger:
            raise Problem(HTTPStatus.NOT_FOUND, "There is nothing at this address.")
        if request.method == "OPTIONS":
            return Response(headers={"Allow": ", ".join(METHODS)})
        raise MethodNotAllowed(valid_methods=METHODS)


@contextmanager
def _refusals() -> Iterator[None]:
    """Translate what the store and the checks refuse, and keep the reason for the log line."""
    try:
        yield
    except Problem as problem:
        g.error = problem.detail
        raise
    except NameTaken:
        g.error = "the name exists"
        raise Problem(HTTPStatus.CONFLICT, "The name exists; choose another.") from None
    except NameLost as lost:
        g.error = str(lost)
        raise Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "The name was lost on its way to the database.") from lost
    except StoreAway as away:
        g.error = str(away)
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"Come again: {away}.", retry_after_s=RETRY_AFTER_S) from away
