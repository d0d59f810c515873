"""Which Host headers name this machine in a way that nobody else can make resolve to it."""

import socket
import subprocess
import sys

import pytest

from common.core.address import is_trusted_host


@pytest.mark.parametrize("port", ["", ":4000"])
@pytest.mark.parametrize(
    "name", ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "10.0.0.5", "[::1]", socket.gethostname()]
)
def test_addresses_localhost_and_the_own_host_name_are_trusted(name: str, port: str) -> None:
    """With and without a port."""
    assert is_trusted_host(name + port)


@pytest.mark.parametrize(
    "host", ["", "example.com", "127.0.0.1.example.com", "localhost.example.com:4000", "[::1", "::1", "evil@", ":4000"]
)
def test_any_other_name_is_not(host: str) -> None:
    """Its owner could make it resolve to this machine (DNS rebinding)."""
    assert not is_trusted_host(host)


def test_the_check_works_without_flask() -> None:
    """The local gateway uses it, and does not have Flask in memory."""
    code = "import sys, common.core.address; print('flask' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout == "False\n"
