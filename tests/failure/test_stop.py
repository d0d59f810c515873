"""SIGTERM under load: what is under way is finished, nothing fails, and all four signals say so before the end."""

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from tests.failure.calling import Callers
from tests.failure.conftest import Measured
from tests.failure.publishing import MESSAGE_ID, QUICK, publishing
from tests.integration.conftest import Gateway, Service, eventually
from tests.integration.service_support import (
    Fleet,
    broker_settings,
    clear_queues,
    database_settings,
    fleet,
    own,
    own_database,
    ready_messages,
    requests_to,
)

pytestmark = pytest.mark.timeout(240)

ENDS_S = 10.0
MANY = 10_000
# What a caller sees whose request the server never took: nobody listens, or a connection that was idle is closed.
NEVER_TAKEN = {"ConnectionRefusedError", "ConnectionResetError", "RemoteDisconnected", "BrokenPipeError"}


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """A database of this test's own."""
    with own_database(postgres) as name:
        yield name


@pytest.fixture
def started(
    gateway: Gateway, postgres: Postgres, database: str, rabbitmq: RabbitMQ, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Services with all four signals on, on empty queues and tables."""
    clear_queues(rabbitmq)
    folder = tmp_path_factory.mktemp("stopped")
    settings = (gateway.settings, database_settings(postgres, database), broker_settings(rabbitmq))
    with fleet(folder, *settings, {"FAULT_NULL_NAME": "0"}) as services:
        yield services
    clear_queues(rabbitmq)


class Received:
    """What the gateway has got of the services of one fleet."""

    def __init__(self, gateway: Gateway, services: Fleet) -> None:
        self._gateway = gateway
        self._namespace = services.namespace

    def spans(self, kind: str) -> list[dict[str, object]]:
        """The spans of a kind, as in SERVER."""
        found = own(self._gateway.get("spans", limit=MANY), self._namespace)
        return [span for span in found if span["kind"] == kind]

    def lines(self, contains: str) -> list[str]:
        """The log lines that contain a text."""
        return [
            str(each["line"]) for each in own(self._gateway.get("logs", contains=contains, limit=MANY), self._namespace)
        ]

    def total(self, metric: str) -> int:
        """The sum over all points of a counter, or the number of measurements of a histogram."""
        metrics = own(self._gateway.get("metrics", name=metric), self._namespace)
        return int(sum(point.get("count", point.get("value", 0)) for each in metrics for point in each["points"]))

    def profiles(self, service: str) -> int:
        """How many profiles of a service have come."""
        return len(own(self._gateway.get("profiles", service=service, limit=MANY), self._namespace))


def stop(service: Service) -> float:
    """Send SIGTERM; give the seconds until the process was gone, with exit code 0."""
    began = time.monotonic()
    assert service.stop() == 0
    return time.monotonic() - began


def test_a_server_that_is_told_to_stop_answers_what_it_has_taken(
    started: Fleet, gateway: Gateway, postgres: Postgres, database: str, measured: Measured
) -> None:
    """No request fails: each is answered well, or was never taken, as its name in no table shows."""
    received, server = Received(gateway, started), started.start("server")
    kept, fresh = Callers([server], each=4), Callers([server], each=4, reuse=False)
    with kept, fresh:
        eventually(lambda: min(kept.answered, fresh.answered) > 200)
        before = received.profiles("mythical-server")
        took_s = stop(server)
    answered = kept.answered + fresh.answered
    unanswered = kept.unanswered + fresh.unanswered
    turned_away = {name: count for name, count in unanswered.items() if name != "ConnectionRefusedError"}
    measured(
        f"gone after {took_s:.1f} s; {answered} answers, {dict(sorted((kept.statuses + fresh.statuses).items()))}; "
        f"{sum(turned_away.values())} requests met a connection as it was closed and were not taken: {turned_away}; "
        f"the gateway got {len(received.spans('SERVER'))} spans, {len(received.lines('request served'))} lines, "
        f"{received.total('mythical_request_times')} measurements, {received.profiles('mythical-server')} profiles"
    )
    assert took_s < ENDS_S
    assert set(kept.statuses + fresh.statuses) <= {200, 201, 204}
    assert set(unanswered) <= NEVER_TAKEN
    assert not kept.broken_promises(postgres, database) + fresh.broken_promises(postgres, database)
    assert not (kept.unanswered_names | fresh.unanswered_names) & kept.names_in(postgres, database)
    assert len(received.spans("SERVER")) == answered
    assert len(received.lines("request served")) == answered
    assert received.total("mythical_request_times") == answered
    assert received.profiles("mythical-server") > before


def test_a_requester_that_is_told_to_stop_hands_over_all_its_messages(
    started: Fleet, gateway: Gateway, rabbitmq: RabbitMQ, measured: Measured
) -> None:
    """Rounds under way are finished, and a message for each lies in the queue, those held back by a fault as well."""
    received, server = Received(gateway, started), started.start("server")
    requester = started.start("requester", **requests_to(server), REQUESTER_START="0")
    eventually(lambda: ready_messages(rabbitmq, "messages") > 300)
    before = received.profiles("mythical-requester")
    took_s = stop(requester)
    made = received.lines('msg="request made"')
    failed = [line for line in made if "status=FAILURE" in line]
    messages = ready_messages(rabbitmq, "messages")
    measured(
        f"gone after {took_s:.1f} s; {len(made)} requests, {len(failed)} failed; {messages} messages in the queue, "
        f"{received.total('messaging.client.sent.messages')} counted, {len(received.spans('PRODUCER'))} spans, "
        f"{received.profiles('mythical-requester')} profiles"
    )
    assert took_s < ENDS_S
    assert not failed
    assert not received.lines("message not published") + received.lines("messages not confirmed at close")
    assert len(made) == messages
    assert received.total("messaging.client.sent.messages") == messages
    assert len(received.spans("PRODUCER")) == messages
    assert received.profiles("mythical-requester") > before


def test_a_recorder_that_is_told_to_stop_finishes_what_it_has_in_hand(
    started: Fleet, gateway: Gateway, rabbitmq: RabbitMQ, measured: Measured
) -> None:
    """Each confirmed message is recorded once, by it or by its successor, and its telemetry counts the same."""
    received, recorder = Received(gateway, started), started.start("recorder", **QUICK)

    def recorded() -> Counter[str]:
        found = (MESSAGE_ID.search(line) for line in received.lines("message recorded"))
        return Counter(each[1] for each in found if each)

    with publishing(rabbitmq, rate=300) as load:
        eventually(lambda: len(load.confirmed) > 500)
        before = received.profiles("mythical-recorder")
        took_s = stop(recorder)
    finished = recorded()
    left = ready_messages(rabbitmq, "messages")
    totals = received.total("mythical_messages_recorded"), len(received.spans("CONSUMER"))
    profiles = received.profiles("mythical-recorder")
    started.start("recorder", **QUICK)
    eventually(lambda: load.confirmed <= set(recorded()))
    measured(
        f"gone after {took_s:.1f} s; {len(load.confirmed)} confirmed, {finished.total()} recorded by the first "
        f"({totals[0]} counted, {totals[1]} spans, {profiles} profiles), {left} left to its successor, "
        f"{recorded().total() - len(recorded())} recorded twice"
    )
    assert took_s < ENDS_S
    assert totals == (finished.total(), finished.total())
    assert finished.total() + left == len(load.confirmed)
    assert set(recorded().values()) == {1}
    assert profiles > before
