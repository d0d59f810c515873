"""The loop's thread, the calls made to it, and the workers."""

import gc
import logging
import socket
import threading
from contextlib import ExitStack
from functools import partial

import pytest

from common.messaging.connection import IOLoopThread, ReconnectingConnection
from common.messaging.consumer import Workers
from common.messaging.topology import Broker
from tests.unit.waiting import eventually


def test_calls_keep_their_order_and_run_on_the_loops_thread() -> None:
    """Many calls, few wake-ups, nothing forgotten."""
    thread = IOLoopThread("test-loop")
    seen: list[tuple[int, str]] = []
    enough = threading.Event()

    def receive(number: int) -> None:
        seen.append((number, threading.current_thread().name))
        if number == 999:
            enough.set()

    thread.start()
    for number in range(1000):
        thread.call_soon_threadsafe(partial(receive, number))
    assert enough.wait(60)
    thread.stop(0)
    assert seen == [(number, "test-loop") for number in range(1000)]


def test_a_call_that_fails_does_not_hold_up_the_next(caplog: pytest.LogCaptureFixture) -> None:
    """The loop's thread survives an exception in a callback and says so in the log."""
    thread = IOLoopThread("test-loop")
    enough = threading.Event()

    def receive(item: str) -> None:
        if item == "bad":
            raise ValueError("injected")
        enough.set()

    thread.call_soon_threadsafe(partial(receive, "bad"))
    thread.call_soon_threadsafe(partial(receive, "good"))
    with caplog.at_level(logging.ERROR):
        thread.start()
        assert enough.wait(60)
    thread.stop(0)
    assert [record.message for record in caplog.records] == ["messaging callback failed"]


def test_workers_finish_what_they_were_given_before_they_end() -> None:
    """stop() queues behind the items."""
    done: list[int] = []
    workers: Workers[int] = Workers(4, done.append, "test")
    for number in range(100):
        workers.submit(number)
    workers.stop(5)
    assert sorted(done) == list(range(100))


def test_a_worker_that_hangs_does_not_hold_up_the_end() -> None:
    """Its thread is a daemon: the process can end without it."""
    hanging, release = list[threading.Thread](), threading.Event()

    def hang(_item: int) -> None:
        hanging.append(threading.current_thread())
        release.wait(60)

    workers: Workers[int] = Workers(1, hang, "test")
    workers.submit(1)
    eventually(lambda: hanging, "worker that hangs")
    workers.stop(0.05)
    assert (hanging[0].is_alive(), hanging[0].daemon) == (True, True)
    release.set()


def test_a_stop_while_the_broker_is_being_connected_closes_the_socket() -> None:
    """A host that drops packets; the warning about an unclosed socket would fail this test."""
    with ExitStack() as sockets:
        full = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):  # more are not answered
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        thread = IOLoopThread("test-loop")
        ReconnectingConnection(thread, Broker("127.0.0.1", full.getsockname()[1]), "test", [])
        begun = threading.Event()
        thread.start()
        thread.call_soon_threadsafe(begun.set)  # behind the attempt
        assert begun.wait(60)
        thread.stop(5)
        gc.collect()
