"""Every OTEL_* variable of the specification works, or is rejected with one line that names an alternative."""

from pathlib import Path

import pytest

from common.core.env import Env, SettingsError
from common.telemetry.settings import telemetry_settings
from common.telemetry.standard_variables import CHECKS, UNSUPPORTED, move_credentials, remove_unset

INTEGERS = (["1", "4096"], ["-1", "1.5", "many", "10s", "99999999999"])
MILLISECONDS = (["1", "30000"], ["0", "-1", "10s", "1.5"])

# Source: OpenTelemetry specification, environment variables; general, batch processors, limits, exporters, metrics.
# Variable → valid values, invalid values.
ROWS: dict[str, tuple[list[str], list[str]]] = {
    "OTEL_SDK_DISABLED": (["true", "false"], ["maybe"]),
    "OTEL_SERVICE_NAME": (["renamed"], []),
    "OTEL_PROPAGATORS": (
        ["tracecontext", "baggage,tracecontext", "none"],
        ["b3", "tracecontext,jaeger", "none,baggage"],
    ),
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": (["otel", "process,os", "*"], ["gcp"]),
    "OTEL_RESOURCE_ATTRIBUTES": (["a=b", "a=b=c, d=%2C,", "a="], ["a", "=b", 'a="x,y"']),
    "OTEL_PYTHON_CONTEXT": (["contextvars_context"], ["nonsense"]),
    "OTEL_TRACES_SAMPLER": (["always_off", "parentbased_traceidratio"], ["jaeger_remote", "xray", "sometimes"]),
    "OTEL_TRACES_SAMPLER_ARG": (["0", "0.25", "1"], ["2", "-1", "half"]),
    "OTEL_TRACES_EXPORTER": (["otlp", "none"], ["zipkin", "jaeger"]),
    "OTEL_METRICS_EXPORTER": (["otlp", "none"], ["prometheus"]),
    "OTEL_LOGS_EXPORTER": (["otlp", "none", "console"], ["syslog"]),
    "OTEL_METRICS_EXEMPLAR_FILTER": (["always_on", "always_off", "trace_based"], ["sometimes"]),
    "OTEL_METRIC_EXPORT_INTERVAL": (["1000"], ["0", "10s"]),
    "OTEL_METRIC_EXPORT_TIMEOUT": MILLISECONDS,
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": (["cumulative", "delta", "lowmemory"], ["total"]),
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": (
        ["explicit_bucket_histogram", "base2_exponential_bucket_histogram"],
        ["summary"],
    ),
    "OTEL_BSP_SCHEDULE_DELAY": MILLISECONDS,
    "OTEL_BSP_EXPORT_TIMEOUT": MILLISECONDS,
    "OTEL_BSP_MAX_QUEUE_SIZE": (["512", "100000"], ["100", "0", "many"]),
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": (["1", "512", "8192"], ["0", "x", "8193"]),
    "OTEL_BLRP_SCHEDULE_DELAY": MILLISECONDS,
    "OTEL_BLRP_EXPORT_TIMEOUT": MILLISECONDS,
    "OTEL_BLRP_MAX_QUEUE_SIZE": (["2048"], ["0", "x"]),
    "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": (["1", "2048"], ["0", "x", "2049"]),
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": INTEGERS,
    "OTEL_ATTRIBUTE_COUNT_LIMIT": INTEGERS,
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": INTEGERS,
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": INTEGERS,
    "OTEL_SPAN_EVENT_COUNT_LIMIT": INTEGERS,
    "OTEL_SPAN_LINK_COUNT_LIMIT": INTEGERS,
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": INTEGERS,
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": INTEGERS,
    "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT": INTEGERS,
    "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": INTEGERS,
}
ROWS |= dict.fromkeys(
    (
        *("OTEL_PYTHON_EXCLUDED_URLS", "OTEL_PYTHON_FLASK_EXCLUDED_URLS"),
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST",
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE",
    ),
    (["healthz,/admin/.*", ".*"], ["*", "a,("]),
)
# Of the libraries below: set to nothing, these end the process as well.
OF_LIBRARIES = {
    "GRPC_POLL_STRATEGY": (["poll", "epoll1", "all"], ["", "none", "epollex", "Poll"]),
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": (["upb", "python"], ["", "cpp", "UPB", "nonsense"]),
}
for signal in ("", "TRACES_", "METRICS_", "LOGS_"):
    ROWS |= {
        f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT": (["http://h:4318", "h:4317"], ["http://", "ftp://h"]),
        f"OTEL_EXPORTER_OTLP_{signal}PROTOCOL": (["grpc", "http/protobuf"], ["http/json", "kafka"]),
        f"OTEL_EXPORTER_OTLP_{signal}HEADERS": (
            ["a=b", "a=b, c=d=e,", "A=%20b%2C"],
            ["token", "=b", "a b=c", "a=b\nc", "a=%0A", "a=\xe9", "a-bin=b"],
        ),
        f"OTEL_EXPORTER_OTLP_{signal}TIMEOUT": (["10", "0.5"], ["10s", "10000", "0"]),
        f"OTEL_EXPORTER_OTLP_{signal}COMPRESSION": (["gzip", "none"], ["zstd"]),
        f"OTEL_EXPORTER_OTLP_{signal}INSECURE": (["true", "false"], ["1", "maybe"]),
        f"OTEL_EXPORTER_OTLP_{signal}CERTIFICATE": ([__file__], ["/nowhere/ca.pem"]),
        f"OTEL_EXPORTER_OTLP_{signal}CLIENT_CERTIFICATE": ([__file__], ["/nowhere/cert.pem"]),
        f"OTEL_EXPORTER_OTLP_{signal}CLIENT_KEY": ([__file__], ["/nowhere/key.pem"]),
    }


