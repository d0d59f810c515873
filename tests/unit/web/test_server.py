"""A service listens on its address, reports an invalid setting in one line, and stops its parts in order."""

import socket
import subprocess
import sys
from typing import NoReturn

import pytest

from common.core.env import Env, SettingsError
from common.web.server import Address, ServiceRuntime, address, check_free, loopback, run_service


def no_app(*_: object) -> list[bytes]:
    """Return an empty response."""
    return []


def test_a_service_listens_on_loopback_by_default() -> None:
    """The admin endpoints have no authentication."""
    assert address(Env({}), 4000) == Address("127.0.0.1", 4000, threads=4, backlog=1024)


def test_the_address_can_be_set() -> None:
    """Four variables set it, the same in each service."""
    env = Env({"HTTP_HOST": "0.0.0.0", "HTTP_PORT": "8080", "HTTP_THREADS": "2", "HTTP_BACKLOG": "128"})
    assert address(env, 4000) == Address("0.0.0.0", 8080, threads=2, backlog=128)


@pytest.mark.parametrize(
    ("host", "only_here"),
    [("127.0.0.1", True), ("::1", True), ("0.0.0.0", False), ("10.1.1.1", False)],
)
def test_profiles_are_enabled_by_default_on_loopback_only(host: str, only_here: bool) -> None:
    """On other addresses, a setting must enable them."""
    assert loopback(Address(host, 4000, 4, 1024)) is only_here


@pytest.mark.parametrize("host", ["localhost", "mythical-server", "127.0.0.1:4000", "http://127.0.0.1"])
def test_a_host_name_is_rejected_as_address(host: str) -> None:
    """Granian does not resolve names and would report that with a stack trace."""
    with pytest.raises(SettingsError, match=r"^HTTP_HOST=.* isn't an IP address such as 127\.0\.0\.1"):
        address(Env({"HTTP_HOST": host}), 4000)


def test_a_used_port_is_reported_in_one_line_and_a_free_one_stays_free() -> None:
    """The check is before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        where = Address("127.0.0.1", other.getsockname()[1], threads=4, backlog=1024)
        with pytest.raises(
            SettingsError, match=f"^cannot listen on HTTP_HOST=.* with HTTP_PORT={where.port}: [^\\n]*$"
        ):
            check_free(where)
    for _ in range(2):
        check_free(where)


def test_a_service_does_not_share_its_port_with_another_instance() -> None:
    """Granian allows sharing a port: each of the two would get some of the requests."""
    with socket.socket() as forgotten:
        forgotten.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        forgotten.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        forgotten.bind(("127.0.0.1", 0))
        forgotten.listen()
        with pytest.raises(SettingsError, match="cannot listen on"):
            check_free(Address("127.0.0.1", forgotten.getsockname()[1], threads=4, backlog=1024))


def test_shutdown_hooks_run_in_order_even_if_one_fails(caplog: pytest.LogCaptureFixture) -> None:
    """The last one flushes the telemetry, and an unavailable broker must not prevent it."""
    ended = []

    def fails() -> None:
        ended.append("broker")
        raise OSError("unavailable")

    ServiceRuntime(no_app, lambda: ended.append("loops"), fails, lambda: ended.append("telemetry")).close()
    assert ended == ["loops", "broker", "telemetry"]
    assert [record.getMessage() for record in caplog.records] == ["shutdown hook failed"]


def test_an_invalid_setting_ends_the_program_with_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    """A foreseeable error has no stack trace."""

    def wrong(_: Env) -> NoReturn:
        raise SettingsError("HTTP_PORT='x' is not a whole number; give one from 1 to 65535")

    with pytest.raises(SystemExit) as end:
        run_service(wrong, "nowhere:start", [])
    assert end.value.code == 2
    assert capsys.readouterr().err == "settings: HTTP_PORT='x' is not a whole number; give one from 1 to 65535\n"


def test_a_service_does_not_start_with_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    """There are none: a service that ignored `--help` would start and use its port."""
    with pytest.raises(SystemExit) as end:
        run_service(lambda _: pytest.fail("started"), "nowhere:start", ["--help"])
    assert end.value.code == 2
    assert "takes no arguments" in capsys.readouterr().err


@pytest.mark.parametrize("service", ["server", "requester", "recorder"])
def test_the_supervising_process_does_not_import_large_packages(service: str) -> None:
    """Modules that are not imported use no memory; the worker imports them after the fork."""
    code = f"import sys, services.{service}.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    imported = set(done.stdout.split())
    assert "granian" in imported
    assert not imported & {"flask", "opentelemetry.sdk", "grpc", "psycopg", "pyroscope", "requests"}
