"""Error responses have the format of RFC 9457 and no internals."""

from http import HTTPStatus

import pytest
from flask import Flask
from flask.testing import FlaskClient

from common.web.problems import Problem, register_error_handlers


@pytest.fixture
def client() -> FlaskClient:
    """Return a client of an application with one route per kind of error."""
    app = Flask("test")
    register_error_handlers(app)

    @app.get("/unavailable")
    def _unavailable() -> str:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "The database is not available.", retry_after_s=7)

    @app.get("/wrong")
    def _wrong() -> str:
        raise Problem(HTTPStatus.BAD_REQUEST, "Send a name.")

    @app.get("/bug")
    def _bug() -> str:
        raise KeyError("password=mythical")

    return app.test_client()


def test_a_problem_has_the_standard_shape(client: FlaskClient) -> None:
    """It has type, title, status, and detail, as application/problem+json."""
    response = client.get("/wrong")
    assert response.status_code == 400
    assert response.content_type == "application/problem+json"
    assert response.get_json(force=True) == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "Send a name.",
    }
    assert "Retry-After" not in response.headers


def test_a_temporary_error_has_a_retry_after_header(client: FlaskClient) -> None:
    """Its value is in seconds."""
    response = client.get("/unavailable")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "7")


def test_errors_of_flask_have_the_same_shape(client: FlaskClient) -> None:
    """These are 404, and 405 with the allowed methods."""
    missing = client.get("/nowhere")
    assert (missing.status_code, missing.content_type) == (404, "application/problem+json")
    rejected = client.delete("/wrong")
    assert rejected.status_code == 405
    assert rejected.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_an_unhandled_exception_is_in_the_log_and_not_in_the_response(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The exception's text may contain anything, for example a password."""
    response = client.get("/bug")
    assert response.status_code == 500
    assert response.content_type == "application/problem+json"
    assert "mythical" not in response.text
    assert "KeyError" not in response.text
    assert response.get_json(force=True)["detail"] == "Internal error. See the service log for details."
    (record,) = [record for record in caplog.records if record.name == "common.web.problems"]
    assert record.message == "unhandled exception"
    assert record.exc_info
    assert record.exc_info[0] is KeyError
