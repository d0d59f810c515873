"""The web server with a minimal application: exceptions, stops, and the death of the supervising process."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from local.ports import LOOPBACK, free_port
from local.processes.process import Process
from tests.integration.conftest import DEADLINE_S, Service, eventually
from tests.integration.service_support import ask
from tools.query import is_up

MODULE = "tests.integration.minimal_service"
THREADS = 2
FALSE_ALARM = "refused to gracefully stop"


def service(folder: Path, number: int = 0, **env: str) -> Service:
    """Start a service without waiting for it."""
    port = free_port()
    process = Process(
        f"web-{number}",
        [sys.executable, "-m", MODULE],
        log=folder / f"{number}.log",
        record=folder / f"{number}.pid",
        mark=MODULE,
        environ=os.environ | {"HTTP_PORT": str(port), "HTTP_THREADS": str(THREADS), **env},
    )
    process.launch()
    return Service(process, f"http://{LOOPBACK}:{port}")


@contextmanager
def running(folder: Path, number: int = 0) -> Iterator[Service]:
    """Yield a service that answers; kill it at the end if it still runs."""
    started = service(folder, number)
    try:
        started.process.wait_ready(lambda: is_up(f"{started.base_url}/"), DEADLINE_S)
        yield started
    finally:
        started.process.kill()


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/raise", "unhandled exception"),
        ("/exit", "SystemExit: injected"),
        ("/raise-in-log", "injected into the log"),
        ("/status", "'9999 injected' is not a status"),
    ],
)
def test_any_exception_is_a_500_and_a_log_line_and_keeps_the_thread(tmp_path: Path, path: str, line: str) -> None:
    """The number of exceptions exceeds that of threads; one is raised by the logging of the first."""
    with running(tmp_path) as started:
        assert {ask(started.base_url, path).status for _ in range(4 * (THREADS + 4))} == {500}
        assert ask(started.base_url, "/").status == 200
        assert started.stop() == 0
        assert line in started.process.log.read_text(encoding="utf-8")


def test_a_stop_answers_requests_in_progress_without_a_false_alarm(tmp_path: Path) -> None:
    """The slow request is answered, idle connections don't delay the stop, and every hook runs afterwards."""
    for number in range(8):
        with running(tmp_path, number) as started:
            idle = [socket.create_connection((LOOPBACK, started.port)) for _ in range(4 * THREADS)]
            statuses: list[int] = []
            url = started.base_url
            caller = threading.Thread(target=lambda url=url, to=statuses: to.append(ask(url, "/slow").status))
            caller.start()
            eventually(lambda: "slow request" in started.process.log.read_text(encoding="utf-8"))
            assert started.stop() == 0
            caller.join()
            for connection in idle:
                connection.close()
        log = started.process.log.read_text(encoding="utf-8")
        assert statuses == [200]
        assert FALSE_ALARM not in log
        assert "shutdown hook failed" in log
        assert log.splitlines()[-1].startswith("closed, stop=True, ")


def test_idle_connections_occupy_no_threads(tmp_path: Path) -> None:
    """There are many more connections than threads, and each had a request."""
    with running(tmp_path) as started:
        idle = [socket.create_connection((LOOPBACK, started.port), timeout=60) for _ in range(200)]
        for connection in idle:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert ask(started.base_url, "/").status == 200
        for connection in idle:
            connection.close()
        assert started.stop() == 0


def test_a_service_stopped_during_its_start_exits(tmp_path: Path) -> None:
    """Granian does not handle signals yet; the started parts are closed."""
    started = service(tmp_path, STOP_AT_START="1")
    try:
        assert eventually(lambda: started.process.exit_code is not None and [started.process.exit_code]) == [0]
        assert "closed, stop=True, 0" in started.process.log.read_text(encoding="utf-8")
    finally:
        started.process.kill()


def test_a_service_ends_with_its_terminal_but_not_under_nohup(tmp_path: Path) -> None:
    """The signal goes to both of its processes; otherwise it would hold its port after its terminal is closed."""
    with running(tmp_path) as started:
        assert started.process.pid
        os.killpg(started.process.pid, signal.SIGHUP)
        assert eventually(lambda: started.process.exit_code is not None and [started.process.exit_code]) == [0]
        assert "closed, stop=True, " in started.process.log.read_text(encoding="utf-8")
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with running(tmp_path, 1) as started:
            assert started.process.pid
            os.killpg(started.process.pid, signal.SIGHUP)
            assert ask(started.base_url, "/").status == 200
            assert started.stop() == 0
    finally:
        signal.signal(signal.SIGHUP, ignored)


def other_thread(process: psutil.Process) -> int:
    """Return the id of a thread that isn't the main one."""
    return next(int(each.id) for each in process.threads() if each.id != process.pid)


def exit_status(zombie: psutil.Process) -> int:
    """Return the status with which a process has ended whose parent has not asked for it: proc(5), `exit_code`."""
    return int(Path(f"/proc/{zombie.pid}/stat").read_text(encoding="utf-8").split()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a signal cannot be sent to a thread")
def test_a_signal_that_another_thread_receives_stops_the_service(tmp_path: Path) -> None:
    """In both processes; the kernel prefers the main thread, but not after SIGSTOP, for example."""
    with running(tmp_path) as started:
        os.kill(other_thread(psutil.Process(started.process.pid)), signal.SIGTERM)
        assert eventually(lambda: started.process.exit_code is not None and [started.process.exit_code]) == [0]
    with running(tmp_path, 1) as started:
        supervisor = psutil.Process(started.process.pid)
        (worker,) = supervisor.children()
        supervisor.suspend()
        os.kill(other_thread(worker), signal.SIGTERM)
        eventually(lambda: worker.status() == psutil.STATUS_ZOMBIE)
        assert exit_status(worker) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the worker is stopped by the Linux kernel")
def test_the_worker_does_not_outlive_the_supervising_process(tmp_path: Path) -> None:
    """An orphan would keep the port open; the worker stops as after SIGTERM."""
    with running(tmp_path) as started:
        assert started.process.pid
        (worker,) = psutil.Process(started.process.pid).children()
        os.kill(started.process.pid, signal.SIGKILL)
        eventually(lambda: not worker.is_running())
        assert "closed, stop=True, 1" in started.process.log.read_text(encoding="utf-8")


def test_a_port_in_use_is_reported_in_one_line_with_status_2(tmp_path: Path) -> None:
    """Nothing else is started."""
    with running(tmp_path) as first:
        second = service(tmp_path, 1, HTTP_PORT=str(first.port))
        assert eventually(lambda: second.process.exit_code) == 2
        (line,) = second.process.log.read_text(encoding="utf-8").splitlines()
        assert line.startswith("settings: cannot listen on HTTP_HOST='127.0.0.1' with HTTP_PORT=")
        assert first.stop() == 0
