"""The resource describes the process and the service in all signals."""

import json
import os

import pytest

from common.telemetry.process import resource


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables of the machine."""
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)


def test_the_resource_identifies_the_process_and_the_service() -> None:
    """It has name, namespace, version, instance, environment, host, and process."""
    attributes = resource("mythical-server", "production").attributes
    assert attributes["service.name"] == "mythical-server"
    assert (
        attributes["service.namespace"]
        == attributes["deployment.environment"]
        == attributes["deployment.environment.name"]
    )
    assert attributes["service.namespace"] == "production"
    assert attributes["process.pid"] == os.getpid()
    for name in ("service.version", "service.instance.id", "host.name", "host.arch", "os.type"):
        assert attributes[name], name
    for name in ("process.executable.name", "process.runtime.name", "process.runtime.version"):
        assert attributes[name], name


def test_attributes_of_the_user_take_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The original ignored the variable; here it overrides detected attributes."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=9,host.name=elsewhere,team=a%20b")
    attributes = resource("mythical-server", "production").attributes
    assert (attributes["service.version"], attributes["host.name"], attributes["team"]) == ("9", "elsewhere", "a b")
    assert attributes["service.name"] == "mythical-server"


def test_the_standard_name_of_the_service_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    """It overrides the default and the name in the attributes (OpenTelemetry specification)."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=second")
    assert resource("mythical-server", "production").attributes["service.name"] == "second"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "first")
    assert resource("mythical-server", "production").attributes["service.name"] == "first"


def test_the_command_line_is_not_in_the_resource() -> None:
    """It may contain secrets, which would be visible in the telemetry."""
    attributes = resource("mythical-server", "production").attributes
    assert not any("command" in name or name == "process.owner" for name in attributes)
    json.dumps(dict(attributes))
