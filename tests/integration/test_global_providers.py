"""Providers are registered globally, so an additional instrumentation library records its telemetry."""

import os
import sys
from pathlib import Path

import pytest

from local.processes.process import Process
from tests.integration.conftest import DEADLINE_S, Gateway, eventually

# The startup of a service, and a third-party module that doesn't know our setup.
PROGRAM = """
import os, sys
import urllib3
from opentelemetry import metrics, trace
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from common.core.env import Env
from common.telemetry.settings import telemetry_settings
from common.telemetry.setup import start_telemetry

tracer = trace.get_tracer("library")
counter = metrics.get_meter("library").create_counter("library.calls")
histogram = metrics.get_meter("library").create_histogram("library.duration")
telemetry = start_telemetry(telemetry_settings(Env(os.environ), "with-library"), job="with-library")
URLLib3Instrumentor().instrument()
with tracer.start_as_current_span("work") as span:
    urllib3.request("GET", sys.argv[1])
    counter.add(1)
    histogram.record(2.5)
print("trace", format(span.get_span_context().trace_id, "032x"))
telemetry.close()
"""


@pytest.mark.parametrize("layer", ["fast", "stock"])
def test_a_stock_instrumentation_library_records_within_our_traces(
    layer: str, tmp_path: Path, gateway: Gateway
) -> None:
    """Its span is a child of the current one; a tracer and a meter from before the start of telemetry record too."""
    process = Process(
        "with-library",
        [sys.executable, "-c", PROGRAM, f"{gateway.page}/api/summary"],
        log=tmp_path / "log",
        record=tmp_path / "pid",
        mark="with-library",
        environ=os.environ | gateway.settings | {"INSTRUMENTATION": layer, "NAMESPACE": layer},
    )
    process.launch()
    assert process.wait(DEADLINE_S)
    assert process.exit_code == 0, process.tail(30)
    (line,) = [line for line in process.tail(30).splitlines() if line.startswith("trace ")]

    def both() -> dict[str, dict[str, object]]:
        spans = {span["name"]: span for span in gateway.get(f"traces/{line.split()[1]}")}
        return spans if len(spans) > 1 else {}

    spans = eventually(both)
    assert spans["GET"]["parent_span_id"] == spans["work"]["span_id"]
    assert spans["GET"]["scope"] == "opentelemetry.instrumentation.urllib3"
    found = {
        metric["name"]
        for metric in gateway.get("metrics", service="with-library")
        if metric["resource"]["service.namespace"] == layer
    }
    assert {"library.calls", "library.duration", "http.client.duration"} <= found
