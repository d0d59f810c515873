"""What telemetry says of a request to the server."""

import logging
import re

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from common.telemetry.logs.records import TraceContextFilter
from tests.unit.services.server_rig import Rig

SEMCONV = "OTEL_SEMCONV_STABILITY_OPT_IN"

OLD_NAMES = {"http.method", "http.target", "http.status_code", "http.scheme", "net.host.name", "net.host.port"}
NEW_NAMES = {"http.request.method", "url.path", "url.scheme", "http.response.status_code", "server.address"}

NOBODY_KNOWS = [
    ("GET", "/dragon"),
    ("GET", "/a/b/c"),
    ("GET", "/"),
    ("POST", "/dragon"),
    ("PUT", "/dragon"),
    ("BREW", "/unicorn"),
    ("BREW", "/dragon/x"),
    ("GET", "/unicorn/x"),
    ("GET", "/unicorn/"),
    ("GET", "/a%0Ab"),
    ("GET", "/a/b%0Ac"),
    ("GET", "/%00%ff"),
]


@pytest.fixture(autouse=True, params=["fast", "stock"])
def _layer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rule holds in both layers."""
    monkeypatch.setenv("INSTRUMENTATION", request.param)


@pytest.mark.parametrize(
    ("optin", "there", "absent"),
    [
        ("", OLD_NAMES | NEW_NAMES, set()),
        ("http/dup,database/dup", OLD_NAMES | NEW_NAMES, set()),
        ("http,database", NEW_NAMES, OLD_NAMES),
        ("none", OLD_NAMES, NEW_NAMES),
    ],
    ids=["default", "both", "new", "old"],
)
def test_the_span_speaks_the_generations_that_are_in_force(optin: str, there: set[str], absent: set[str]) -> None:
    """The old names for dashboards that ask for them, the new ones for the rest of the world."""
    rig = Rig({SEMCONV: optin})
    rig.client.get("/unicorn")
    assert there <= set(rig.said)
    assert not absent & set(rig.said)


def test_a_request_is_one_server_span_named_by_its_route() -> None:
    """Not by its address, which anyone could make up."""
    rig = Rig()
    rig.client.get("/unicorn?limit=1")
    assert len(rig.told.spans) == 1
    assert (rig.server_span.name, rig.server_span.kind) == ("GET /<beast>", SpanKind.SERVER)
    assert rig.said["beast"] == "unicorn"
    assert rig.said["http.target"] == "/unicorn"
    assert rig.said["http.route"] == "/<beast>"


@pytest.mark.parametrize("optin", ["", "http,database", "none"])
@pytest.mark.parametrize(("method", "path"), NOBODY_KNOWS)
def test_what_a_caller_makes_up_is_no_name_of_a_span_and_no_label(method: str, path: str, optin: str) -> None:
    """Span names, http.target and labels are dimensions of metrics: a scan must not make a series per address."""
    rig = Rig({SEMCONV: optin})
    rig.client.open(path, method=method)
    assert re.fullmatch(r"(GET|POST|PUT|HTTP) /(<beast>|<anything:path>)?", rig.server_span.name)
    assert rig.said.get("http.target", "/unknown") in ("/unknown", "/unicorn")
    assert rig.said.get("http.method", "GET") in ("GET", "POST", "PUT", "_OTHER")
    ((labels, _),) = rig.told.points("mythical_request_times")
    assert set(labels) == {"method", "status", "beast"}
    assert labels["beast"] in ("unknown", "unicorn")
    assert labels["method"] in ("GET", "POST", "PUT", "_OTHER")
    ((labels, _),) = rig.told.points("http.server.request.duration")
    assert labels["http.request.method"] in ("GET", "POST", "PUT", "_OTHER")
    assert labels["http.route"] in ("/<beast>", "/<anything:path>", "/")
    assert labels["url.scheme"] == "http"


def test_a_hundred_made_up_requests_make_few_series() -> None:
    """Addresses, methods, hosts and agents as they come make no more than one series for each status."""
    rig = Rig()
    for number in range(100):
        headers = {"Host": f"host{number}.example:{number}", "User-Agent": f"agent {number}"}
        rig.client.open(f"/beast{number}", method=f"M{number}" if number % 2 else "GET", headers=headers)
    assert len(rig.told.points("mythical_request_times")) <= 3
    assert len(rig.told.points("http.server.request.duration")) <= 3
    assert {span.name for span in rig.told.spans} == {"GET /<beast>", "HTTP /<beast>"}


def test_the_histogram_has_the_buckets_labels_and_exemplars_of_the_interface() -> None:
    """mythical_request_times{method,status,beast} in milliseconds; each exemplar leads to the request's trace."""
    rig = Rig()
    rig.client.post("/owlbear", json={"name": "x"})
    ((labels, point),) = rig.told.points("mythical_request_times")
    assert labels == {"method": "POST", "status": "201", "beast": "owlbear"}
    assert list(point.explicit_bounds) == [10, 20, 50, 100, 200, 500, 1000, 2000, 4000, 8000, 16000]
    assert [exemplar.trace_id for exemplar in point.exemplars] == [rig.told.context.trace_id]
    ((_, seconds),) = rig.told.points("http.server.request.duration")
    assert seconds.sum * 1000 == pytest.approx(point.sum, rel=0.01)


