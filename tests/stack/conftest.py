"""A running stack to ask, or the reason why there is none."""

import os
import socket

import pytest

from common.core.env import Env
from tests.stack.backends import HOST, Backends, port
from workshop import WorkshopError
from workshop.fault_client import FaultClient
from workshop.settings import load


def silent() -> str:
    """Say which of the addresses does not answer; nothing if all do."""
    for name, variable in (("Tempo", "TEMPO_PORT"), ("Mimir", "MIMIR_PORT"), ("Loki", "LOKI_PORT")):
        try:
            socket.create_connection((HOST, port(variable)), timeout=0.3).close()
        except OSError:
            return f"no stack runs: {name} does not answer on {HOST}:{port(variable)} (docker compose up)"
    return ""


@pytest.fixture(scope="session")
def stack() -> Backends:
    """Give the running stack, or skip."""
    if reason := silent():
        pytest.skip(reason)
    backends = Backends()
    if backends.status("TEMPO_PORT", "/ready") != 200:
        pytest.skip(f"what answers on port {port('TEMPO_PORT')} is not Tempo, or it is not ready yet")
    return backends


@pytest.fixture(scope="session")
def switches(stack: Backends) -> FaultClient:  # noqa: ARG001 - there is none to switch without it
    """The switches of the services that the stack listens to, or skip."""
    found = FaultClient(load(Env(os.environ)).services)
    try:
        found.states()
    except WorkshopError as away:
        pytest.skip(str(away))
    return found
