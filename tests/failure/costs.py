"""The resource usage of a running service."""

from bench.usage import Usage, usage
from tests.integration.conftest import Service


def used(service: Service) -> Usage:
    """Return the CPU time so far and the memory of all processes of a service."""
    pid = service.process.pid
    assert pid
    return usage(pid)
