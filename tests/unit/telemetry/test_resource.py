"""The resource: who all signals speak of."""

import json
import os

import pytest

from common.telemetry.process import resource


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine has set must not matter."""
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)


def test_the_resource_says_which_process_of_which_service_it_is() -> None:
    """Name, namespace, version, instance, environment, host and process."""
    said = resource("mythical-server", "production").attributes
    assert said["service.name"] == "mythical-server"
    assert said["service.namespace"] == said["deployment.environment"] == said["deployment.environment.name"]
    assert said["service.namespace"] == "production"
    assert said["process.pid"] == os.getpid()
    for name in ("service.version", "service.instance.id", "host.name", "host.arch", "os.type"):
        assert said[name], name
    for name in ("process.executable.name", "process.runtime.name", "process.runtime.version"):
        assert said[name], name


def test_what_the_user_says_of_the_resource_is_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """The original ignored the variable; here it wins over everything known by itself."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=9,host.name=elsewhere,team=a%20b")
    said = resource("mythical-server", "production").attributes
    assert (said["service.version"], said["host.name"], said["team"]) == ("9", "elsewhere", "a b")
    assert said["service.name"] == "mythical-server"


def test_the_standard_name_of_the_service_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over ours, and over the one among the attributes (OpenTelemetry specification)."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=second")
    assert resource("mythical-server", "production").attributes["service.name"] == "second"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "first")
    assert resource("mythical-server", "production").attributes["service.name"] == "first"


def test_the_command_line_stays_out() -> None:
    """It may hold secrets, and everyone who reads telemetry would read them."""
    said = resource("mythical-server", "production").attributes
    assert not any("command" in name or name == "process.owner" for name in said)
    json.dumps(dict(said))
