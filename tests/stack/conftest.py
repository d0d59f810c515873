"""Fixtures of the running stack; tests are skipped when none runs."""

import json
import os
import socket
from typing import Any

import pytest

from common.core.env import Env
from tests.stack.backends import HOST, Backends, compose, port, published_services
from workshop import WorkshopError
from workshop.fault_client import FaultClient
from workshop.settings import load


def reason_not_running() -> str:
    """Return which of the backends does not answer, or an empty string if all do."""
    for name, variable in (("Tempo", "TEMPO_PORT"), ("Mimir", "MIMIR_PORT"), ("Loki", "LOKI_PORT")):
        try:
            socket.create_connection((HOST, port(variable)), timeout=0.3).close()
        except OSError:
            return f"no stack runs: {name} does not answer on {HOST}:{port(variable)} (docker compose up)"
    return ""


@pytest.fixture(scope="session")
def stack() -> Backends:
    """The running stack; skip the test without one."""
    if reason := reason_not_running():
        pytest.skip(reason)
    backends = Backends()
    if backends.status("TEMPO_PORT", "/ready") != 200:
        pytest.skip(f"the program on port {port('TEMPO_PORT')} is not Tempo, or it is not ready yet")
    return backends


@pytest.fixture(scope="module")
def containers(stack: Backends) -> list[dict[str, Any]]:  # noqa: ARG001 - they belong to a running stack
    """The containers that compose started in this folder, as `docker compose ps` lists them; skip without any."""
    try:
        listed = compose("ps", "--all", "--format", "json").splitlines()
    except (OSError, AssertionError) as error:
        pytest.skip(f"docker compose can't list the containers: {error}")
    if not listed:
        pytest.skip("the running stack was not started by compose in this folder")
    return [json.loads(line) for line in listed]


@pytest.fixture(scope="session")
def fault_client(stack: Backends) -> FaultClient:  # noqa: ARG001 - the services need a running stack
    """A client for the fault APIs of the stack's services; skip the test if they are unavailable."""
    client = FaultClient(load(Env({**os.environ, **published_services()})).services)
    try:
        client.states()
    except WorkshopError as error:
        pytest.skip(str(error))
    return client
