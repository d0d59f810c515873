"""The variables that the SDK and the libraries below it read by themselves, checked before the SDK starts.

A value that the SDK can't use ends it with a traceback, or is ignored with an unnoticed warning. Here each wrong
value is a SettingsError that names the variable. What Python doesn't support is rejected with what to use instead.

Source: OpenTelemetry specification, "Environment Variable Specification" and "OpenTelemetry Protocol Exporter"; gRPC,
doc/environment_variables.md.
"""

import re
from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import quote, unquote

from common.core.address import split_credentials
from common.core.env import Env, SettingsError

LARGEST = 2**31 - 1
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
SIGNALS = ("TRACES", "METRICS", "LOGS")

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

# By default: the queue of spans and that of log records, and their batches.
QUEUE_SIZES, BATCH_SIZE = {"BSP": 8192, "BLRP": 2048}, 512

# How the names of variables end that hold one of a few words.
ENUMERATIONS = ("_SAMPLER", "_FILTER", "_AGGREGATION", "_PREFERENCE", "_PROTOCOL", "_COMPRESSION", "_INSECURE")

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
    for name, accepted in OF_LIBRARIES.items():
        if (value := values.get(name, accepted[0])) not in accepted:
            raise SettingsError(f"{name}={value!r} is not one of {', '.join(accepted)}; unset it")
    for kind, most in QUEUE_SIZES.items():
        size = env.integer(f"OTEL_{kind}_MAX_QUEUE_SIZE", most, 1, LARGEST)
        batch = env.integer(f"OTEL_{kind}_MAX_EXPORT_BATCH_SIZE", BATCH_SIZE, 1, LARGEST)
        if size < batch:
            raise SettingsError(
                f"OTEL_{kind}_MAX_QUEUE_SIZE={size} is smaller than a batch of {batch}; "
                f"set a larger one, or a smaller OTEL_{kind}_MAX_EXPORT_BATCH_SIZE"
            )


def otlp_variable(environ: Mapping[str, str], signal: str, what: str) -> str:
    """Return OTEL_EXPORTER_OTLP_<signal>_<what>, else the variable for all signals, else an empty string."""
    names = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_{what}", f"OTEL_EXPORTER_OTLP_{what}")
    return next((value for name in names if (value := environ.get(name, "").strip())), "")


def otlp_headers(environ: Mapping[str, str], signal: str) -> dict[str, str]:
    """Return the headers for a signal, their names in lower case. Source: W3C Baggage, "Header Content"."""
    pairs = (pair.partition("=") for pair in otlp_variable(environ, signal, "HEADERS").split(","))
    return {unquote(name.strip()).lower(): unquote(value.strip()) for name, equals, value in pairs if equals}


def remove_unset(environ: MutableMapping[str, str]) -> None:
    """Remove standard variables that are set to nothing, and compression `none`, which the gRPC exporters reject.

    By the specification both mean the default; some parts of the SDK raise instead. White space around values and
    upper case, which some parts do not accept, are removed. Also remove the variables of the HTTP library that would
    take precedence over a certificate that is set for OTLP.
    """
    for name in [name for name in environ if name.startswith("OTEL_")]:
        value = environ[name].strip()
        environ[name] = value = value.lower() if name.endswith(ENUMERATIONS) else value
        if not value or (name.endswith("_COMPRESSION") and value == "none"):
            del environ[name]
    if any(otlp_variable(environ, signal, "CERTIFICATE") for signal in SIGNALS):
        for bundle in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            environ.pop(bundle, None)


def move_credentials(environ: MutableMapping[str, str]) -> None:
    """Replace user and password in the OTLP endpoints by the header that they stand for.

    gRPC does not know them, and the exporters log the endpoint as it is.
    """
    for signal in SIGNALS:
        authorization = split_credentials(otlp_variable(environ, signal, "ENDPOINT"))[1]
        if authorization and "authorization" not in otlp_headers(environ, signal):
            headers = otlp_variable(environ, signal, "HEADERS")
            more = f"authorization={quote(authorization)}"
            environ[f"OTEL_EXPORTER_OTLP_{signal}_HEADERS"] = f"{headers},{more}" if headers else more
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", *(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT" for signal in SIGNALS)):
        if name in environ:
            environ[name] = split_credentials(environ[name])[0]


Check = Callable[[Env, str], object]


def _integer(env: Env, name: str, low: int = 0) -> None:
    env.integer(name, low, low, LARGEST)


