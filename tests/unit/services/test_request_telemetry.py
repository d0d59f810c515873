"""A request to the server results in one span, metrics with bounded labels, and one log line."""

import logging
import re

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from common.telemetry.logs.records import TraceContextFilter
from common.web.request_telemetry import RequestState
from tests.unit.services.server_rig import Rig

SEMCONV = "OTEL_SEMCONV_STABILITY_OPT_IN"

OLD_NAMES = {"http.method", "http.target", "http.status_code", "http.scheme", "net.host.name", "net.host.port"}
NEW_NAMES = {"http.request.method", "url.path", "url.scheme", "http.response.status_code", "server.address"}

UNEXPECTED_REQUESTS = [
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
    """Run each test in both layers."""
    monkeypatch.setenv("INSTRUMENTATION", request.param)


@pytest.mark.parametrize(
    ("optin", "present", "absent"),
    [
        ("", OLD_NAMES | NEW_NAMES, set()),
        ("http/dup,database/dup", OLD_NAMES | NEW_NAMES, set()),
        ("http,database", NEW_NAMES, OLD_NAMES),
        ("none", OLD_NAMES, NEW_NAMES),
    ],
    ids=["default", "both", "new", "old"],
)
def test_the_span_has_attributes_of_the_selected_conventions(optin: str, present: set[str], absent: set[str]) -> None:
    """Dashboards query the old names; other tools expect the new ones."""
    rig = Rig({SEMCONV: optin})
    rig.client.get("/unicorn")
    assert present <= set(rig.span_attributes)
    assert not absent & set(rig.span_attributes)


def test_a_request_is_one_server_span_named_by_its_route() -> None:
    """The name does not contain the path, which the client chooses."""
    rig = Rig()
    rig.client.get("/unicorn?limit=1")
    assert len(rig.telemetry.spans) == 1
    assert (rig.server_span.name, rig.server_span.kind) == ("GET /<beast>", SpanKind.SERVER)
    assert rig.span_attributes["beast"] == "unicorn"
    assert rig.span_attributes["http.target"] == "/unicorn"
    assert rig.span_attributes["http.route"] == "/<beast>"


@pytest.mark.parametrize(
    ("route", "beast", "target"),
    [
        ("/<beast>", "unicorn", "/unicorn"),
        ("/api/<beast>", "unicorn", "/api/unicorn"),
        ("/<beast>", "unknown", "/unknown"),
        ("/static/<path:filename>", "unknown", "/unknown"),
        ("unknown", "unknown", "/unknown"),
        ("/", "unknown", "/"),
    ],
)
def test_the_target_is_a_beast_or_a_fixed_route(route: str, beast: str, target: str) -> None:
    """Nothing else of the path is in it, since span metrics have one series per target."""
    assert RequestState("GET", route, beast, {}).target == target


@pytest.mark.parametrize("optin", ["", "http,database", "none"])
@pytest.mark.parametrize(("method", "path"), UNEXPECTED_REQUESTS)
def test_values_of_a_client_are_not_in_span_names_or_labels(method: str, path: str, optin: str) -> None:
    """Span names, http.target, and labels are dimensions of metrics: a scan must not create a series per path."""
    rig = Rig({SEMCONV: optin})
    rig.client.open(path, method=method)
    assert re.fullmatch(r"(GET|POST|PUT|HTTP) /(<beast>|<anything:path>)?", rig.server_span.name)
    assert rig.span_attributes.get("http.target", "/unknown") in ("/unknown", "/unicorn", "/")
    assert rig.span_attributes.get("http.method", "GET") in ("GET", "POST", "PUT", "_OTHER")
    ((labels, _),) = rig.telemetry.points("mythical_request_times")
    assert set(labels) == {"method", "status", "beast"}
    assert labels["beast"] in ("unknown", "unicorn")
    assert labels["method"] in ("GET", "POST", "PUT", "_OTHER")
    ((labels, _),) = rig.telemetry.points("http.server.request.duration")
    assert labels["http.request.method"] in ("GET", "POST", "PUT", "_OTHER")
    assert labels["http.route"] in ("/<beast>", "/<anything:path>", "/")
    assert labels["url.scheme"] == "http"


def test_a_hundred_different_requests_make_few_series() -> None:
    """Any paths, methods, hosts, and agents result in at most one series for each status."""
    rig = Rig()
    for number in range(100):
        headers = {"Host": f"host{number}.example:{number}", "User-Agent": f"agent {number}"}
        rig.client.open(f"/beast{number}", method=f"M{number}" if number % 2 else "GET", headers=headers)
    assert len(rig.telemetry.points("mythical_request_times")) <= 3
    assert len(rig.telemetry.points("http.server.request.duration")) <= 3
    assert {span.name for span in rig.telemetry.spans} == {"GET /<beast>", "HTTP /<beast>"}


def test_the_histogram_has_the_buckets_labels_and_exemplars_of_the_interface() -> None:
    """mythical_request_times{method,status,beast} is in milliseconds; each exemplar has the request's trace ID."""
    rig = Rig()
    rig.client.post("/owlbear", json={"name": "x"})
    ((labels, point),) = rig.telemetry.points("mythical_request_times")
    assert labels == {"method": "POST", "status": "201", "beast": "owlbear"}
    assert list(point.explicit_bounds) == [10, 20, 50, 100, 200, 500, 1000, 2000, 4000, 8000, 16000]
    assert [exemplar.trace_id for exemplar in point.exemplars] == [rig.telemetry.context.trace_id]
    ((_, seconds),) = rig.telemetry.points("http.server.request.duration")
    assert seconds.sum * 1000 == pytest.approx(point.sum, rel=0.01)


def test_the_boring_catalogue_labels_its_endpoint() -> None:
    """With ENDPOINT_TYPE=BORING, the tag is `endpoint` instead of `beast` everywhere."""
    rig = Rig({"ENDPOINT_TYPE": "BORING"})
    rig.client.get("/login")
    assert rig.span_attributes["endpoint"] == "login"
    ((labels, _),) = rig.telemetry.points("mythical_request_times")
    assert labels == {"method": "GET", "status": "200", "endpoint": "login"}


@pytest.mark.parametrize(
    ("status", "code"),
    [(200, StatusCode.UNSET), (404, StatusCode.UNSET), (500, StatusCode.ERROR), (503, StatusCode.ERROR)],
)
def test_only_an_error_of_the_server_is_an_error_of_its_span(status: int, code: StatusCode) -> None:
    """A 404 is the client's error (HTTP conventions, status of server spans)."""
    rig = Rig(null_name=1)
    rig.store.is_down = status == 503
    rig.client.open(
        "/unicorn" if status != 404 else "/x", method="POST" if status == 500 else "GET", json={"name": "x"}
    )
    assert rig.span_attributes["http.status_code"] == rig.span_attributes["http.response.status_code"] == status
    assert rig.server_span.status.status_code is code


def lines_of(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return the log lines about requests."""
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
def test_each_request_is_one_line_with_its_trace_id(
    caplog: pytest.LogCaptureFixture, method: str, path: str, level: str, fields: dict[str, str]
) -> None:
    """The line has the reason of a failure, which is not in the response; errors of the server have level ERROR."""
    caplog.set_level(logging.INFO)
    caplog.handler.addFilter(TraceContextFilter())
    rig = Rig(null_name=1)
    rig.client.open(path, method=method, json={"name": "x"})
    (line,) = lines_of(caplog)
    assert line.levelname == level
    assert fields.items() <= line.__dict__["fields"].items()
    assert line.__dict__["trace_id"] == f"{rig.telemetry.context.trace_id:032x}"
    assert line.__dict__["tags"] == ({} if "dragon" in path else {"beast": "unicorn"})


@pytest.mark.parametrize("host", ["x", "x:1", "x:99999999999999999999", "[::1]:4000", "a b", ""])
def test_no_host_header_breaks_a_request(host: str) -> None:
    """The client chooses the header; values that cannot be parsed are omitted or kept as they are."""
    rig = Rig()
    assert rig.client.get("/unicorn", headers={"Host": host}).status_code in (200, 400)
    assert all(not isinstance(value, int) or abs(value) < 2**63 for value in rig.span_attributes.values())


def test_with_the_sdk_disabled_the_server_serves() -> None:
    """With OTEL_SDK_DISABLED=true, there are no spans, and the responses are the same."""
    rig = Rig({"OTEL_SDK_DISABLED": "true"})
    assert rig.client.get("/unicorn").status_code == 200
    assert rig.telemetry.spans == []


MARKS = "user_agent.synthetic.type=test,loadtest.user.kind=breeder,loadtest.shape=day,loadtest.run.id=r1"


def test_synthetic_load_is_marked_in_span_metrics_and_log_line(caplog: pytest.LogCaptureFixture) -> None:
    """All of them have the type. Kind and shape are on the span, and the run ID, which is unbounded, is on none."""
    caplog.set_level(logging.INFO)
    rig = Rig()
    rig.client.get("/unicorn", headers={"baggage": MARKS})
    marks = {
        name: value for name, value in rig.span_attributes.items() if name.startswith(("loadtest", "user_agent.synth"))
    }
    assert marks == {
        "user_agent.synthetic.type": "test",
        "loadtest.user.kind": "breeder",
        "loadtest.shape": "day",
    }
    for metric in ("mythical_request_times", "http.server.request.duration"):
        ((labels, _),) = rig.telemetry.points(metric)
        assert labels["user_agent.synthetic.type"] == "test"
        assert not {name for name in labels if name.startswith("loadtest")}
    assert vars(caplog.records[-1])["fields"]["user_agent.synthetic.type"] == "test"


def test_other_requests_have_no_mark(caplog: pytest.LogCaptureFixture) -> None:
    """Requests whose baggage has unknown values have no mark either."""
    caplog.set_level(logging.INFO)
    rig = Rig()
    rig.client.get("/unicorn")
    rig.client.get("/unicorn", headers={"baggage": "user_agent.synthetic.type=person,loadtest.shape=day"})
    assert not {name for name in rig.span_attributes if name.startswith(("loadtest", "user_agent.synth"))}
    ((labels, _),) = rig.telemetry.points("mythical_request_times")
    assert "user_agent.synthetic.type" not in labels
    assert "user_agent.synthetic.type" not in vars(caplog.records[-1])["fields"]
