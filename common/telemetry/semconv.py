"""OpenTelemetry semantic conventions: which generation of names spans have, and the values that the HTTP ones fix."""

import os
from dataclasses import dataclass

from common.core.env import Env

VARIABLE = "OTEL_SEMCONV_STABILITY_OPT_IN"

# Existing dashboards query the old names; the new ones are stable.
BOTH = "http/dup,database/dup"

# The advised bucket boundaries, in seconds. Source: semantic conventions, metrics http.server.request.duration and
# http.client.request.duration.
HTTP_DURATION_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

# Any other method becomes OTHER, since a caller could create label values with made-up ones.
# Source: semantic conventions, attribute http.request.method.
HTTP_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})
OTHER = "_OTHER"


@dataclass(frozen=True)
class Conventions:
    """The generations in force. Source: OpenTelemetry, "HTTP semantic convention stability migration"."""

    old_http: bool
    new_http: bool
    old_database: bool
    new_database: bool


def conventions(env: Env) -> Conventions:
    """Read OTEL_SEMCONV_STABILITY_OPT_IN: `http` is the new names alone, `http/dup` both, neither the old alone.

    Where both are written, `/dup` wins, as it does for the instrumentations.
    """
    wanted = {word.strip() for word in env.text(VARIABLE, BOTH).split(",")}
    return Conventions(
        old_http="http" not in wanted or "http/dup" in wanted,
        new_http=bool({"http", "http/dup"} & wanted),
        old_database="database" not in wanted or "database/dup" in wanted,
        new_database=bool({"database", "database/dup"} & wanted),
    )


def set_default_conventions() -> None:
    """Make our default that of the instrumentation libraries as well.

    They read the variable once per process, when the first of them starts: call this before that.
    """
    os.environ[VARIABLE] = os.environ.get(VARIABLE) or BOTH
