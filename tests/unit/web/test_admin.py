"""The admin endpoints of a service."""

import threading

import pytest
from flask.testing import FlaskClient
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from common.telemetry.pprof import one_profile
from common.web.admin import PATHS, create_admin_app, dispatch_by_path

PROFILES = ("/debug/pprof/profile", "/debug/pprof/heap")


def client(*, missing: str | None = None, debug: bool = True) -> FlaskClient:
    """Return a client for the admin endpoints of a service with one counter, which may wait for its database."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("test").create_counter("c").add(1)
    return create_admin_app(
        reader.get_metrics_data,
        {"database": lambda: missing, "other": lambda: None},
        debug=debug,
        stop_event=threading.Event(),
    ).test_client()


def test_a_service_is_alive_even_if_its_database_is_down() -> None:
    """A restart would not bring the database back."""
    response = client(missing="no response").get("/healthz")
    assert (response.status_code, response.get_json()) == (200, {"status": "alive"})


def test_a_service_is_ready_when_nothing_is_missing() -> None:
    """Only then does it receive traffic."""
    response = client().get("/readyz")
    assert (response.status_code, response.get_json()) == (200, {"status": "ready", "missing": {}})


def test_a_service_that_is_not_ready_names_the_missing_dependency() -> None:
    """The status is 503, so that it receives no traffic; the body has the dependency and its message."""
    response = client(missing="no response").get("/readyz")
    assert response.status_code == 503
    assert response.get_json() == {"status": "waiting", "missing": {"database": "no response"}}


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/openmetrics-text; version=1.0.0,text/plain;q=0.5", "application/openmetrics-text"),
        ("text/plain", "text/plain"),
        ("*/*", "text/plain"),
    ],
)
def test_the_metrics_have_the_format_that_the_client_accepts(accept: str, content_type: str) -> None:
    """Prometheus accepts OpenMetrics; a browser and curl get plain text."""
    response = client().get("/metrics", headers={"Accept": accept})
    assert response.status_code == 200
    assert response.content_type.startswith(content_type)
    assert "c_total 1.0" in response.text
    if "openmetrics" in content_type:
        families = text_string_to_metric_families(response.text)  # type: ignore[no-untyped-call]
        assert {family.name for family in families} >= {"c", "target"}


@pytest.mark.parametrize("page", PROFILES)
def test_profiles_are_compressed(page: str) -> None:
    """They are gzipped protobuf, as the pprof tool expects."""
    response = client().get(page, query_string={"seconds": "0.05"})
    assert response.status_code == 200
    assert response.data[:2] == b"\x1f\x8b"


@pytest.mark.parametrize("page", PROFILES)
def test_without_debug_there_are_no_profiles(page: str) -> None:
    """A profile costs time and shows the code; on a published port it has to be enabled."""
    assert client(debug=False).get(page).status_code == 404


@pytest.mark.parametrize("page", PROFILES)
def test_a_second_profile_at_the_same_time_is_rejected_with_503(page: str) -> None:
    """Two samplers would measure each other."""
    with one_profile(1):
        response = client().get(page, query_string={"seconds": "0.05"})
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0


@pytest.mark.parametrize("page", PROFILES)
@pytest.mark.parametrize("seconds", ["", "abc", "0", "-1", "nan", "inf", "61", "1e9", "9" * 400])
def test_an_invalid_duration_is_rejected_with_the_remedy(page: str, seconds: str) -> None:
    """The status is 400 at once; no thread samples forever, and the message is not Python's."""
    response = client().get(page, query_string={"seconds": seconds})
    assert response.status_code == 400
    detail = response.get_json(force=True)["detail"]
    assert detail.startswith("seconds must be ")
    assert "convert" not in detail


def test_only_the_exact_paths_of_admin_endpoints_are_dispatched_to_them() -> None:
    """Health checks and scrapes bypass the instrumentation of the service, and no admin endpoint hides a beast."""
    dispatch = dispatch_by_path(lambda *_: [b"service"], lambda *_: [b"admin"])
    for path in PATHS:
        assert dispatch({"PATH_INFO": path}, lambda *_: lambda _: None) == [b"admin"]
    for path in ("/", "/unicorn", "/metrics/", "/healthz/x", "/debug"):
        assert dispatch({"PATH_INFO": path}, lambda *_: lambda _: None) == [b"service"]
