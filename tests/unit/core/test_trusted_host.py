"""Host headers are trusted only if no other site can make the name resolve to this machine."""

import socket
import subprocess
import sys

import pytest

from common.core.address import is_trusted_host


@pytest.mark.parametrize("port", ["", ":4000"])
@pytest.mark.parametrize(
    "name", ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "10.0.0.5", "[::1]", socket.gethostname()]
)
def test_addresses_localhost_and_the_own_hostname_are_trusted(name: str, port: str) -> None:
    """They are trusted with and without a port."""
    assert is_trusted_host(name + port)


@pytest.mark.parametrize(
    "host", ["", "example.com", "127.0.0.1.example.com", "localhost.example.com:4000", "[::1", "::1", "evil@", ":4000"]
)
def test_other_names_are_not_trusted(host: str) -> None:
    """Their owner could make them resolve to this machine (DNS rebinding)."""
    assert not is_trusted_host(host)


def test_the_check_works_without_flask() -> None:
    """The local gateway uses it and does not load Flask."""
    code = "import sys, common.core.address; print('flask' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout == "False\n"
