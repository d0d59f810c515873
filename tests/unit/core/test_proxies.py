"""Addresses of the suite are reached directly even if the environment names a proxy; others are reached through it."""

import os
from urllib.request import proxy_bypass

import pytest

from common.core.address import bypass_proxies, is_local


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"),
        *("localhost", "localhost.", "A.LOCALHOST", "alloy", "alloy.", "mythical-server", "host.docker.internal"),
        *("alloy.mythical.svc", "alloy.mythical.svc.cluster.local."),
    ],
)
def test_this_machine_and_names_of_compose_are_local(host: str) -> None:
    """A proxy cannot resolve them."""
    assert is_local(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "collector.example.com", "2001:db8::1", ""])
def test_other_addresses_are_not_local(host: str) -> None:
    """They may only be reachable through the proxy."""
    assert not is_local(host)


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return an environment without proxy variables; those that the test sets are removed."""
    for name in [*os.environ, "NO_PROXY", "no_proxy", "no_grpc_proxy"]:
        if name.lower().endswith("_proxy"):
            monkeypatch.setenv(name, "")  # restores it at the end, even if only the tested code sets it
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize("proxy", ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_local_collectors_are_added_and_others_are_not(environ: pytest.MonkeyPatch, proxy: str) -> None:
    """Both spellings are set, because gRPC reads only the lower case and other libraries either."""
    environ.setenv(proxy, "socks5://proxy.example.com:1080")
    environ.setenv("NO_PROXY", "intra.example.com")
    bypass_proxies("http://alloy:4317", "collector.example.com:4317", "", "127.0.0.9:4317", "http://[::1]:4040")
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"]
    assert os.environ["no_proxy"].split(",") == [
        "intra.example.com",
        "127.0.0.1",
        "localhost",
        "::1",
        "alloy",
        "127.0.0.9",
    ]
    assert proxy_bypass("alloy:4317")
    assert not proxy_bypass("collector.example.com:4317")


def test_a_wildcard_that_exempts_all_hosts_is_kept(environ: pytest.MonkeyPatch) -> None:
    """A "*" is only valid by itself. gRPC does not support it and has a separate variable."""
    environ.setenv("http_proxy", "http://proxy.example.com:3128")
    environ.setenv("no_proxy", "*")
    bypass_proxies("alloy:4317")
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "*"
    assert "alloy" in os.environ["no_grpc_proxy"].split(",")  # noqa: SIM112 - gRPC's own name


@pytest.mark.usefixtures("environ")
def test_without_a_proxy_nothing_changes() -> None:
    """The system-wide proxies of macOS apply only while no variable is set."""
    before = dict(os.environ)
    bypass_proxies("http://alloy:4317")
    assert dict(os.environ) == before
