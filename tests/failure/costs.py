"""What a running service uses."""

from bench.usage import Usage, usage
from tests.integration.conftest import Service


def used(service: Service) -> Usage:
    """CPU time so far, and memory, of all its processes."""
    pid = service.process.pid
    assert pid
    return usage(pid)
