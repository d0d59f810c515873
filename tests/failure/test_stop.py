"""SIGTERM under load: work in progress is finished, nothing fails, and all four signals are flushed before exit."""

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

MAX_STOP_S = 10.0
LIMIT = 10_000
# Errors of a caller whose request the server never accepted: the port is closed, or the server closed an idle
# connection.
NEVER_ACCEPTED = {"ConnectionRefusedError", "ConnectionResetError", "RemoteDisconnected", "BrokenPipeError"}


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """A separate database."""
    with own_database(postgres) as name:
        yield name


@pytest.fixture
def started(
    gateway: Gateway, postgres: Postgres, database: str, rabbitmq: RabbitMQ, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Services with all four signals enabled, on empty queues and tables."""
    clear_queues(rabbitmq)
    folder = tmp_path_factory.mktemp("stopped")
    settings = (gateway.settings, database_settings(postgres, database), broker_settings(rabbitmq))
    with fleet(folder, *settings, {"FAULT_NULL_NAME": "0"}) as services:
        yield services
    clear_queues(rabbitmq)


class Received:
    """The telemetry that the gateway received from the services of one fleet."""

    def __init__(self, gateway: Gateway, services: Fleet) -> None:
        self._gateway = gateway
        self._namespace = services.namespace

    def spans(self, kind: str) -> list[dict[str, object]]:
        """Return the spans of a kind, such as SERVER."""
        found = own(self._gateway.get("spans", limit=LIMIT), self._namespace)
        return [span for span in found if span["kind"] == kind]

    def lines(self, contains: str) -> list[str]:
        """Return the log lines that contain a text."""
        return [
            str(each["line"])
            for each in own(self._gateway.get("logs", contains=contains, limit=LIMIT), self._namespace)
        ]

    def total(self, metric: str) -> int:
        """Return the sum over all points of a counter, or the number of measurements of a histogram."""
        metrics = own(self._gateway.get("metrics", name=metric), self._namespace)
        return int(sum(point.get("count", point.get("value", 0)) for each in metrics for point in each["points"]))

    def profiles(self, service: str) -> int:
        """Return the number of received profiles of a service."""
        return len(own(self._gateway.get("profiles", service=service, limit=LIMIT), self._namespace))


def stop(service: Service) -> float:
    """Send SIGTERM; return the seconds until the process exited with code 0."""
    began = time.monotonic()
    assert service.stop() == 0
    return time.monotonic() - began


def test_server_finishes_accepted_requests_on_sigterm(
    started: Fleet, gateway: Gateway, postgres: Postgres, database: str, measured: Measured
) -> None:
    """No request fails: each succeeds, or was never accepted, so that its name is in no table."""
    received, server = Received(gateway, started), started.start("server")
    persistent, fresh = Callers([server], each=4), Callers([server], each=4, reuse=False)
    with persistent, fresh:
        eventually(lambda: min(persistent.responses, fresh.responses) > 200)
        before = received.profiles("mythical-server")
        took_s = stop(server)
    responses = persistent.responses + fresh.responses
    unanswered = persistent.unanswered + fresh.unanswered
    never_accepted = {name: count for name, count in unanswered.items() if name != "ConnectionRefusedError"}
    measured(
        f"stopped after {took_s:.1f} s; {responses} responses, "
        f"{dict(sorted((persistent.statuses + fresh.statuses).items()))}; "
        f"{sum(never_accepted.values())} requests met a connection that was being closed and were not accepted: "
        f"{never_accepted}; "
        f"the gateway got {len(received.spans('SERVER'))} spans, {len(received.lines('request served'))} lines, "
        f"{received.total('mythical_request_times')} measurements, {received.profiles('mythical-server')} profiles"
    )
    assert took_s < MAX_STOP_S
    assert set(persistent.statuses + fresh.statuses) <= {200, 201, 204}
    assert set(unanswered) <= NEVER_ACCEPTED
    assert not persistent.broken_guarantees(postgres, database) + fresh.broken_guarantees(postgres, database)
    assert not (persistent.unanswered_names | fresh.unanswered_names) & persistent.names_in(postgres, database)
    assert len(received.spans("SERVER")) == responses
    assert len(received.lines("request served")) == responses
    assert received.total("mythical_request_times") == responses
    assert received.profiles("mythical-server") > before


def test_requester_publishes_all_its_messages_on_sigterm(
    started: Fleet, gateway: Gateway, rabbitmq: RabbitMQ, measured: Measured
) -> None:
    """Started iterations are finished, and the queue has a message for each, including those that a fault delayed."""
    received, server = Received(gateway, started), started.start("server")
    requester = started.start("requester", **requests_to(server), REQUESTER_START="0")
    eventually(lambda: ready_messages(rabbitmq, "messages") > 300)
    before = received.profiles("mythical-requester")
    took_s = stop(requester)
    requests = received.lines('msg="request made"')
    failed = [line for line in requests if "status=FAILURE" in line]
    messages = ready_messages(rabbitmq, "messages")
    measured(
        f"stopped after {took_s:.1f} s; {len(requests)} requests, {len(failed)} failed; {messages} messages in the "
        "queue, "
        f"{received.total('messaging.client.sent.messages')} counted, {len(received.spans('PRODUCER'))} spans, "
        f"{received.profiles('mythical-requester')} profiles"
    )
    assert took_s < MAX_STOP_S
    assert not failed
    assert not received.lines("message not published") + received.lines("messages not confirmed at close")
    assert len(requests) == messages
    assert received.total("messaging.client.sent.messages") == messages
    assert len(received.spans("PRODUCER")) == messages
    assert received.profiles("mythical-requester") > before


def test_recorder_finishes_unacknowledged_messages_on_sigterm(
    started: Fleet, gateway: Gateway, rabbitmq: RabbitMQ, measured: Measured
) -> None:
    """Each confirmed message is recorded once, by this recorder or the next, and its telemetry has the same number."""
    received, recorder = Received(gateway, started), started.start("recorder", **QUICK)

    def recorded() -> Counter[str]:
        found = (MESSAGE_ID.search(line) for line in received.lines("message recorded"))
        return Counter(each[1] for each in found if each)

    with publishing(rabbitmq, rate=300) as load:
        eventually(lambda: len(load.confirmed) > 500)
        before = received.profiles("mythical-recorder")
        took_s = stop(recorder)
    by_first = recorded()
    left = ready_messages(rabbitmq, "messages")
    totals = received.total("mythical_messages_recorded"), len(received.spans("CONSUMER"))
    profiles = received.profiles("mythical-recorder")
    started.start("recorder", **QUICK)
    eventually(lambda: load.confirmed <= set(recorded()))
    measured(
        f"stopped after {took_s:.1f} s; {len(load.confirmed)} confirmed, {by_first.total()} recorded by the first "
        f"({totals[0]} counted, {totals[1]} spans, {profiles} profiles), {left} left for the next, "
        f"{recorded().total() - len(recorded())} recorded twice"
    )
    assert took_s < MAX_STOP_S
    assert totals == (by_first.total(), by_first.total())
    assert by_first.total() + left == len(load.confirmed)
    assert set(recorded().values()) == {1}
    assert profiles > before
