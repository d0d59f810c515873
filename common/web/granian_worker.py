"""Granian's worker, with requests handed to our own code on granian's threads.

Granian serves WSGI on threads and RSGI on an event loop; what is wanted is RSGI's waiting for bodies, and threads. So
the worker for RSGI is started by hand, with a scheduler that calls back at once where granian's own would put a
coroutine on the loop. Granian does not promise any of this, which is why pyproject.toml names its version exactly;
tests/failure/test_slow_bodies.py tells what has changed with another.
"""

import threading
from collections.abc import Callable
from typing import Any

from granian import _granian, _signals
from granian.server.common import WORKERS_METHODS
from granian.server.mp import WorkerProcess

# Given an RSGI scope and protocol, on one of granian's threads. It must raise nothing.
Take = Callable[[Any, Any], None]


def work(worker: int, name: str | None, load: Callable[[], Take], *rest: Any) -> None:
    """Serve in this process until the signal, and return when the last answer is out.

    The arguments are those that granian passes to the function of a worker; `load` is called once logging is set up.
    """
    inside: Any = WorkerProcess
    inside.wrap_target(_work)(worker, name, load, *rest)


def _work(worker: int, take: Take, *told: Any) -> None:
    """Serve; `told` has the names and the order of granian's MPServer._spawn_worker."""
    sock, ipc, _loop, runtime, runtime_threads, runtime_blocking_threads, threads, threads_idle_s, *more = told
    backpressure, _task, http, http1, http2, _websockets, static, _access_log, tls, _scope, metrics = more
    granian: Any = _granian  # its own types tell less than there is
    rsgi = granian.RSGIWorker(
        *(worker, sock, ipc, runtime_threads, runtime_blocking_threads, threads, threads_idle_s, backpressure),
        *(http, http1, http2, False, static, *tls, metrics),
    )
    loop = _NoLoop()
    scheduler = granian.CallbackScheduler(loop, take, None, None, None)
    scheduler._schedule_fn = lambda request: take(request.scope, request.proto)
    ended = threading.Event()
    signals: Any = _signals
    signalled = signals.set_sync_signals()
    signalled.add_cb(ended.set)
    getattr(rsgi, WORKERS_METHODS[runtime][False])(scheduler, loop, signalled)
    ended.wait()


class _NoLoop:
    """Stands where granian expects an event loop: what it would leave to the loop is done at once, on its thread."""

    def call_soon(self, callback: Callable[..., object], *arguments: object, context: object = None) -> None:  # noqa: ARG002
        """Call it."""
        callback(*arguments)

    call_soon_threadsafe = call_soon
