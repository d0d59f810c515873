"""The injected faults at 0 and at 1, as a learner sees them: in responses, in spans and in the rate of requests.

test_table_maintenance.py covers the recreation of the tables.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pika  # type: ignore[import-untyped]  # pika ships no py.typed
import pytest

from common.core.endpoints import MYTHICAL
from common.faults import FAILING_FETCH, NULL_NAME, SCRIPT_ERROR, SLOW_BEASTS, SLOW_PAGE
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from tests.integration.conftest import Gateway, Service, eventually
from tests.integration.recording_server import recording_server
from tests.integration.service_support import (
    JSON,
    Fleet,
    ask,
    broker_settings,
    channel,
    clear_queues,
    database_settings,
    fleet,
    own,
    own_database,
    requests_to,
)

Json = dict[str, Any]
SLOW_S = 0.5  # the least additional time of a slow beast's message, when published and when recorded

MIN_COUNT = 5


@pytest.fixture(scope="module")
def started(
    postgres: Postgres, rabbitmq: RabbitMQ, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """A fleet that sends only the signals that these tests use to the gateway."""
    clear_queues(rabbitmq)
    quiet = {"PROFILE_COLLECTOR_HOST": "", "REQUESTER_START": "0", "REQUESTER_LOOPS": "1", "REQUESTER_SEED": "1"}
    with (
        own_database(postgres) as name,
        fleet(
            tmp_path_factory.mktemp("services"),
            gateway.settings,
            database_settings(postgres, name),
            broker_settings(rabbitmq),
            quiet,
        ) as services,
    ):
        yield services


@pytest.fixture(scope="module")
def servers(started: Fleet) -> dict[str, Service]:
    """Servers with different values of the fault."""
    servers = {
        "0": started.launch("server", FAULT_NULL_NAME="0"),
        "0.5": started.launch("server", FAULT_NULL_NAME="0.5"),
        "1": started.launch("server", FAULT_NULL_NAME="1"),
        "default": started.launch("server"),
        "1, disabled": started.launch("server", FAULT_NULL_NAME="1", ALWAYS_SUCCEED="true"),
    }
    started.ready()
    return servers


@pytest.mark.parametrize(
    ("strength", "least", "most"),
    [("0", 0, 0), ("0.5", 60, 140), ("1", 200, 200), ("default", 4, 45), ("1, disabled", 0, 0)],
)
def test_null_name(strength: str, least: int, most: int, servers: dict[str, Service]) -> None:
    """The share of POSTs that fail with 500 is the fault's value, and nothing else fails."""
    statuses = Counter[int]()
    for number in range(200):
        body = json.dumps({"name": f"{strength} {number}"})
        statuses[ask(servers[strength].base_url, "/unicorn", "POST", body=body, headers=JSON).status] += 1
    assert set(statuses) <= {201, 500}
    assert least <= statuses[500] <= most, f"{NULL_NAME.variable}={strength}: {statuses}"


def spans(gateway: Gateway, namespace: str, name: str, count: int) -> list[Json]:
    """Return at least `count` spans of a namespace once they have arrived."""

    def found() -> list[Json]:
        spans = own(gateway.get("spans", name=name, limit=2000), namespace)
        return spans if len(spans) >= count else []

    return eventually(found)


def seconds(span: Json) -> float:
    """Return the duration of a span in seconds."""
    return float(span["end_unix_nano"] - span["start_unix_nano"]) / 1e9


def publish_seconds(gateway: Gateway, namespace: str) -> dict[bool, list[float]]:
    """Return the publishing times of messages by whether they are of the slow beasts: at least five of each kind.

    Slow spans end late, so the first spans to arrive may all be of other beasts.
    """

    def found() -> dict[bool, list[float]]:
        requests = {span["span_id"]: span for span in spans(gateway, namespace, "requester", 10)}
        durations: dict[bool, list[float]] = {True: [], False: []}
        for span in spans(gateway, namespace, "publish_to_queue", 10):
            request = requests.get(span["parent_span_id"])
            if request:
                durations[request["attributes"]["beast"] in SLOW_BEASTS].append(seconds(span))
        return durations if min(map(len, durations.values())) >= MIN_COUNT else {}

    return eventually(found)


