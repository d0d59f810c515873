"""The owner's thread, its inbox and the workers."""

import logging
import threading

import pytest

from common.messaging.inbox import Inbox
from common.messaging.owner import Owner
from common.messaging.workers import Workers


def test_an_inbox_keeps_the_order_and_hands_over_on_the_owners_thread() -> None:
    """Many puts, few wake-ups, nothing forgotten."""
    owner = Owner("test-owner")
    seen: list[tuple[int, str]] = []
    enough = threading.Event()

    def take(number: int) -> None:
        seen.append((number, threading.current_thread().name))
        if number == 999:
            enough.set()

    inbox: Inbox[int] = Inbox(owner, take)
    owner.start()
    for number in range(1000):
        inbox.put(number)
    assert enough.wait(5)
    owner.stop(0)
    assert seen == [(number, "test-owner") for number in range(1000)]


def test_an_item_that_fails_does_not_hold_up_the_next(caplog: pytest.LogCaptureFixture) -> None:
    """The owner's thread outlives an exception in a callback and says so in the log."""
    owner = Owner("test-owner")
    enough = threading.Event()

    def take(item: str) -> None:
        if item == "bad":
            raise ValueError("planted")
        enough.set()

    inbox: Inbox[str] = Inbox(owner, take)
    inbox.put("bad")
    inbox.put("good")
    with caplog.at_level(logging.ERROR):
        owner.start()
        assert enough.wait(5)
    owner.stop(0)
    assert [record.message for record in caplog.records] == ["messaging callback failed"]


def test_workers_finish_what_they_were_given_before_they_end() -> None:
    """stop() queues behind the items."""
    done: list[int] = []
    workers: Workers[int] = Workers(4, done.append, "test")
    workers.start()
    for number in range(100):
        workers.give(number)
    workers.stop(5)
    assert sorted(done) == list(range(100))


def test_a_worker_that_hangs_does_not_hold_up_the_end() -> None:
    """Its thread is a daemon: the process can end without it."""
    release = threading.Event()

    def hang(_item: int) -> None:
        release.wait(10)

    workers: Workers[int] = Workers(1, hang, "test")
    workers.start()
    workers.give(1)
    workers.stop(0.05)
    release.set()
