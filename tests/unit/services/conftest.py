"""Fixtures of all tests of the services."""

import pytest
from opentelemetry.instrumentation._semconv import _OpenTelemetrySemanticConventionStability as Stability

from common.telemetry.settings import BOTH_SEMCONVS, SEMCONV_VARIABLE


@pytest.fixture(autouse=True)
def _conventions_of_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reset the instrumentations, which read their variable once per process; each test represents a new process."""
    monkeypatch.setenv(SEMCONV_VARIABLE, BOTH_SEMCONVS)
    monkeypatch.setattr(Stability, "_initialized", False)
