"""Run a service: granian with one worker process and a few threads, which stops without losing a request."""

import ctypes
import io
import ipaddress
import logging
import multiprocessing
import os
import pkgutil
import re
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, Protocol, TypeVar
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels

from common.core.address import shown
from common.core.env import Env, SettingsError

log = logging.getLogger(__name__)

# From linux/prctl.h: the signal that a process receives when its parent dies.
PR_SET_PDEATHSIG = 1

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

# Threads in addition to those that work or hold a waiting request: they reject requests and serve the admin endpoints.
SPARE_THREADS = 4

# How long a stop waits for requests in progress. With the shutdown hooks, which take at most 4.5 s, it stays below the
# ten seconds after which Docker kills a container.
DRAIN_TIMEOUT_S = 4.5

# The largest body that is read, in bytes. It is above the application's own limit: a caller whose connection is closed
# while it still sends does not see the rejection.
MAX_READ_BYTES = 64 * 1024

STATUS = re.compile(r"[1-9][0-9]{2}(?: |$)")


@dataclass(frozen=True)
class Address:
    """Where a service listens, how many requests it processes at a time, how many connections it holds.

    `max_queue` is the number of requests that may wait in a ConcurrencyLimiter; each needs a thread.
    """

    host: str
    port: int
    threads: int
    backlog: int
    max_queue: int = 0


def address(env: Env, port: int) -> Address:
    """Read the address. Binds to loopback by default: the admin endpoints have no authentication."""
    host = env.text("HTTP_HOST", "127.0.0.1")
    try:
        ipaddress.ip_address(host)  # granian does not resolve names
    except ValueError:
        raise SettingsError(f"HTTP_HOST={shown(host)!r} isn't an IP address such as 127.0.0.1 or 0.0.0.0") from None
    return Address(
        host=host,
        port=env.port("HTTP_PORT", port),
        threads=env.integer("HTTP_THREADS", 4, 1, 256),
        backlog=env.integer("HTTP_BACKLOG", 1024, 128, 65535),
    )


def loopback(where: Address) -> bool:
    """Return whether only this machine can reach the address; elsewhere the debug endpoints are off by default."""
    return where.host in ("127.0.0.1", "::1")


def check_free(where: Address) -> None:
    """Raise SettingsError if the port is taken: granian would report it in fifty lines."""
    family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        # As granian does, but without SO_REUSEPORT, which granian sets as well: with it, a second service would listen
        # next to a forgotten one and receive every other request.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((where.host, where.port))
        except OSError as error:
            raise SettingsError(
                f"cannot listen on HTTP_HOST={where.host!r} with HTTP_PORT={where.port}: {error.strerror}; "
                "stop the program that does, or choose another port"
            ) from None


class ServiceRuntime:
    """A running service: its WSGI application, and the hooks that stop its parts, called in order."""

    def __init__(self, app: WSGIApplication, *shutdown_hooks: Callable[[], object]) -> None:
        self.app = app
        self._shutdown_hooks = shutdown_hooks

    def close(self) -> None:
        """Call every hook; one that raises does not keep the next from being called."""
        for hook in self._shutdown_hooks:
            try:
                hook()
            except Exception:
                log.exception("shutdown hook failed")


class Config(Protocol):
    """The settings of a service, of which only the address matters here."""

    @property
    def address(self) -> Address:
        """Where it listens."""


Settings = TypeVar("Settings", bound=Config)


def run_service(
    load: Callable[[Env], Settings],
    start: str,
    arguments: Sequence[str] | None = None,
    *,
    prepare: Callable[[Settings], object] = lambda _: None,
) -> NoReturn:
    """Read the settings with `load`, serve until SIGTERM or SIGINT, and exit: 0, or 2 for an invalid setting.

    `start` is the import path, as in `services.server.app:start`, of a function that accepts the settings and the stop
    event and returns a ServiceRuntime. It is imported in the worker only: what the supervising process does not import,
    it does not hold in memory. `prepare` is called in the worker before that. Arguments are rejected, or a service that
    ignored `--help` would start.
    """
    if sys.argv[1:] if arguments is None else arguments:
        sys.exit(_reject("a service takes no arguments; its settings are environment variables, see docs/reference"))
    try:
        config = load(Env(os.environ))

        def start_in_worker(stop_event: threading.Event) -> ServiceRuntime:
            prepare(config)
            runtime: ServiceRuntime = pkgutil.resolve_name(start)(config, stop_event)
            return runtime

        serve(config.address, start_in_worker)
    except SettingsError as error:
        sys.exit(_reject(str(error)))
    sys.exit(0)


def _reject(text: str) -> int:
    print(f"settings: {text}", file=sys.stderr)  # noqa: T201 - logging is not set up yet
    return 2


