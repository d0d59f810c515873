"""The variables of the OpenTelemetry specification that the SDK reads by itself, checked before the SDK starts.

A value that the SDK can't use ends it with a traceback, or is ignored with a warning that nobody sees. Here each wrong
value is a SettingsError that names the variable. What Python doesn't support is rejected with what to use instead.

Source: OpenTelemetry specification, "Environment Variable Specification" and "OpenTelemetry Protocol Exporter".
"""

from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import quote

from common.core.address import split_credentials
from common.core.env import Env, SettingsError

SAMPLERS = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)
LARGEST = 2**31 - 1
SIGNALS = ("", "TRACES_", "METRICS_", "LOGS_")

# What a span may hold.
LIMITS = tuple(
    f"OTEL_{what}_LIMIT"
    for what in (
        "ATTRIBUTE_VALUE_LENGTH",
        "ATTRIBUTE_COUNT",
        "SPAN_ATTRIBUTE_VALUE_LENGTH",
        "SPAN_ATTRIBUTE_COUNT",
        "SPAN_EVENT_COUNT",
        "SPAN_LINK_COUNT",
        "EVENT_ATTRIBUTE_COUNT",
        "LINK_ATTRIBUTE_COUNT",
    )
)
LOG_LIMITS = ("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT")

# Variable → what to use instead.
UNSUPPORTED = {
    "OTEL_CONFIG_FILE": "set the OTEL_* variables instead",
    "OTEL_EXPERIMENTAL_CONFIG_FILE": "set the OTEL_* variables instead",
    "OTEL_EXPORTER_PROMETHEUS_HOST": "metrics are served at /metrics; set HTTP_HOST instead",
    "OTEL_EXPORTER_PROMETHEUS_PORT": "metrics are served at /metrics; set HTTP_PORT instead",
    "OTEL_EXPORTER_ZIPKIN_ENDPOINT": "send OTLP to a collector that exports to Zipkin; set OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_ZIPKIN_TIMEOUT": "send OTLP to a collector that exports to Zipkin; set OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_LOG_LEVEL": "set LOG_LEVEL instead",
}


def check_standard_variables(values: Mapping[str, str]) -> None:
    """Raise SettingsError for the first environment variable with a value that the SDK could not use."""
    env = Env(values)
    for name, instead in UNSUPPORTED.items():
        if env.text(name, ""):
            raise SettingsError(f"{name} isn't supported; {instead}")
    for name, check in CHECKS.items():
        if env.text(name, ""):
            check(env, name)
    size, batch = (env.text(f"OTEL_BSP_MAX_{what}", "") for what in ("QUEUE_SIZE", "EXPORT_BATCH_SIZE"))
    if size and int(size) < int(batch or 512):
        raise SettingsError(
            f"OTEL_BSP_MAX_QUEUE_SIZE={size!r} is smaller than a batch of {batch or 512} spans; "
            "give a larger one, or a smaller OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
        )


def remove_unset(environ: MutableMapping[str, str]) -> None:
    """Remove standard variables that are set to nothing, and compression `none`, which the gRPC exporters reject.

    By the specification both mean the default; some parts of the SDK raise instead.
    """
    for name in [name for name in environ if name.startswith("OTEL_")]:
        value = environ[name].strip().lower()
        if not value or (name.endswith("_COMPRESSION") and value == "none"):
            del environ[name]