def _one_of(*options: str) -> Check:
    return lambda env, name: env.choice(name, options[0], options)


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
        key, equals, value = (unquote(part.strip()) for part in pair.partition("="))
        if not pair.strip():
            continue
        # gRPC expects bytes for a name with this end.
        valid = HEADER_NAME.fullmatch(key) and not key.lower().endswith("-bin")
        if not (valid and equals and value.isascii() and value.isprintable()):
            raise SettingsError(
                f"{name} isn't a list of headers; set name=value, with commas between, in printable ASCII"
            )


def _attributes(env: Env, name: str) -> None:
    for pair in filter(str.strip, env.text(name, "").split(",")):
        key, equals, _ = pair.partition("=")
        if not (key.strip() and equals):
            raise SettingsError(
                f"{name} isn't a list of attributes; set name=value, with commas between, %2C for a comma"
            )


def _file(env: Env, name: str) -> None:
    value = env.text(name, "")
    if not Path(value).is_file():
        raise SettingsError(f"{name}={value!r} isn't a file that this user can read")


def _propagators(env: Env, name: str) -> None:
    if env.text(name, "") != "none":
        _installed("opentelemetry_propagator")(env, name)


def _installed(group: str, *more: str) -> Check:
    """Return the check of a list of names, each that of an installed plug-in of the group, or one of `more`."""

    def check(env: Env, name: str) -> None:
        known = sorted({*more, *entry_points(group=group).names})
        for each in map(str.strip, env.text(name, "").split(",")):
            if each not in known:
                raise SettingsError(f"{name}={each!r} isn't installed; installed are {', '.join(known)}")

    return check


def _patterns(env: Env, name: str) -> None:
    for pattern in env.text(name, "").split(","):
        try:
            re.compile(pattern.strip())
        except re.error as error:
            raise SettingsError(f"{name}={pattern!r} isn't a regular expression: {error}") from None


_milliseconds = partial(_integer, low=1)

# For all signals, OTEL_EXPORTER_OTLP_ENDPOINT for example, or for one: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT.
OTLP_CHECKS: dict[str, Check] = {
    "ENDPOINT": _endpoint,
    "HEADERS": _headers,
    "TIMEOUT": _seconds,
    "INSECURE": _one_of("true", "false"),  # the exporters understand no other words
    "COMPRESSION": _one_of("none", "gzip"),
    **dict.fromkeys(("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE"), _file),
}

# What each accepts, to the letter: gRPC aborts the process for another value, and protobuf raises when it is imported.
OF_LIBRARIES = {
    "GRPC_POLL_STRATEGY": ("epoll1", "poll", "epoll1,poll", "all"),
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": ("upb", "python"),
}

CHECKS: dict[str, Check] = {
    "OTEL_TRACES_SAMPLER": _one_of(
        *(f"{parent}{kind}" for parent in ("", "parentbased_") for kind in ("always_on", "always_off", "traceidratio"))
    ),
    "OTEL_TRACES_SAMPLER_ARG": lambda env, name: env.number(name, 1, 0, 1),
    "OTEL_METRICS_EXEMPLAR_FILTER": _one_of("trace_based", "always_on", "always_off"),
    "OTEL_METRIC_EXPORT_TIMEOUT": _milliseconds,
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": _one_of(
        "explicit_bucket_histogram", "base2_exponential_bucket_histogram"
    ),
    **{
        f"OTEL_{processor}_{what}": _milliseconds
        for processor in ("BSP", "BLRP")
        for what in ("SCHEDULE_DELAY", "EXPORT_TIMEOUT", "MAX_EXPORT_BATCH_SIZE")
    },
    "OTEL_BSP_MAX_QUEUE_SIZE": _milliseconds,
    **dict.fromkeys((*LIMITS, *LOG_LIMITS), _integer),
    "OTEL_PROPAGATORS": _propagators,
    "OTEL_RESOURCE_ATTRIBUTES": _attributes,
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": _installed("opentelemetry_resource_detector", "*"),
    "OTEL_PYTHON_CONTEXT": _installed("opentelemetry_context"),
    **dict.fromkeys(
        (
            "OTEL_PYTHON_EXCLUDED_URLS",
            "OTEL_PYTHON_FLASK_EXCLUDED_URLS",
            "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST",
            "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE",
        ),
        _patterns,
    ),
    **{
        f"OTEL_EXPORTER_OTLP_{signal}{what}": check
        for signal in ("", *(f"{signal}_" for signal in SIGNALS))
        for what, check in OTLP_CHECKS.items()
    },
}