def serve(where: Address, start: Callable[[threading.Event], ServiceRuntime]) -> None:
    """Serve until SIGTERM, SIGINT, or the end of the terminal (SIGHUP, which nohup ignores).

    Then answer the requests in progress, call the shutdown hooks, and return.

    `start` is called in the worker process, since threads and connections do not survive a fork. Its event is set on
    the first signal, for whatever would delay the last responses. Raises SettingsError if the port is taken.
    """
    check_free(where)
    # With the fork method the worker inherits `start` as it is; the other methods would have to pickle it.
    multiprocessing.set_start_method("fork", force=True)
    supervisor = os.getpid()

    # Granian calls this in the worker once it has configured logging, which closes all existing handlers: a service
    # that started earlier would never send a log line.
    def load_app() -> WSGIApplication:
        _die_with(supervisor)
        signals = _signal_pipe()
        stop_event = threading.Event()
        runtime = start(stop_event)
        threading.Thread(target=_stop, args=(signals, stop_event, runtime), name="stop").start()
        if select.select([signals], [], [], 0)[0]:
            sys.exit(0)  # stopped while it started: granian does not handle signals yet
        return buffered(runtime.app)

    # A signal that reaches the worker before it can note it would be lost; it is pending instead.
    os.register_at_fork(
        before=partial(signal.pthread_sigmask, signal.SIG_BLOCK, STOP_SIGNALS),
        after_in_parent=_wake_on_signal,
    )

    # Granian warns of many threads at each start; most of ours only hold a request that waits.
    logging.getLogger("_granian").addFilter(lambda record: "Python threads" not in record.getMessage())
    server = Granian(
        "service",
        address=where.host,
        port=where.port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,  # with HTTP/2, one connection may hold many threads
        workers=1,
        blocking_threads=where.threads + where.max_queue + SPARE_THREADS,
        backlog=where.backlog,
        log_level=LogLevels.warning,
        # No workers_kill_timeout: with one, granian now and then reports that it kills a worker that has already
        # exited, as two of its threads wait for the same process. `_stop` limits the time instead.
    )
    # Granian would replace the worker when the terminal is closed, and go on without it.
    hangup = signal.getsignal(signal.SIGHUP)
    server.on_startup(lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN if hangup is signal.SIG_IGN else _terminate))
    server.serve(target_loader=load_app, wrap_loader=False)


def _terminate(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def buffered(app: WSGIApplication) -> WSGIApplication:
    """Return `app` behind a layer that reads the request's body first and collects the response.

    A caller that sends its body slowly then holds a thread, but no place among the requests that are processed. An
    exception becomes a response with status 500 and a log line, also one that is raised while the response is made.
    """
    # Imported here, as the supervising process does not need Flask.
    from common.web.problems import INTERNAL_ERROR, problem_response

    def call(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, *more: Any) -> Any:
            if not STATUS.match(status):
                raise ValueError(f"{status!r} is not a status")  # it would end the process
            return start_response(status, *more)

        try:
            _read_body(environ)
            pieces = app(environ, start)
            try:
                return [b"".join(pieces)]
            finally:
                if close := getattr(pieces, "close", None):
                    close()
        except Exception:
            log.exception("unhandled exception")
            return problem_response(500, INTERNAL_ERROR)(environ, start_response)

    return call


def _read_body(environ: WSGIEnvironment) -> None:
    """Replace the request's body by a buffer of known length; leave one that the application rejects by its length."""
    chunked = environ.pop("HTTP_TRANSFER_ENCODING", "")
    length = MAX_READ_BYTES + 1 if chunked else int(environ.get("CONTENT_LENGTH") or 0)
    # Not in PEP 3333: with it, Werkzeug would process a truncated body as if it were the whole.
    environ.pop("wsgi.input_terminated", None)
    if not length or (length > MAX_READ_BYTES and not chunked):
        return
    body = environ["wsgi.input"].read(length)
    environ["wsgi.input"] = io.BytesIO(body)
    if chunked:
        environ["CONTENT_LENGTH"] = str(len(body))


def _signal_pipe() -> int:
    """Return a file descriptor that becomes readable on a signal; the signal handlers are granian's."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGURG, lambda *_: None)  # for _interrupt_main_thread
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    return reading


def _wake_on_signal() -> None:
    """Start a thread that interrupts the main thread, in which granian waits, after the first signal.

    The kernel may deliver a signal to any thread, such as the one that continues first after SIGSTOP. Python runs
    handlers in the main thread only, which does not wake up for a signal that another thread received.
    """
    signals = _signal_pipe()

    def wake() -> None:
        os.read(signals, 1)
        _interrupt_main_thread()

    threading.Thread(target=wake, name="signals", daemon=True).start()


def _interrupt_main_thread() -> None:
    """Make the main thread run the handlers of signals that are pending.

    By a signal that nothing else uses: granian's own handler would run twice, and could wait for a lock that it holds.
    """
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGURG)


def _stop(signals: int, stop_event: threading.Event, runtime: ServiceRuntime) -> None:
    """Set the event on the first signal, wait for the requests in progress, close the runtime.

    Runs in a thread that Python waits for when the worker's main thread, in which granian serves, has ended. That
    does not happen while a caller holds back the body of a request: after a timeout the process kills itself.
    """
    serving = threading.main_thread()
    while serving.is_alive() and not select.select([signals], [], [], 1.0)[0]:
        pass  # granian may end without a signal, after an error of its own
    if serving.is_alive():
        _interrupt_main_thread()  # the signal may have been for another thread
    stop_event.set()
    serving.join(DRAIN_TIMEOUT_S)
    runtime.close()
    if serving.is_alive():
        os.kill(os.getpid(), signal.SIGKILL)


def _die_with(parent: int) -> None:
    """Have the kernel send SIGTERM to this process when the supervising one dies: an orphan would hold the port."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)  # it died before we could ask