def move_credentials(environ: MutableMapping[str, str]) -> None:
    """Replace user and password in the OTLP endpoints by the header that they stand for.

    gRPC does not know them, and the exporters log the endpoint as it is.
    """
    endpoints = {signal: environ.get(f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT", "") for signal in SIGNALS}
    headers = {signal: environ.get(f"OTEL_EXPORTER_OTLP_{signal}HEADERS", "") for signal in SIGNALS}
    for signal in SIGNALS[1:]:
        authorization = split_credentials(endpoints[signal] or endpoints[""])[1]
        present = headers[signal] or headers[""]
        names = {pair.partition("=")[0].strip().lower() for pair in present.split(",")}
        if authorization and "authorization" not in names:
            more = f"authorization={quote(authorization)}"
            environ[f"OTEL_EXPORTER_OTLP_{signal}HEADERS"] = f"{present},{more}" if present else more
    for signal, endpoint in endpoints.items():
        if endpoint:
            environ[f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT"] = split_credentials(endpoint)[0]


def _integer(env: Env, name: str, low: int = 0) -> None:
    env.integer(name, low, low, LARGEST)


def _choice(env: Env, name: str, *options: str) -> None:
    env.choice(name, options[0], options)


def _seconds(env: Env, name: str) -> None:
    try:
        env.number(name, 10, 0.001, 600)
    except SettingsError as error:
        # By the specification these are milliseconds; the exporters for Python read seconds.
        raise SettingsError(f"{error}, in seconds") from None


def _endpoint(env: Env, name: str) -> None:
    # For gRPC, host:port without a scheme is an address too.
    value = env.text(name, "")
    if "://" in value:
        env.url(name, "")
    else:
        env.host_port(name, "http://alloy:4318")


def _headers(env: Env, name: str) -> None:
    for pair in env.text(name, "").split(","):
        key, equals, _ = pair.partition("=")
        if pair.strip() and not (key.strip() and equals):
            raise SettingsError(f"{name} isn't a list of headers; give name=value, with commas between")


def _file(env: Env, name: str) -> None:
    value = env.text(name, "")
    if not Path(value).is_file():
        raise SettingsError(f"{name}={value!r} isn't a file that this user can read")


def _flag(env: Env, name: str) -> None:
    _choice(env, name, "true", "false")  # the exporters understand no other words


def _propagators(env: Env, name: str) -> None:
    installed = sorted({"none", *entry_points(group="opentelemetry_propagator").names})
    for propagator in env.text(name, "").split(","):
        if propagator.strip() not in installed:
            raise SettingsError(f"{name}={propagator.strip()!r} isn't installed; installed are {', '.join(installed)}")


def _sampler_argument(env: Env, name: str) -> None:
    env.number(name, 1, 0, 1)


_milliseconds = partial(_integer, low=1)

CHECKS: dict[str, Callable[[Env, str], None]] = {
    "OTEL_TRACES_SAMPLER": lambda env, name: _choice(env, name, *SAMPLERS),
    "OTEL_TRACES_SAMPLER_ARG": _sampler_argument,
    "OTEL_METRICS_EXEMPLAR_FILTER": lambda env, name: _choice(env, name, "trace_based", "always_on", "always_off"),
    "OTEL_METRIC_EXPORT_TIMEOUT": _milliseconds,
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": lambda env, name: _choice(
        env, name, "explicit_bucket_histogram", "base2_exponential_bucket_histogram"
    ),
    **{
        f"OTEL_{processor}_{what}": _milliseconds
        for processor in ("BSP", "BLRP")
        for what in ("SCHEDULE_DELAY", "EXPORT_TIMEOUT", "MAX_EXPORT_BATCH_SIZE")
    },
    "OTEL_BSP_MAX_QUEUE_SIZE": _milliseconds,
    **dict.fromkeys(LIMITS, _integer),
    **dict.fromkeys(LOG_LIMITS, _integer),
    "OTEL_PROPAGATORS": _propagators,
    **{f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT": _endpoint for signal in SIGNALS},
    **{f"OTEL_EXPORTER_OTLP_{signal}HEADERS": _headers for signal in SIGNALS},
    **{f"OTEL_EXPORTER_OTLP_{signal}TIMEOUT": _seconds for signal in SIGNALS},
    **{f"OTEL_EXPORTER_OTLP_{signal}INSECURE": _flag for signal in SIGNALS},
    **{
        f"OTEL_EXPORTER_OTLP_{signal}COMPRESSION": lambda env, name: _choice(env, name, "none", "gzip")
        for signal in SIGNALS
    },
    **{
        f"OTEL_EXPORTER_OTLP_{signal}{what}": _file
        for signal in SIGNALS
        for what in ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE")
    },
}
