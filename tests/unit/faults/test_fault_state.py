"""Faults are set at run time for a limited time and within their range, and never by another site."""

import logging
import random
import threading
import time
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from common.faults import (
    ALL_FAULTS,
    NULL_NAME,
    SLOW_QUERY,
    Change,
    Faults,
    InvalidFaultSetting,
    register_fault_telemetry,
)
from common.faults.background import RETRY_S, BackgroundFault
from common.faults.routes import add_fault_routes
from common.web.problems import register_error_handlers
from tests.unit.waiting import eventually

SET = {"strength": 1, "seconds": 60}


def faults() -> Faults:
    """Return the faults of a service that supports two, one of which is on at startup."""
    return Faults({NULL_NAME.name: 0.1, SLOW_QUERY.name: 0.0}, random.Random(1))  # noqa: S311 - not for secrets


def client(shown: Faults) -> FlaskClient:
    """Return a client for the HTTP API of those faults."""
    app = Flask("test")
    register_error_handlers(app)
    add_fault_routes(app, shown)
    return app.test_client()


def test_a_fault_is_set_and_restored() -> None:
    """It returns to the startup value, not to 0."""
    shown = faults()
    shown.set("null_name", 1, 60)
    assert shown.strength(NULL_NAME) == 1
    shown.clear("null_name")
    assert shown.strength(NULL_NAME) == 0.1
    assert shown.lease(NULL_NAME) is None


def test_a_lease_that_is_not_renewed_expires() -> None:
    """The program that set the fault may have died."""
    shown = faults()
    shown.set("slow_query", 2, 1)
    assert shown.strength(SLOW_QUERY) == 2
    eventually(lambda: shown.strength(SLOW_QUERY) == 0, "end of the lease")


def test_a_renewed_lease_outlives_the_first() -> None:
    """The timer of the first lease has no effect any more."""
    shown = faults()
    shown.set("slow_query", 2, 1)
    first = shown.lease(SLOW_QUERY)
    shown.set("slow_query", 2, 60)
    assert first is not None
    shown._end(SLOW_QUERY, first)
    assert shown.strength(SLOW_QUERY) == 2


def test_setting_a_fault_often_leaves_no_threads() -> None:
    """Dragging a slider sets it a hundred times, for ten minutes each."""
    shown, before = faults(), threading.active_count()
    for _ in range(100):
        shown.set("slow_query", 1, 600)
    eventually(lambda: threading.active_count() <= before + 1, "end of the timers")
    shown.clear()
    eventually(lambda: threading.active_count() <= before, "end of the last timer")


@pytest.mark.parametrize(
    ("name", "strength", "seconds"),
    [("none", 1, 1), ("slow_query", -1, 1), ("slow_query", 5.1, 1), ("slow_query", 1, 0), ("slow_query", 1, 1e6)],
)
def test_an_invalid_setting_is_rejected_and_changes_nothing(name: str, strength: float, seconds: float) -> None:
    """The error contains the valid values."""
    shown = faults()
    with pytest.raises(InvalidFaultSetting, match="use"):
        shown.set(name, strength, seconds)
    assert shown.strength(SLOW_QUERY) == 0


def test_listeners_are_called_once_for_each_change() -> None:
    """A renewal is not a change."""
    shown, changes = faults(), list[Change]()
    shown.on_change(changes.append)
    for strength in (1, 1, 2):
        shown.set("slow_query", strength, 60)
    shown.clear()
    shown.clear()
    assert [change.strength for change in changes] == [1, 2, 0]


def test_the_api_lists_sets_and_clears_faults() -> None:
    """`python -m workshop` sends these requests."""
    shown = faults()
    http = client(shown)
    assert http.put("/faults/slow_query", json={"strength": 1.5, "seconds": 60}).status_code == 200
    listed = {each["name"]: each for each in http.get("/faults").get_json()["faults"]}
    assert set(listed) == {"null_name", "slow_query"}
    assert listed["slow_query"]["strength"] == 1.5
    assert 50 < listed["slow_query"]["seconds_left"] <= 60
    assert listed["null_name"]["seconds_left"] is None
    assert http.delete("/faults/slow_query").status_code == 204
    assert shown.strength(SLOW_QUERY) == 0
    http.put("/faults/slow_query", json=SET)
    assert http.delete("/faults").status_code == 204
    assert shown.strength(SLOW_QUERY) == 0


