"""A process reports metrics about its CPU time, memory, threads, and files."""

import threading
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from common.telemetry.process import observe_process


def observed() -> dict[str, dict[str, float]]:
    """Return the values by instrument and by the value of its only label."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    observe_process(provider.get_meter("test"))
    data = reader.get_metrics_data()
    provider.shutdown()
    assert data is not None
    return {
        metric.name: {
            ",".join(str(value) for value in (point.attributes or {}).values()): point.value
            for point in metric.data.data_points
            if isinstance(point, NumberDataPoint)
        }
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
    }


def test_cpu_time_is_reported_by_mode() -> None:
    """The conventions define the modes user and system."""
    times = observed()["process.cpu.time"]
    assert set(times) == {"user", "system"}
    assert times["user"] > 0


def test_memory_is_in_bytes() -> None:
    """A Python process with the SDK holds about 30 MB; kilobytes or pages would be out of this range."""
    assert 10e6 < observed()["process.memory.usage"][""] < 4e9


def test_threads_are_counted() -> None:
    """An additional thread increases the count by one."""
    before = observed()["process.thread.count"][""]
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    during = observed()["process.thread.count"][""]
    end.set()
    thread.join()
    assert during == before + 1


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system has no /proc/self/fd")
def test_open_files_are_counted(tmp_path: Path) -> None:
    """A leak can be seen long before the limit is reached."""
    before = observed()["process.unix.file_descriptor.count"][""]
    with (tmp_path / "x").open("w"):
        assert observed()["process.unix.file_descriptor.count"][""] == before + 1
