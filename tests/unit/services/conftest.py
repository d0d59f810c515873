"""What every test of the services starts from."""

import pytest
from opentelemetry.instrumentation._semconv import _OpenTelemetrySemanticConventionStability as Stability

from common.telemetry.semconv import BOTH, VARIABLE


@pytest.fixture(autouse=True)
def _conventions_of_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The instrumentations read their variable once per process; each test stands for a process of its own."""
    monkeypatch.setenv(VARIABLE, BOTH)
    monkeypatch.setattr(Stability, "_initialized", False)
