"""What identifies this process in all four signals, and the metrics of it: CPU time, memory, threads, open files."""

import os
import platform
import socket
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from resource import RUSAGE_SELF, getpagesize, getrusage

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.util.types import AttributeValue

VERSION = "0.1.0"


def resource(service: str, namespace: str) -> Resource:
    """Return the resource of this process.

    OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME take precedence. The command line is left out: it may hold secrets.
    Source: OpenTelemetry semantic conventions, resource attributes for service, deployment, host, os and process.
    """
    machine = platform.machine().lower()
    known: dict[str, AttributeValue] = {
        "service.name": service,
        "service.namespace": namespace,
        "service.version": VERSION,
        "deployment.environment.name": namespace,
        "deployment.environment": namespace,  # the old name, which existing dashboards query
        "host.name": socket.gethostname(),
        "host.arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine),
        "os.type": sys.platform,
        "process.pid": os.getpid(),
        "process.executable.name": os.path.basename(sys.executable),
        "process.runtime.name": sys.implementation.name,
        "process.runtime.version": platform.python_version(),
    }
    return Resource.create(known).merge(OTELResourceDetector().detect())


def observe_process(meter: Meter) -> None:
    """Register the process instruments of the OpenTelemetry conventions.

    Source: OpenTelemetry semantic conventions, "Process metrics". Without /proc (macOS), memory is the peak instead of
    the current value, and open files are not counted.
    """
    meter.create_observable_counter("process.cpu.time", [_cpu_time], unit="s", description="CPU time used.")
    meter.create_observable_up_down_counter(
        "process.memory.usage", [_memory], unit="By", description="Physical memory in use."
    )
    meter.create_observable_up_down_counter(
        "process.thread.count", [_threads], unit="{thread}", description="Threads known to Python."
    )
    if Path("/proc/self/fd").exists():
        meter.create_observable_up_down_counter(
            "process.unix.file_descriptor.count", [_files], unit="{file_descriptor}", description="Open files."
        )


def _cpu_time(_: CallbackOptions) -> Iterable[Observation]:
    times = os.times()
    yield Observation(times.user, {"cpu.mode": "user"})
    yield Observation(times.system, {"cpu.mode": "system"})


def _memory(_: CallbackOptions) -> Iterable[Observation]:
    try:
        resident_pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        yield Observation(resident_pages * getpagesize())
    except OSError:
        yield Observation(getrusage(RUSAGE_SELF).ru_maxrss)


def _threads(_: CallbackOptions) -> Iterable[Observation]:
    yield Observation(threading.active_count())


def _files(_: CallbackOptions) -> Iterable[Observation]:
    yield Observation(sum(1 for _ in Path("/proc/self/fd").iterdir()))