def test_the_boring_catalogue_labels_its_endpoint() -> None:
    """ENDPOINT_TYPE=BORING: the tag `endpoint` in place of `beast`, everywhere."""
    rig = Rig({"ENDPOINT_TYPE": "BORING"})
    rig.client.get("/login")
    assert rig.said["endpoint"] == "login"
    ((labels, _),) = rig.told.points("mythical_request_times")
    assert labels == {"method": "GET", "status": "200", "endpoint": "login"}


@pytest.mark.parametrize(
    ("status", "code"),
    [(200, StatusCode.UNSET), (404, StatusCode.UNSET), (500, StatusCode.ERROR), (503, StatusCode.ERROR)],
)
def test_only_a_failure_of_the_servers_own_is_an_error_of_its_span(status: int, code: StatusCode) -> None:
    """A 404 is the caller's; the server did what it should (HTTP conventions, status of server spans)."""
    rig = Rig(null_name=1)
    rig.store.is_down = status == 503
    rig.client.open(
        "/unicorn" if status != 404 else "/x", method="POST" if status == 500 else "GET", json={"name": "x"}
    )
    assert rig.said["http.status_code"] == rig.said["http.response.status_code"] == status
    assert rig.server_span.status.status_code is code


def lines_of(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The lines about requests."""
    return [record for record in caplog.records if record.getMessage() == "request served"]


@pytest.mark.parametrize(
    ("method", "path", "level", "fields"),
    [
        ("GET", "/unicorn", "INFO", {"http.method": "GET", "endpoint": "unicorn", "status": "SUCCESS"}),
        (
            "GET",
            "/unicorn?limit=0",
            "INFO",
            {"status": "FAILURE", "http.status_code": "400", "error": "limit must be a whole number from 1 to 1000."},
        ),
        ("GET", "/dragon", "INFO", {"endpoint": "unknown", "status": "FAILURE", "http.status_code": "404"}),
        (
            "POST",
            "/unicorn",
            "ERROR",
            {"status": "FAILURE", "http.status_code": "500", "error": "null value in column name"},
        ),
    ],
)
def test_each_request_is_one_line_under_its_trace(
    caplog: pytest.LogCaptureFixture, method: str, path: str, level: str, fields: dict[str, str]
) -> None:
    """With the reason where it failed, which the caller is not told; at ERROR only where the server is at fault."""
    caplog.set_level(logging.INFO)
    caplog.handler.addFilter(TraceContextFilter())
    rig = Rig(null_name=1)
    rig.client.open(path, method=method, json={"name": "x"})
    (line,) = lines_of(caplog)
    assert line.levelname == level
    assert fields.items() <= line.__dict__["fields"].items()
    assert line.__dict__["trace_id"] == f"{rig.told.context.trace_id:032x}"
    assert line.__dict__["tags"] == ({} if "dragon" in path else {"beast": "unicorn"})


@pytest.mark.parametrize("host", ["x", "x:1", "x:99999999999999999999", "[::1]:4000", "a b", ""])
def test_no_host_that_a_caller_sends_breaks_a_request(host: str) -> None:
    """The header is theirs; what cannot be read is left out or stands for itself."""
    rig = Rig()
    assert rig.client.get("/unicorn", headers={"Host": host}).status_code in (200, 400)
    assert all(not isinstance(value, int) or abs(value) < 2**63 for value in rig.said.values())


def test_with_the_sdk_disabled_the_server_serves() -> None:
    """OTEL_SDK_DISABLED=true: no spans, the same answers."""
    rig = Rig({"OTEL_SDK_DISABLED": "true"})
    assert rig.client.get("/unicorn").status_code == 200
    assert rig.told.spans == []


MARKS = "user_agent.synthetic.type=test,loadtest.user.kind=breeder,loadtest.shape=day,loadtest.run.id=r1"


def test_synthetic_load_is_told_in_span_metrics_and_log_line(caplog: pytest.LogCaptureFixture) -> None:
    """By the type in all of them; kind and shape are on the span, and the run, which could be anything, nowhere."""
    caplog.set_level(logging.INFO)
    rig = Rig()
    rig.client.get("/unicorn", headers={"baggage": MARKS})
    marks = {name: value for name, value in rig.said.items() if name.startswith(("loadtest", "user_agent.synth"))}
    assert marks == {
        "user_agent.synthetic.type": "test",
        "loadtest.user.kind": "breeder",
        "loadtest.shape": "day",
    }
    for metric in ("mythical_request_times", "http.server.request.duration"):
        ((labels, _),) = rig.told.points(metric)
        assert labels["user_agent.synthetic.type"] == "test"
        assert not {name for name in labels if name.startswith("loadtest")}
    assert vars(caplog.records[-1])["fields"]["user_agent.synthetic.type"] == "test"


def test_other_requests_bear_no_mark_at_all(caplog: pytest.LogCaptureFixture) -> None:
    """Nor do those whose baggage says something that nobody knows."""
    caplog.set_level(logging.INFO)
    rig = Rig()
    rig.client.get("/unicorn")
    rig.client.get("/unicorn", headers={"baggage": "user_agent.synthetic.type=person,loadtest.shape=day"})
    assert not {name for name in rig.said if name.startswith(("loadtest", "user_agent.synth"))}
    ((labels, _),) = rig.told.points("mythical_request_times")
    assert "user_agent.synthetic.type" not in labels
    assert "user_agent.synthetic.type" not in vars(caplog.records[-1])["fields"]
