"""Addresses as text."""

from urllib.parse import urlsplit

import pytest

from common.core.address import join_host_port


@pytest.mark.parametrize(
    ("host", "joined"),
    [
        ("alloy", "alloy:4317"),
        ("127.0.0.1", "127.0.0.1:4317"),
        ("::1", "[::1]:4317"),
        ("[::1]", "[::1]:4317"),
        ("fe80::1%eth0", "[fe80::1%eth0]:4317"),
    ],
)
def test_an_ipv6_address_is_put_in_brackets(host: str, joined: str) -> None:
    """Without them, nobody can tell where the address ends and the port begins."""
    assert join_host_port(host, 4317) == joined
    assert urlsplit(f"http://{joined}").port == 4317
