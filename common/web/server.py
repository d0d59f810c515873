"""Serving: one worker process that holds many connections with a few threads, and ends without losing a request."""

import ctypes
import ipaddress
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from wsgiref.types import WSGIApplication

from granian.constants import HTTPModes, Interfaces
from granian.server import MPServer

from common.core.env import Env, SettingsError
from common.web.granian_worker import Take
from common.web.granian_worker import work as work_on_requests

# From linux/prctl.h: the signal that a process gets when its parent dies.
PR_SET_PDEATHSIG = 1

# Beside the threads that work and those that hold a waiting request: these refuse, and answer the pages for machines.
SPARE_THREADS = 4


@dataclass(frozen=True)
class Address:
    """Where a service listens, how many requests it works on at a time, how many connections it holds.

    `waiting` more requests may be in its hands, for whoever puts ConcurrencyLimiter before the service.
    """

    host: str
    port: int
    threads: int
    backlog: int
    waiting: int = 0


def address(env: Env, port: int) -> Address:
    """Read the address. Loopback unless told otherwise: the pages for machines are not for everyone."""
    return Address(
        host=_in_numbers("HTTP_HOST", env.text("HTTP_HOST", "127.0.0.1")),
        port=env.port("HTTP_PORT", port),
        threads=env.integer("HTTP_THREADS", 4, 1, 256),
        backlog=env.integer("HTTP_BACKLOG", 1024, 128, 65535),
    )


def _in_numbers(name: str, host: str) -> str:
    """Give the address; granian takes no names."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise SettingsError(f"{name}={host!r} is no address in numbers, as 127.0.0.1 and 0.0.0.0 are") from None
    return host


def loopback(where: Address) -> bool:
    """Tell whether only this machine can reach the address; elsewhere the debug pages stay shut unless asked for."""
    return where.host in ("127.0.0.1", "::1")


def check_free(where: Address) -> None:
    """Raise SettingsError where nobody can listen: granian would say so in fifty lines."""
    family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        # As granian does, but without SO_REUSEPORT, which it sets besides: so a second service would listen beside one
        # that was forgotten, and get every other request.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((where.host, where.port))
        except OSError as error:
            raise SettingsError(
                f"HTTP_HOST={where.host!r} with HTTP_PORT={where.port} cannot be listened on: {error.strerror}; "
                "end the program that does, or choose another port"
            ) from None


class Running:
    """What a service has running: its WSGI application, and what has to be ended, in order, when it stops.

    `late` is called for each request whose body did not come in time.
    """

    def __init__(
        self, app: WSGIApplication, *closing: Callable[[], object], late: Callable[[], object] = lambda: None
    ) -> None:
        self.app = app
        self.late = late
        self._closing = closing

    def close(self) -> None:
        """End everything; one part that fails to end does not keep the next from it."""
        for close in self._closing:
            try:
                close()
            except Exception:
                logging.getLogger(__name__).exception("could not end a part of the service")


def serve(where: Address, start: Callable[[threading.Event], Running]) -> None:
    """Serve until SIGTERM or SIGINT; then answer what is under way, close what runs, and return.

    `start` is called in the worker process: threads and connections do not survive a fork. The event it is given is set
    when the signal comes, for whatever would keep the last answers waiting. Granian's supervising
    process stays outside; it imports nothing of the service and costs a few megabytes of its own. Raises SettingsError
    where the port is taken.
    """

    check_free(where)
    # With the fork method, the worker inherits `start` as it is; the other methods would have to pickle it.
    multiprocessing.set_start_method("fork", force=True)

    def work(worker: int, name: str, _load: object, *rest: Any) -> None:
        _die_with(os.getppid())
        running: list[Running] = []
        stop_event = _told_to_stop()

        def load() -> Take:
            # Imported here: what the supervising process does not load, it does not hold in memory.
            from common.web.whole_requests import WholeRequests

            # Granian calls this once it has set up its own logging, which closes every handler there is by then: a
            # service that was started any earlier would never send a line.
            running.append(start(stop_event))
            return WholeRequests(running[0].app, running[0].late).take

        try:
            work_on_requests(worker, name, load, *rest)
        finally:
            for each in running:
                each.close()

    logging.getLogger("_granian").addFilter(_not_about_threads)
    server = MPServer(
        "service",
        address=where.host,
        port=where.port,
        interface=Interfaces.WSGI,  # for any other, granian allows one thread
        # A request of HTTP/2 may have a body that no header tells of, and one connection many requests.
        http=HTTPModes.http1,
        workers=1,
        blocking_threads=where.threads + (where.waiting + SPARE_THREADS if where.waiting else 0),
        backlog=where.backlog,
        log_level="warning",  # type: ignore[arg-type]  # an enum of strings
        workers_kill_timeout=9,
    )
    server.serve(spawn_target=work, target_loader=_nothing, wrap_loader=False)


def _not_about_threads(record: logging.LogRecord) -> bool:
    """Keep back granian's warning of many threads at each start: most of ours only hold a request that waits."""
    return "Python threads" not in record.getMessage()


def _told_to_stop() -> threading.Event:
    """Give an event that is set by the first signal. The signals' handlers are granian's, so a wake-up pipe tells."""
    event = threading.Event()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def wait() -> None:
        os.read(reading, 1)
        event.set()

    threading.Thread(target=wait, name="stop-signal", daemon=True).start()
    return event


def _nothing() -> Any:
    """Granian loads an application by name; ours is made by `start`, in the worker."""


def _die_with(parent: int) -> None:
    """Have the kernel end this process, gently, when the supervising one dies: an orphan would hold the port."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)  # it died before we could ask


def main(run: Callable[[Env], None], arguments: Sequence[str]) -> NoReturn:
    """Run a service's main function with the environment; a wrong setting ends it with one line and status 2.

    Arguments are refused: there are none, and a service that ignored `--help` would start.
    """
    if arguments:
        sys.exit(_refuse("a service takes no arguments; its settings are environment variables, see docs/reference"))
    try:
        run(Env(os.environ))
    except SettingsError as error:
        sys.exit(_refuse(str(error)))
    sys.exit(0)


def _refuse(text: str) -> int:
    print(f"settings: {text}", file=sys.stderr)  # noqa: T201 - before there is any logging
    return 2
