"""The edges of the gateway: the Host check, decompression, the page's files, the command line."""

import gzip
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.gateway.__main__ import read_settings
from local.gateway.compression import gunzip
from local.gateway.http_error import HttpError
from local.gateway.page import LIBRARIES, WEB, page_routes, reject_other_hosts
from local.gateway.web import MOST_CONNECTIONS, Answer, HttpPort, Request, Route


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:12347", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:12347", "[::1]", "[::1]:12347"]
)
def test_loopback_names_are_let_in(host: str) -> None:
    """Each way to write this machine works, with and without a port."""
    reject_other_hosts(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example:12347",
        "evil.example:127.0.0.1",
        "127.0.0.1.evil.example",
        "[::1",
        "evil.example:1@localhost.evil.example",
    ],
)
def test_other_names_are_refused(host: str) -> None:
    """A page elsewhere whose name was made to point here sends its own name, and gets nothing."""
    with pytest.raises(HttpError) as refusal:
        reject_other_hosts(host)
    assert refusal.value.status == 403


@pytest.mark.parametrize("host", ["10.0.0.5:12347", "[fe80::1]:12347", f"{socket.gethostname()}:12347"])
def test_an_address_that_no_site_can_claim_is_let_in(host: str) -> None:
    """With --bind, the page is reached by the machine's address or name; no other site can make these lead here."""
    reject_other_hosts(host)


@given(st.binary(max_size=5000))
def test_gunzip_gives_back_what_was_packed_up_to_its_limit(content: bytes) -> None:
    """At the limit it is given, one byte less is refused."""
    packed = gzip.compress(content)
    assert gunzip(packed, max(1, len(content))) == content
    if len(content) > 1:
        with pytest.raises(HttpError) as refusal:
            gunzip(packed, len(content) - 1)
        assert refusal.value.status == 413


@given(st.binary(max_size=200))
def test_gunzip_refuses_what_is_damaged(content: bytes) -> None:
    """Neither noise nor a content that stops half way passes for a body."""
    for damaged in (content, gzip.compress(content)[:-1]):
        with pytest.raises(HttpError) as refusal:
            gunzip(damaged, 1000)
        assert refusal.value.status == 400


@pytest.fixture
def port() -> Iterator[HttpPort]:
    """A port of the gateway without routes."""
    listening = HttpPort(("127.0.0.1", 0), [], 1000)
    listening.start()
    yield listening
    listening.stop()


@pytest.mark.parametrize("target", ["http://[/", "http://a]b/"])
def test_a_target_that_is_no_address_is_refused(port: HttpPort, target: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is the sender's fault, and no stack trace in the log."""
    with socket.create_connection(("127.0.0.1", port.port), timeout=10) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    assert caplog.text == ""


def test_a_sender_that_hangs_up_within_a_body_is_no_fault(port: HttpPort, caplog: pytest.LogCaptureFixture) -> None:
    """A service that is killed while it sends leaves no stack trace; its place is free again."""
    sender = socket.create_connection(("127.0.0.1", port.port), timeout=10)
    sender.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\nsome")
    until(lambda: places(port) == MOST_CONNECTIONS - 1)
    # To linger for no time at all is to reset the connection.
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sender.close()
    until(lambda: places(port) == MOST_CONNECTIONS)
    assert caplog.text == ""


def places(port: HttpPort) -> int:
    """How many more connections there may be."""
    return port._slots._value


def until(look: Callable[[], bool]) -> None:
    """Wait until `look` answers true, at most ten seconds."""
    deadline = time.monotonic() + 10
    while not look():
        assert time.monotonic() < deadline, "not within 10 s"
        time.sleep(0.01)


@pytest.mark.parametrize("limit", [3, 1000])
def test_gunzip_refuses_a_second_member(limit: int) -> None:
    """It would be lost while its sender is told that all was taken; so too where the first is as long as the limit."""
    with pytest.raises(HttpError, match="one member") as refusal:
        gunzip(gzip.compress(b"one") + gzip.compress(b"two"), limit)
    assert refusal.value.status == 400


def test_a_route_captures_one_part_and_decodes_it_afterwards() -> None:
    """A slash in a service name is written %2F and stays within its part."""
    route = Route("GET", "/api/profiles/{service}/flame", lambda _: Answer())
    assert route.match("/api/profiles/a%2Fb/flame") == ("a/b",)
    assert route.match("/api/profiles/a/b/flame") is None
    assert route.match("/api/profiles/a") is None


def index(routes: list[Route]) -> str:
    """The page as a browser gets it."""
    [route] = [route for route in routes if route.path == "/"]
    headers = None
    return route.handler(Request(headers, {}, (), b"")).body.decode()  # type: ignore[arg-type]


def test_without_the_libraries_the_page_asks_for_none(tmp_path: Path) -> None:
    """Nothing is requested that would be a 404: the page works without them and says what it lacks."""
    assert "/lib/" not in index(page_routes(tmp_path))


def test_with_the_libraries_the_page_loads_each_in_order(tmp_path: Path) -> None:
    """Every library file that is there is served and asked for."""
    for path in LIBRARIES.values():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("")
    routes = page_routes(tmp_path)
    html = index(routes)
    places = [html.index(f'"/lib/{name}"') for name in LIBRARIES]
    assert places == sorted(places)
    assert {f"/lib/{name}" for name in LIBRARIES} <= {route.path for route in routes}


def test_the_page_asks_nothing_of_other_hosts() -> None:
    """No CDN, no font, no frame from elsewhere; and no script or style within the page, which its policy forbids."""
    for file in WEB.iterdir():
        if file.suffix in {".html", ".css", ".js"}:
            assert "//" not in file.read_text().replace("// ", "").replace("//\n", ""), file.name
    html = (WEB / "index.html").read_text()
    assert "<style" not in html
    assert " style=" not in html
    assert "innerHTML" not in "".join(file.read_text() for file in WEB.glob("*.js"))


def test_the_lock_file_names_no_host() -> None:
    """It must install through whatever registry a machine is set to use."""
    lock = json.loads((WEB / "package-lock.json").read_text())
    packages = {name: each for name, each in lock["packages"].items() if name}
    assert packages
    assert all("resolved" not in each and each["integrity"] for each in packages.values())


def test_defaults_are_the_ports_of_alloy_on_loopback() -> None:
    """No service needs to know that it talks to a stand-in."""
    settings = read_settings([])
    assert settings.bind == "127.0.0.1"
    assert settings.ports == {"otlp_grpc": 4317, "otlp_http": 4318, "loki": 3100, "pyroscope": 4040, "page": 12347}


def test_each_limit_is_an_option() -> None:
    """The bounds of the window can be set by name."""
    assert read_settings(["--max-spans", "7"]).limits.spans == 7


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--loki", "70000"], "is not a port number"),
        (["--loki", "x"], "is not a port number"),
        (["--max-spans", "0"], "whole number"),
        (["--forward-otlp", "localhost:4318"], "is not an address"),
        (["--ui", "javascript:alert(1)"], "is not an address"),
        (["--ui", "http://x:99999"], "is not an address"),
    ],
)
def test_a_wrong_setting_ends_with_2(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line names the option and what is wrong with its value."""
    with pytest.raises(SystemExit) as ended:
        read_settings(arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err
