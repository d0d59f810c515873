"""Which generation of the semantic conventions spans speak: the old names, the new ones, or both."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from common.core.env import Env

VARIABLE = "OTEL_SEMCONV_STABILITY_OPT_IN"

# The old names are what existing dashboards ask for, the new ones what the field has moved to.
BOTH = "http/dup,database/dup"


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


@contextmanager
def pin_semconv_mode(chosen: Conventions) -> Iterator[None]:
    """Have the instrumentations that are switched on inside the block work with one generation of HTTP names.

    They name the schema of their spans by it, and give no metrics twice. They read the variable once per process, when
    the first of them starts.
    """

    from opentelemetry.instrumentation._semconv import _OpenTelemetrySemanticConventionStability as Stability

    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "http" if chosen.new_http else "default"
    Stability._initialize()  # type: ignore[no-untyped-call]  # reads the variable, once
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
