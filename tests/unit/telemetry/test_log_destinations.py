"""Log lines go to standard output, Loki, or an OTLP collector, depending on the settings."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

from common.core.env import Env, SettingsError
from common.telemetry.logs import LOG_INTERVAL_S, ExporterLimit, start_logs
from common.telemetry.settings import Collector, LogSettings, log_settings
from tests.unit.telemetry.logfmt_grammar import parse
from tests.unit.telemetry.push_sink import LOOPBACK, Sink

LOKI = "http://alloy:3100/loki/api/v1/push"
LABELS = {"job": "test"}


@pytest.mark.parametrize(
    ("values", "destination"),
    [
        ({}, "console"),
        ({"LOGS_TARGET": ""}, "console"),
        ({"LOGS_TARGET": LOKI}, "loki"),
        ({"LOGS_TARGET": LOKI, "OTEL_LOGS_EXPORTER": "otlp"}, "otlp"),
        ({"LOGS_TARGET": LOKI, "OTEL_LOGS_EXPORTER": "console"}, "console"),
        ({"LOGS_TARGET": LOKI, "OTEL_LOGS_EXPORTER": "none"}, "loki"),
        ({"OTEL_LOGS_EXPORTER": "otlp"}, "otlp"),
        ({"OTEL_LOGS_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, "console"),
    ],
)
def test_the_destination_is_chosen_by_two_variables(values: dict[str, str], destination: str) -> None:
    """LOGS_TARGET selects Loki, the standard variable takes precedence, and the default is standard output."""
    assert log_settings(Env(values)).destination == destination


def test_a_target_that_is_not_a_url_is_rejected() -> None:
    """Otherwise, every line would be dropped, and only a counter would show it."""
    with pytest.raises(SettingsError, match="LOGS_TARGET"):
        log_settings(Env({"LOGS_TARGET": "alloy:3100"}))


@pytest.fixture
def restored_root_logger() -> Iterator[None]:
    """Restore the root logger after the test."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


def start(settings: LogSettings, port: int = 4318) -> tuple[logging.Handler, InMemoryMetricReader]:
    """Start the logs with a counter of dropped lines."""
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("test")
    handler = start_logs(
        settings,
        labels=LABELS,
        resource=Resource({"service.name": "test"}),
        collector=Collector(LOOPBACK, port, "http/protobuf"),
        meter=meter,
    )
    return handler, reader


@pytest.mark.usefixtures("restored_root_logger")
def test_on_standard_output_lines_are_logfmt(capsys: pytest.CaptureFixture[str]) -> None:
    """LOG_LEVEL sets the minimum level."""
    start(LogSettings("console", "", "INFO"))
    logging.getLogger("services.x").info("hello", extra={"fields": {"a": 1}})
    logging.getLogger("services.x").debug("not logged")
    (line,) = capsys.readouterr().out.splitlines()
    assert parse(line)[1:] == [("level", "info"), ("a", "1"), ("msg", "hello")]


@pytest.mark.usefixtures("restored_root_logger")
def test_logs_format_selects_json_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """Collectors that read the output of pods expect JSON more often than logfmt."""
    start(log_settings(Env({"LOGS_FORMAT": "json"})))
    logging.getLogger("services.x").info("hello", extra={"fields": {"a": 1}})
    (line,) = capsys.readouterr().out.splitlines()
    assert {"level": "info", "a": 1, "msg": "hello"}.items() <= json.loads(line).items()
    with pytest.raises(SettingsError, match="LOGS_FORMAT"):
        log_settings(Env({"LOGS_FORMAT": "xml"}))


@pytest.mark.usefixtures("restored_root_logger")
def test_lines_that_loki_rejects_are_counted_by_reason() -> None:
    """Gaps in the logs can then be distinguished from silence."""
    sink = Sink(400)
    handler, reader = start(LogSettings("loki", sink.url, "INFO"))
    logging.getLogger("services.x").info("hello")
    handler.close()
    sink.close()
    data = reader.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    assert metric.name == "mythical_log_lines_dropped"
    assert [dict(point.attributes or {}) for point in metric.data.data_points] == [{"reason": "rejected"}]


@pytest.mark.usefixtures("restored_root_logger")
def test_over_otlp_the_line_is_the_same() -> None:
    """It is in the body of the record, and close() flushes it."""
    sink = Sink(200)
    handler, _ = start(LogSettings("otlp", "", "INFO"), sink.port)
    logging.getLogger("services.x").info("hello", extra={"fields": {"a": 1}, "tags": {"beast": "unicorn"}})
    handler.close()
    sink.close()
    (push,) = sink.pushes
    assert push.path == "/v1/logs"
    assert b"a=1 msg=hello" in push.body
    assert b"unicorn" in push.body


@pytest.mark.parametrize(
    ("values", "headers"),
    [
        ({}, {}),
        ({"LOGS_TENANT": "a"}, {"X-Scope-OrgID": "a"}),
        ({"LOGS_TOKEN": "t"}, {"Authorization": "Bearer t"}),
        ({"LOGS_USER": "user", "LOGS_TOKEN": "pw"}, {"Authorization": "Basic dXNlcjpwdw=="}),
        ({"LOGS_TARGET": LOKI.replace("alloy", "user:pw@alloy")}, {"Authorization": "Basic dXNlcjpwdw=="}),
        ({"LOGS_TARGET": LOKI.replace("alloy", "user:pw@alloy"), "LOGS_TOKEN": "t"}, {"Authorization": "Bearer t"}),
    ],
)
def test_tenant_and_credentials_become_headers_of_each_push(values: dict[str, str], headers: dict[str, str]) -> None:
    """The variables take precedence over the URL, which is stored without credentials."""
    settings = log_settings(Env(values))
    assert settings.headers == headers
    assert settings.target in ("", LOKI)
    assert "pw" not in repr(settings)


def test_a_token_can_come_from_a_file_and_must_be_valid_in_a_header(tmp_path: Path) -> None:
    """A file may wrap it; the error about an invalid character does not contain it."""
    file = tmp_path / "token"
    file.write_text("abc\ndef\n", encoding="utf-8")
    assert log_settings(Env({"LOGS_TOKEN_FILE": str(file)})).headers == {"Authorization": "Bearer abcdef"}
    with pytest.raises(SettingsError, match="LOGS_TOKEN has a character that no HTTP header may have"):
        log_settings(Env({"LOGS_TOKEN": "s3crét"}))


def test_an_exporter_writes_a_line_of_each_level_in_half_a_minute() -> None:
    """With INSTRUMENTATION=zero-code its lines are not ours, and an outage may last for hours."""
    now = [0.0]
    limit = ExporterLimit(lambda: now[0])

    def passes(name: str, level: int) -> bool:
        return limit.filter(logging.LogRecord(name, level, "", 0, "text", (), None))

    exporter = "opentelemetry.exporter.otlp.proto.grpc.exporter"
    seen = [passes(exporter, logging.WARNING), passes(exporter, logging.WARNING), passes(exporter, logging.ERROR)]
    assert seen == [True, False, True]
    assert all(passes("services.x", logging.WARNING) for _ in range(3))
    now[0] = LOG_INTERVAL_S
    assert passes(exporter, logging.WARNING)
