"""Metrics of the process: CPU time, memory, threads and open files."""

import os
import resource
import threading
from collections.abc import Iterable
from pathlib import Path

from opentelemetry.metrics import CallbackOptions, Meter, Observation


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
        yield Observation(resident_pages * resource.getpagesize())
    except OSError:
        yield Observation(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _threads(_: CallbackOptions) -> Iterable[Observation]:
    yield Observation(threading.active_count())


def _files(_: CallbackOptions) -> Iterable[Observation]:
    yield Observation(sum(1 for _ in Path("/proc/self/fd").iterdir()))