def test_a_blind_fault_is_on_and_is_listed_as_off() -> None:
    """A learner who lists the faults must not see the solution."""
    shown = faults()
    http = client(shown)
    http.put("/faults/slow_query", json={**SET, "blind": True})
    assert shown.strength(SLOW_QUERY) == 1
    assert shown.public_name(SLOW_QUERY) == "unnamed"
    (listed,) = (each for each in http.get("/faults").get_json()["faults"] if each["name"] == "slow_query")
    assert (listed["strength"], listed["seconds_left"]) == (0, None)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/faults/none", SET, 404),
        ("/faults/slow_query", {"strength": 9}, 400),
        ("/faults/slow_query", {"strength": "1"}, 400),
        ("/faults/slow_query", {"strength": True}, 400),
        ("/faults/slow_query", {"strength": float("nan")}, 400),
        ("/faults/slow_query", {"strength": 10**400}, 400),
        ("/faults/slow_query", {"strength": 1, "seconds": 0}, 400),
        ("/faults/slow_query", {"strength": 1, "more": 1}, 400),
        ("/faults/slow_query", {"strength": 1, "blind": 1}, 400),
        ("/faults/slow_query", [1], 400),
        ("/faults/slow_query", {}, 400),
    ],
)
def test_an_invalid_request_is_rejected_with_a_sentence(path: str, body: object, status: int) -> None:
    """It changes nothing."""
    shown = faults()
    response = client(shown).put(path, json=body)
    assert response.status_code == status
    assert response.get_json(force=True)["detail"].endswith(".")
    assert shown.strength(SLOW_QUERY) == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example:4000"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "[::1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_can_neither_read_nor_set_faults(headers: dict[str, str]) -> None:
    """The browser of the local user sends its requests, but the user did not write them."""
    shown = faults()
    http = client(shown)
    headers = {"Host": "localhost:4000", **headers}
    assert http.get("/faults", headers=headers).status_code == 403
    assert http.put("/faults/slow_query", json=SET, headers=headers).status_code == 403
    assert http.delete("/faults", headers=headers).status_code == 403
    assert shown.strength(SLOW_QUERY) == 0


@pytest.mark.parametrize("host", ["localhost:4000", "127.0.0.1:4000", "[::1]:4000", "10.0.0.7"])
def test_requests_to_an_address_of_this_machine_are_accepted(host: str) -> None:
    """curl, the command, and the page on this machine send them; a form cannot send JSON."""
    http = client(faults())
    assert http.put("/faults/slow_query", json=SET, headers={"Host": host}).status_code == 200
    assert http.put("/faults/slow_query", data="strength=1", headers={"Host": host}).status_code == 415


def test_a_fault_is_marked_while_it_differs_from_its_default(caplog: pytest.LogCaptureFixture) -> None:
    """The six faults that are always on would fill every dashboard; a blind one has no name."""
    reader, shown = InMemoryMetricReader(), faults()
    register_fault_telemetry(shown, MeterProvider([reader], shutdown_on_exit=False).get_meter("test"))

    def marked() -> dict[str, float]:
        data = reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        points = [point for scope in scopes for metric in scope.metrics for point in metric.data.data_points]
        return {str((point.attributes or {})["fault"]): getattr(point, "value", 0) for point in points}

    assert marked() == {}
    with caplog.at_level(logging.WARNING):
        shown.set("slow_query", 2, 60)
        assert marked() == {"slow_query": 2}
        shown.set("slow_query", 2, 60, blind=True)
        assert marked() == {"unnamed": 2}
        shown.clear()
    assert marked() == {}
    assert [record.fields for record in caplog.records] == [  # type: ignore[attr-defined]
        {"fault": "slow_query", "strength": 2},
        {"fault": "unnamed", "strength": 0},
    ]


def test_background_work_of_a_fault_starts_and_stops_with_it() -> None:
    """While the fault is off, there is no thread; the cleanup is repeated until it succeeds."""
    shown, steps, cleanups = faults(), list[float](), list[str]()

    def clean_up() -> None:
        cleanups.append("tried")
        if len(cleanups) == 1:
            raise OSError("not now")

    work = BackgroundFault(shown, SLOW_QUERY, lambda strength: steps.append(strength) or 0.01, clean_up)  # type: ignore[func-returns-value]
    work.start()
    assert SLOW_QUERY.name not in {thread.name for thread in threading.enumerate()}
    shown.set("slow_query", 2, 60)
    eventually(lambda: len(steps) > 2, "steps")
    shown.clear()
    eventually(lambda: SLOW_QUERY.name not in {thread.name for thread in threading.enumerate()}, "end of the thread")
    assert set(steps) == {2}
    assert cleanups == ["tried", "tried"]
    work.close()


def test_there_is_a_pause_between_two_attempts_to_clean_up() -> None:
    """Otherwise, it would query an unavailable database in a tight loop, with a log line each time."""
    shown, attempts = faults(), list[float]()

    def clean_up() -> None:
        attempts.append(time.monotonic())
        if len(attempts) == 1:
            work.start()  # wakes it like a fault that is set and cleared at this moment
        if len(attempts) < 4:
            raise OSError("not now")

    work = BackgroundFault(shown, SLOW_QUERY, lambda _: 60, clean_up)
    shown.set("slow_query", 1, 60)
    shown.clear()
    eventually(lambda: len(attempts) == 4, "four attempts")
    work.close()
    assert attempts[3] - attempts[1] >= RETRY_S  # the first pause was interrupted once


def test_a_fault_that_is_on_at_shutdown_is_cleaned_up() -> None:
    """Its effects must not outlive the process."""
    shown, cleanups = faults(), list[str]()
    shown.set("slow_query", 1, 60)
    work = BackgroundFault(shown, SLOW_QUERY, lambda _: 60, lambda: cleanups.append("done"))
    work.start()
    eventually(lambda: SLOW_QUERY.name in {thread.name for thread in threading.enumerate()}, "thread")
    work.close()
    assert cleanups == ["done"]


def test_a_fault_that_is_off_costs_only_a_lookup() -> None:
    """It uses neither random numbers nor a clock: the test passes None for both."""
    unused: Any = None
    off = Faults(dict.fromkeys((fault.name for fault in ALL_FAULTS), 0.0), unused, unused)
    for fault in ALL_FAULTS:
        assert (off.strength(fault), off.should_trigger(fault), off.random_delay(fault, 1, 2)) == (0, False, 0)
