"""The thread of the I/O loop handles calls in order, and workers finish their items."""

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


def test_calls_keep_their_order_and_run_on_the_thread_of_the_loop() -> None:
    """There are many calls and few wake-ups, and no call is lost."""
    thread = IOLoopThread("test-loop")
    seen: list[tuple[int, str]] = []
    done = threading.Event()

    def receive(number: int) -> None:
        seen.append((number, threading.current_thread().name))
        if number == 999:
            done.set()

    thread.start()
    for number in range(1000):
        thread.call_soon_threadsafe(partial(receive, number))
    assert done.wait(60)
    thread.stop(0)
    assert seen == [(number, "test-loop") for number in range(1000)]


def test_a_call_that_fails_does_not_block_the_next(caplog: pytest.LogCaptureFixture) -> None:
    """The thread survives an exception in a callback and logs it."""
    thread = IOLoopThread("test-loop")
    done = threading.Event()

    def receive(item: str) -> None:
        if item == "bad":
            raise ValueError("injected")
        done.set()

    thread.call_soon_threadsafe(partial(receive, "bad"))
    thread.call_soon_threadsafe(partial(receive, "good"))
    with caplog.at_level(logging.ERROR):
        thread.start()
        assert done.wait(60)
    thread.stop(0)
    assert [record.message for record in caplog.records] == ["messaging callback failed"]


def test_workers_finish_their_items_before_they_end() -> None:
    """stop() is queued after the items."""
    done: list[int] = []
    workers: Workers[int] = Workers(4, done.append, "test")
    for number in range(100):
        workers.submit(number)
    workers.stop(5)
    assert sorted(done) == list(range(100))


def test_a_worker_survives_an_error_and_reports_it(caplog: pytest.LogCaptureFixture) -> None:
    """A dead worker would go unnoticed: its message is never acknowledged, and fewer are worked on at a time."""
    done: list[int] = []
    failed = threading.Event()

    def work(item: int) -> None:
        if item == 0:
            raise ValueError("injected")
        done.append(item)

    workers: Workers[int] = Workers(1, work, "test", failed.set)
    with caplog.at_level(logging.ERROR):
        for item in range(3):
            workers.submit(item)
        workers.stop(60)
    assert done == [1, 2]
    assert failed.is_set()
    assert [record.msg for record in caplog.records] == ["messaging callback failed"]


def test_a_worker_that_hangs_does_not_block_the_shutdown() -> None:
    """Its thread is a daemon, so the process can end without it."""
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


def test_a_stop_during_a_connection_attempt_closes_the_socket() -> None:
    """The host does not respond; a warning about an unclosed socket would fail this test."""
    with ExitStack() as sockets:
        full = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):  # a full backlog: the kernel ignores further connections
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        thread = IOLoopThread("test-loop")
        ReconnectingConnection(thread, Broker("127.0.0.1", full.getsockname()[1]), "test", [])
        started = threading.Event()
        thread.start()
        thread.call_soon_threadsafe(started.set)  # after the attempt
        assert started.wait(60)
        thread.stop(5)
        gc.collect()
