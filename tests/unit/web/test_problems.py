"""Errors as responses: RFC 9457, without internals."""

from http import HTTPStatus

import pytest
from flask import Flask
from flask.testing import FlaskClient

from common.web.problems import Problem, register_error_handlers


@pytest.fixture
def client() -> FlaskClient:
    """An app that fails in every way."""
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
    """Type, title, status and detail, as application/problem+json."""
    answer = client.get("/wrong")
    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"
    assert answer.get_json(force=True) == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "Send a name.",
    }
    assert "Retry-After" not in answer.headers


def test_if_waiting_helps_the_response_says_how_long(client: FlaskClient) -> None:
    """Retry-After, in seconds."""
    answer = client.get("/unavailable")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")


def test_flasks_own_errors_have_the_same_shape(client: FlaskClient) -> None:
    """404, and 405 with the methods that are allowed."""
    missing = client.get("/nowhere")
    assert (missing.status_code, missing.content_type) == (404, "application/problem+json")
    refused = client.delete("/wrong")
    assert refused.status_code == 405
    assert refused.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_an_unhandled_exception_is_in_the_log_and_not_in_the_response(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The exception's text may contain anything, a password for example."""
    answer = client.get("/bug")
    assert answer.status_code == 500
    assert answer.content_type == "application/problem+json"
    assert "mythical" not in answer.text
    assert "KeyError" not in answer.text
    assert answer.get_json(force=True)["detail"] == "Internal error. See the service log for details."
    (record,) = [record for record in caplog.records if record.name == "common.web.problems"]
    assert record.message == "unhandled exception"
    assert record.exc_info
    assert record.exc_info[0] is KeyError