@pytest.mark.parametrize("name", ROWS)
def test_a_valid_value_is_accepted(name: str) -> None:
    """An empty variable counts as unset."""
    for value in ["", " ", *ROWS[name][0]]:
        telemetry_settings(Env({name: value}), "test")


@pytest.mark.parametrize("name", [*ROWS, *OF_LIBRARIES])
def test_an_invalid_value_is_one_line_with_the_name(name: str) -> None:
    """The line also has the valid values."""
    good, bad = {**ROWS, **OF_LIBRARIES}[name]
    for value in good:
        telemetry_settings(Env({name: value}), "test")
    for value in bad:
        with pytest.raises(SettingsError, match=name) as caught:
            telemetry_settings(Env({name: value}), "test")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_values_that_python_does_not_support_are_rejected_with_an_alternative(name: str) -> None:
    """They are not silently ignored."""
    with pytest.raises(SettingsError, match=f"{name} isn't supported; "):
        telemetry_settings(Env({name: "1"}), "test")


def test_every_checked_variable_has_a_row() -> None:
    """An added variable needs a row."""
    assert CHECKS.keys() <= ROWS.keys()


def test_the_value_of_a_header_is_not_printed() -> None:
    """It may be a token."""
    with pytest.raises(SettingsError) as caught:
        telemetry_settings(Env({"OTEL_EXPORTER_OTLP_HEADERS": "s3cret"}), "test")
    assert "s3cret" not in str(caught.value)


def test_a_certificate_must_exist(tmp_path: Path) -> None:
    """Otherwise, the exporter would log a traceback and continue without it."""
    with pytest.raises(SettingsError, match="isn't a file"):
        telemetry_settings(Env({"OTEL_EXPORTER_OTLP_CERTIFICATE": str(tmp_path)}), "test")


def test_an_empty_variable_does_not_reach_the_sdk() -> None:
    """Its exporters would raise an error, as for the compression `none` over gRPC; blanks around it are ignored."""
    environ = {
        "OTEL_EXPORTER_OTLP_COMPRESSION": " ",
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "none",
        "OTEL_TRACES_SAMPLER": " Always_on ",
        "OTEL_METRICS_EXEMPLAR_FILTER": "ALWAYS_ON",
        "OTEL_SERVICE_NAME": "Mine",
        "OTHER": "",
    }
    remove_unset(environ)
    assert environ == {
        "OTEL_TRACES_SAMPLER": "always_on",
        "OTEL_METRICS_EXEMPLAR_FILTER": "always_on",
        "OTEL_SERVICE_NAME": "Mine",
        "OTHER": "",
    }


def test_credentials_in_an_endpoint_become_the_header_of_each_signal() -> None:
    """gRPC does not support them in a URL, and exporters log the URL; an existing header takes precedence."""
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:pw@alloy:4317",
        "OTEL_EXPORTER_OTLP_HEADERS": "tenant=a",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "https://user:p%40w@mimir/otlp",
        "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "Authorization=Bearer%20t",
    }
    move_credentials(environ)
    assert environ == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://alloy:4317",
        "OTEL_EXPORTER_OTLP_HEADERS": "tenant=a",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "https://mimir/otlp",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "tenant=a,authorization=Basic%20dXNlcjpwdw%3D%3D",
        "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "tenant=a,authorization=Basic%20dXNlcjpwQHc%3D",
        "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "Authorization=Bearer%20t",
    }