def test_slow_publish(started: Fleet, servers: dict[str, Service], gateway: Gateway) -> None:
    """The spans show that messages of the slow beasts reach the broker late; at 0 none does."""
    settings = {"REQUESTER_RATE": "4", **requests_to(servers["0"])}
    requesters = [
        started.launch("requester", **settings, FAULT_SLOW_PUBLISH=strength, NAMESPACE=f"slow-publish-{strength}")
        for strength in ("0", "1")
    ]
    started.ready()
    on, off = publish_seconds(gateway, "slow-publish-1"), publish_seconds(gateway, "slow-publish-0")
    assert [requester.stop() for requester in requesters] == [0, 0]
    assert min(on[True]) > SLOW_S
    assert sorted(on[True])[len(on[True]) // 2] < 2.5 + SLOW_S
    for others in (on[False], off[True], off[False]):
        assert others
        assert sorted(others)[len(others) // 2] < SLOW_S


def test_slow_processing(started: Fleet, rabbitmq: RabbitMQ, gateway: Gateway) -> None:
    """The spans show that messages of the slow beasts are processed more slowly; at 0 none is."""
    clear_queues(rabbitmq)
    recorders = [
        started.launch("recorder", FAULT_SLOW_PROCESSING=strength, NAMESPACE=f"slow-processing-{strength}")
        for strength in ("0", "1")
    ]
    started.ready()
    beasts = MYTHICAL.names * 8  # the two recorders share them, about half each
    with channel(rabbitmq) as on:
        for beast in beasts:
            on.basic_publish("", "messages", f"GET /{beast}".encode(), pika.BasicProperties())
    both = {strength: f"slow-processing-{strength}" for strength in ("0", "1")}

    def processed() -> dict[str, list[Json]]:
        found = gateway.get("spans", name="process_message", limit=2000)
        by = {strength: own(found, namespace) for strength, namespace in both.items()}
        return by if sum(map(len, by.values())) == len(beasts) else {}

    durations: dict[tuple[str, bool], list[float]] = {}
    for strength, found in eventually(processed).items():
        for span in found:
            slow = span["attributes"]["beast"] in SLOW_BEASTS
            durations.setdefault((strength, slow), []).append(seconds(span))
    assert [recorder.stop() for recorder in recorders] == [0, 0]
    assert min(durations["1", True]) > SLOW_S
    for others in (durations["1", False], durations["0", True], durations["0", False]):
        assert sorted(others)[len(others) // 2] < SLOW_S


def test_new_version_fails(started: Fleet, servers: dict[str, Service], gateway: Gateway) -> None:
    """The share of failing requests with the new version: all at 1; at 0 as many as with the old one."""
    settings = {"REQUESTER_RATE": "10", "REQUESTER_ERROR_ODDS": "1", **requests_to(servers["0"])}
    strengths = ("0", "0.7", "1")
    requesters = [
        started.launch("requester", **settings, FAULT_NEW_VERSION_FAILS=strength, NAMESPACE=f"version-{strength}")
        for strength in strengths
    ]
    share = {}
    for strength in strengths:
        failing = spans(gateway, f"version-{strength}", "requester", 80)
        assert {span["status"]["code"] for span in failing} == {"ERROR"}
        versions = Counter(span["attributes"]["service.version"] for span in failing)
        assert set(versions) <= {"1.9.2", "2.0.0"}
        share[strength] = versions["2.0.0"] / len(failing)
    assert [requester.stop() for requester in requesters] == [0, 0, 0]
    assert share["1"] == 1
    assert 0.55 < share["0.7"] < 0.85
    assert 0.35 < share["0"] < 0.65


def test_request_waves(started: Fleet) -> None:
    """At 1 requests start with a burst; at 0 their rate is constant, so the same number takes longer."""
    with recording_server() as even, recording_server() as waves:
        requesters = [
            started.launch("requester", **server.settings, REQUESTER_RATE="0.25", FAULT_REQUEST_WAVES=strength)
            for server, strength in ((even, "0"), (waves, "1"))
        ]
        durations = {}
        for server in (even, waves):
            eventually(lambda server=server: len(server.requests) >= 8)  # type: ignore[misc]
            durations[server] = server.requests[7].at - server.requests[0].at
        assert [requester.stop() for requester in requesters] == [0, 0]
    # With this seed the pauses add up to 6.3 s and to 0.7 s; the rest is for a busy machine.
    assert durations[even] - durations[waves] > 2


@pytest.fixture(scope="module")
def frontends(started: Fleet, servers: dict[str, Service]) -> dict[str, Service]:
    """Frontends with all of their faults at 0, at 0.5 and at 1."""
    frontends = {
        value: started.launch(
            "frontend",
            **requests_to(servers["0"]),
            **{fault.variable: value for fault in (SLOW_PAGE, FAILING_FETCH, SCRIPT_ERROR)},
        )
        for value in ("0", "0.5", "1")
    }
    started.ready()
    return frontends


def page_loads(frontend: Service, count: int) -> list[Json]:
    """Load the page `count` times, and return the data embedded in each."""
    pages = [ask(frontend.base_url, "/").text for _ in range(count)]
    return [json.loads(page.partition('id="known">')[2].partition("</script>")[0]) for page in pages]


def test_slow_page(frontends: dict[str, Service]) -> None:
    """The page is served at once, and blocks the browser for 2 to 3 s times the value; at 0 it does not."""
    for value, frontend in frontends.items():
        for load in page_loads(frontend, 5):
            assert 2000 * float(value) <= load["busy_ms"] <= 3000 * float(value)


@pytest.mark.parametrize(("value", "least", "most"), [("0", 0, 0), ("0.5", 15, 85), ("1", 100, 100)])
def test_failing_fetch(value: str, least: int, most: int, frontends: dict[str, Service]) -> None:
    """The value is the share of the page's requests that fail with 500; the page itself does not fail."""
    statuses = Counter(ask(frontends[value].base_url, "/api/unicorn").status for _ in range(100))
    assert set(statuses) <= {200, 500}
    assert least <= statuses[500] <= most
    assert ask(frontends[value].base_url, "/").status == 200


@pytest.mark.parametrize(("value", "least", "most"), [("0", 0, 0), ("0.5", 15, 85), ("1", 100, 100)])
def test_script_error(value: str, least: int, most: int, frontends: dict[str, Service]) -> None:
    """The value is the share of page loads whose script fails."""
    assert least <= sum(load["breaks"] for load in page_loads(frontends[value], 100)) <= most
