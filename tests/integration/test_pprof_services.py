"""Profiles of the running services: pushed to the gateway, connected with spans, and pulled in the pprof format."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from tests.integration.conftest import Gateway, Service, eventually
from tests.integration.service_support import Fleet, ask, broker_settings, database_settings, fleet, own
from tests.unit.telemetry.pprof_reader import ReadProfile

NAMES = ("server", "requester", "recorder")
# Several push intervals, for a busy machine: a service with work has a profile in one of them.
DEADLINE_S = 60.0
REQUESTS = 20


class Suite:
    """The three running services by name."""

    def __init__(self, running: Fleet) -> None:
        self.namespace = running.namespace
        server = running.start("server")
        settings = {"MYTHICAL_SERVER_HOST_PORT": urlsplit(server.base_url).netloc, "REQUESTER_START": "0"}
        requester = running.launch("requester", **settings)
        recorder = running.start("recorder")
        self.services: dict[str, Service] = {"server": server, "requester": requester, "recorder": recorder}


@pytest.fixture(scope="module")
def suite(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, rabbitmq: RabbitMQ, gateway: Gateway
) -> Iterator[Suite]:
    """The services, with the requester's default rate."""
    folder = tmp_path_factory.mktemp("profiled")
    with fleet(folder, gateway.settings, database_settings(postgres), broker_settings(rabbitmq)) as running:
        yield Suite(running)


@pytest.mark.parametrize("name", NAMES)
def test_each_service_pushes_its_profiles(suite: Suite, gateway: Gateway, name: str) -> None:
    """CPU profiles arrive with the service's name."""

    def pushed() -> list[dict[str, Any]]:
        return own(gateway.get("profiles", service=f"mythical-{name}"), suite.namespace)

    found = eventually(pushed, DEADLINE_S, f"profile of the {name}")
    assert found[0]["type"].startswith("process_cpu")
    assert found[0]["samples"] > 0


def test_a_server_span_has_a_flame_graph(suite: Suite, gateway: Gateway) -> None:
    """A span with a profile id has samples, and they show the server's functions."""

    def profiled_roots() -> list[dict[str, Any]]:
        spans = own(gateway.get("spans", service="mythical-server", limit=500), suite.namespace)
        profiled = {each["span_id"] for each in gateway.get("profiles/mythical-server/spans")}
        return [span for span in spans if span["span_id"] in profiled]

    def flame_of(span: dict[str, Any]) -> dict[str, Any]:
        flame: dict[str, Any] = gateway.get("profiles/mythical-server/flame", span_id=span["span_id"])
        return flame

    def shows_application() -> bool:
        # A request lasts a tenth of the sampling interval, so only a part of many requests has a sample.
        for _ in range(REQUESTS):
            ask(suite.services["server"].base_url, "/unicorn")
        # A sample can have an incomplete stack without the outer frames, so one span of several is enough.
        return any("wsgi_app" in str(flame_of(span)) for span in profiled_roots()[:20])

    assert eventually(shows_application, DEADLINE_S, "span whose samples reach down to the WSGI application")
    for span in profiled_roots():
        assert span["kind"] == "SERVER"
        assert span["attributes"]["pyroscope.profile.id"] == span["span_id"]
        assert flame_of(span)["value"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_each_service_answers_with_a_cpu_profile(suite: Suite, name: str) -> None:
    """The endpoint that Alloy scrapes returns gzipped pprof for the requested duration."""
    response = ask(suite.services[name].base_url, "/debug/pprof/profile?seconds=0.5")

    assert response.status == 200
    profile = ReadProfile(response.body)
    assert profile.types == [("samples", "count"), ("cpu", "nanoseconds"), ("wall", "nanoseconds")]
    assert 0.5e9 <= profile.message.duration_nanos < 10e9
    assert profile.total("wall") > 0


@pytest.mark.parametrize("name", NAMES)
def test_each_service_answers_with_a_heap_profile(suite: Suite, name: str) -> None:
    """It does so without a duration, which scrapers don't send."""
    response = ask(suite.services[name].base_url, "/debug/pprof/heap")

    assert response.status == 200
    assert ReadProfile(response.body).types == [("inuse_objects", "count"), ("inuse_space", "bytes")]
