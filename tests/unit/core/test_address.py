"""Addresses are formatted as text and parsed from it."""

from urllib.parse import urlsplit

import pytest

from common.core.address import join_host_port, shown, split_credentials


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
    """Without brackets, the port cannot be distinguished from the address."""
    assert join_host_port(host, 4317) == joined
    assert urlsplit(f"http://{joined}").port == 4317


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://alloy:4317/v1/traces", "http://alloy:4317/v1/traces"),
        ("http://user:s3cret@alloy:4317/v1", "http://alloy:4317/v1"),
        ("https://s3cret@alloy", "https://alloy"),
        ("amqp://user:s3cret@queue:5672/%2F", "amqp://queue:5672/%2F"),
        ("postgresql://user:s3cret@/db?password=s3cret", "postgresql:///db"),
        ("user:s3cret@127.0.0.1:9/loki", "127.0.0.1:9/loki"),
        ("http:/user:s3cret@127.0.0.1", "127.0.0.1"),
        ("http://user:s3cret@", "http://"),
        ("http://user:p@s3cret@host", "http://host"),
        ("http://user:12/s3cret?#@host:1", "http://host:1"),
        ("user:s3cret@http://host", "http://host"),
        ("http://host/push?token=s3cret#s3cret", "http://host/push"),
        ("http://[user:s3cret@::1", "http://::1"),
        ("", ""),
        ("alloy", "alloy"),
        ("alloy:1?token=s3cret", "alloy:1"),
    ],
)
def test_an_address_is_shown_without_its_credentials(address: str, expected: str) -> None:
    """This includes addresses that cannot be parsed, because errors show those."""
    assert shown(address) == expected


def test_credentials_are_converted_to_a_basic_authorization_header() -> None:
    """Characters that a URL escapes are decoded; the rest of the URL is unchanged."""
    assert split_credentials("https://us%40er:p%2Fw@[::1]:1/a?b#c") == ("https://[::1]:1/a?b#c", "Basic dXNAZXI6cC93")
    assert split_credentials("http://user@host") == ("http://host", "Basic dXNlcjo=")
    assert split_credentials("http://host/a") == ("http://host/a", "")
    assert split_credentials("host:4317") == ("host:4317", "")
