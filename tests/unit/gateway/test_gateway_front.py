"""The edges of the gateway: the Host check, decompression, HTTP parsing, the page's files, and the command line."""

import base64
import contextlib
import gzip
import importlib
import io
import json
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.gateway.__main__ import read_settings
from local.gateway.chunked import read_chunks
from local.gateway.compression import CODINGS, SNAPPY_FRAMED, ZSTD, decompress
from local.gateway.http_error import HttpError
from local.gateway.page import LIBRARIES, WEB, page_routes, reject_other_hosts
from local.gateway.web import MOST_CONNECTIONS, Answer, HttpPort, Request, Route


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:12347", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:12347", "[::1]", "[::1]:12347"]
)
def test_loopback_names_are_accepted(host: str) -> None:
    """Each notation of this machine works, with and without a port."""
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
def test_other_names_are_rejected(host: str) -> None:
    """A page whose name was made to resolve to this machine sends its own name as Host."""
    with pytest.raises(HttpError) as rejection:
        reject_other_hosts(host)
    assert rejection.value.status == 403


@pytest.mark.parametrize("host", ["10.0.0.5:12347", "[fe80::1]:12347", f"{socket.gethostname()}:12347"])
def test_an_address_that_no_site_can_claim_is_accepted(host: str) -> None:
    """With --bind, the page is reached by the machine's address or name, which no other site can use."""
    reject_other_hosts(host)


def deflated(content: bytes, window_bits: int) -> bytes:
    """Return content in one of zlib's formats."""
    packer = zlib.compressobj(wbits=window_bits)
    return packer.compress(content) + packer.flush()


def framed(content: bytes) -> bytes:
    """Return a Snappy stream: its header, padding, and the chunks, which cramjam writes behind a header if any."""
    chunks = bytes(cramjam.snappy.compress(content)).removeprefix(SNAPPY_FRAMED)
    return SNAPPY_FRAMED + b"\xfe\x03\0\0pad" + chunks


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip, two members": ("gzip", lambda content: gzip.compress(content[:9]) + gzip.compress(content[9:])),
    "deflate": ("deflate", zlib.compress),
    "deflate without a header": ("deflate", lambda content: deflated(content, -15)),
    "zlib": ("zlib", zlib.compress),
    "snappy": ("snappy", lambda content: bytes(cramjam.snappy.compress_raw(content))),
    "snappy, framed": ("snappy", framed),
    "x-snappy-framed": ("x-snappy-framed", framed),
    "lz4": ("lz4", lambda content: bytes(cramjam.lz4.compress(content))),
}


@pytest.mark.parametrize("packer", PACKERS)
@given(content=st.binary(max_size=5000))
def test_each_coding_is_decompressed_up_to_the_limit(packer: str, content: bytes) -> None:
    """Content as long as the limit is returned; one byte more is rejected."""
    coding, pack = PACKERS[packer]
    assert decompress(coding, pack(content), max(1, len(content))) == content
    if len(content) > 1:
        with pytest.raises(HttpError) as rejection:
            decompress(coding, pack(content), len(content) - 1)
        assert rejection.value.status == 413


@pytest.mark.parametrize("coding", CODINGS)
@given(content=st.binary(max_size=200))
def test_random_bytes_are_rejected_or_decompressed_within_the_limit(coding: str, content: bytes) -> None:
    """The result is content within the limit, or one line with the error."""
    with contextlib.suppress(HttpError):
        assert len(decompress(coding, content, 1000)) <= 1000


@pytest.mark.parametrize("packer", PACKERS)
@given(content=st.binary(min_size=1, max_size=200))
def test_truncated_content_is_rejected(packer: str, content: bytes) -> None:
    """A truncated body is not accepted as a shorter one."""
    coding, pack = PACKERS[packer]
    with pytest.raises(HttpError) as rejection:
        decompress(coding, pack(content)[:-1], 1000)
    assert rejection.value.status == 400


# Compressed with the reference libraries, with references to earlier bytes as in the bodies of real clients.
REFERENCE = b"".join(b"traceID=%032x endpoint=unicorn status=SUCCESS\n" % number for number in range(9)) + b"a" * 90
PACKED = {
    "snappy": (
        "6wUgdHJhY2VJRD0wegEAgCBlbmRwb2ludD11bmljb3JuIHN0YXR1cz1TVUNDRVNTCppJAAAx/kkAEUkAMv5JABFJADP+SQARSQA0"
        "/kkAEUkANf5JABFJADb+SQARSQA3/kkAEUkAOIJJAABh/gEAYgEA"
    ),
    "x-snappy-framed": (
        "/wYAAHNOYVBwWQB2AABAvA5x6wUgdHJhY2VJRD0wegEAgCBlbmRwb2ludD11bmljb3JuIHN0YXR1cz1TVUNDRVNTCppJAAAx/kkA"
        "EUkAMv5JABFJADP+SQARSQA0/kkAEUkANf5JABFJADb+SQARSQA3/kkAEUkAOIJJAABh/gEAYgEA"
    ),
    "lz4": (
        "BCJNGHxA6wIAAAAAAAAVZgAAAJ90cmFjZUlEPTABAAz/EiBlbmRwb2ludD11bmljb3JuIHN0YXR1cz1TVUNDRVNTCkkAFB8xSQA1"
        "HzJJADUfM0kANR80SQA1HzVJADUfNkkANR83SQA1HzhJAA4fYQEAQVBhYWFhYQX/De4AAAAAzNQrhg=="
    ),
}


@pytest.mark.parametrize("coding", PACKED)
def test_output_of_the_reference_libraries_is_decompressed(coding: str) -> None:
    """References may overlap their output and span several blocks."""
    assert decompress(coding, base64.b64decode(PACKED[coding]), 10_000) == REFERENCE
    with pytest.raises(HttpError) as rejection:
        decompress(coding, base64.b64decode(PACKED[coding]), len(REFERENCE) - 1)
    assert rejection.value.status == 413


@pytest.mark.skipif("zstd" not in CODINGS, reason="backports.zstd is not installed; see scripts/setup")
def test_zstd_is_decompressed_up_to_its_limit_and_window() -> None:
    """Content within the limit is returned; a window that needs more memory than RFC 9659 allows is rejected."""
    zstd = importlib.import_module(ZSTD)
    packed = zstd.compress(REFERENCE[:100]) + zstd.compress(REFERENCE[100:])
    assert decompress("zstd", packed, len(REFERENCE)) == REFERENCE
    with pytest.raises(HttpError) as rejection:
        decompress("zstd", packed, len(REFERENCE) - 1)
    assert rejection.value.status == 413
    packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    for damaged in (packed[:-1], packer.compress(REFERENCE) + packer.flush()):
        with pytest.raises(HttpError) as rejection:
            decompress("zstd", damaged, 10_000)
        assert rejection.value.status == 400


def test_an_unknown_coding_is_rejected_with_a_list_of_the_accepted_ones() -> None:
    """The sender can choose one of them."""
    with pytest.raises(HttpError, match="br is not supported; send gzip, deflate, ") as rejection:
        decompress("br", b"", 10)
    assert rejection.value.status == 415


@pytest.fixture
def port() -> Iterator[HttpPort]:
    """Start a port of the gateway without routes."""
    listening = HttpPort(("127.0.0.1", 0), [], 1000)
    listening.start()
    yield listening
    listening.stop()


@pytest.mark.parametrize("target", ["http://[/", "http://a]b/"])
def test_an_invalid_target_is_rejected(port: HttpPort, target: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is the sender's error and logs no stack trace."""
    with socket.create_connection(("127.0.0.1", port.port), timeout=60) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    assert caplog.text == ""


def test_a_sender_that_disconnects_within_a_body_is_not_an_error(
    port: HttpPort, caplog: pytest.LogCaptureFixture
) -> None:
    """A service that is killed while it sends causes no stack trace, and its connection slot is freed."""
    sender = socket.create_connection(("127.0.0.1", port.port), timeout=60)
    sender.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\nsome")
    until(lambda: free_slots(port) == MOST_CONNECTIONS - 1)
    # A linger time of zero resets the connection.
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sender.close()
    until(lambda: free_slots(port) == MOST_CONNECTIONS)
    assert caplog.text == ""


@pytest.fixture
def echo() -> Iterator[HttpPort]:
    """Start a port that responds with the request's body, of at most 1000 bytes."""
    listening = HttpPort(("127.0.0.1", 0), [Route("POST", "/", lambda request: Answer(request.body))], 1000)
    listening.start()
    yield listening
    listening.stop()


def exchange(port: HttpPort, sent: bytes) -> bytes:
    """Send bytes and return everything that the port sends until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port.port), timeout=60) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def chunked(body: bytes, head: str = "Transfer-Encoding: chunked") -> bytes:
    """Return a request with a body that is already encoded."""
    return f"POST / HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() + body


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5))
def test_chunks_of_any_size_are_joined(pieces: list[bytes]) -> None:
    """The body is the same as before chunking, and no byte after the last chunk is read."""
    encoded = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    stream = io.BytesIO(encoded + b"GET / HTTP/1.1")
    assert b"".join(read_chunks(stream)) == b"".join(pieces)
    assert stream.read() == b"GET / HTTP/1.1"


@pytest.mark.parametrize(
    "body",
    [
        b"5\r\nhello\r\n0\r\n\r\n",
        b"2\r\nhe\r\n003\r\nllo\r\n000\r\n\r\n",
        b'5;name=value; other = "quoted; \\" \xc3\xa9";bare\r\nhello\r\n0;last\r\n\r\n',
        b"5\r\nhello\r\n0\r\nDigest: x\r\nEmpty:\r\n\r\n",
    ],
)
def test_a_chunked_body_is_read_and_the_connection_is_kept(echo: HttpPort, body: bytes) -> None:
    """Extensions and trailers are skipped (RFC 9112, 7.1.1 and 7.1.2), and the next request is served."""
    responses = exchange(echo, chunked(body) + chunked(b"3\r\nbye\r\n0\r\n\r\n"))
    assert responses.count(b"HTTP/1.1 200 OK") == 2
    assert responses.index(b"\r\n\r\nhello") < responses.index(b"\r\n\r\nbye")


def test_a_chunked_body_may_be_compressed(echo: HttpPort) -> None:
    """Content-Encoding is independent of Transfer-Encoding."""
    packed = gzip.compress(b"hello")
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(packed), packed)
    assert exchange(echo, chunked(body, "Transfer-Encoding: Chunked\r\nContent-Encoding: gzip")).endswith(
        b"\r\n\r\nhello"
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"5\r\nhel",
        b"5\r\nhello\r\n",
        b"5\r\nhello\r\n0\r\n",
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"5\nhello\n0\n\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5_0\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
        b"1" * 17 + b"\r\nhello\r\n0\r\n\r\n",
        b"5;\r\nhello\r\n0\r\n\r\n",
        b"5 hello\r\nhello\r\n0\r\n\r\n",
        b'5;a="\r\nhello\r\n0\r\n\r\n',
        b"5;a=\nb\r\nhello\r\n0\r\n\r\n",
        b"5;" + b"a" * 20_000 + b"\r\nhello\r\n0\r\n\r\n",
        b"1;aaaaaaaaaaaaaaaaaaaaa\r\nx\r\n" * 900 + b"0\r\n\r\n",
        b"0\r\nno field\r\n\r\n",
        b"0\r\n folded: x\r\n\r\n",
        b"0\r\na: " + b"a" * 20_000 + b"\r\n\r\n",
        b"0\r\n" + b"a: aaaaaaaaaaaaaaaaaaaaa\r\n" * 900 + b"\r\n",
    ],
)
def test_a_malformed_chunked_body_is_rejected(echo: HttpPort, body: bytes) -> None:
    """The response has one line, and the connection is closed: the rest must not be parsed as a request."""
    responses = exchange(echo, chunked(body) + chunked(b"0\r\n\r\n"))
    assert responses.startswith(b"HTTP/1.1 400 ")
    assert responses.count(b"HTTP/1.1") == 1
    assert b"Connection: close" in responses


def test_a_sender_that_is_not_done_receives_the_rejection(echo: HttpPort) -> None:
    """To close a connection with unread bytes would reset it, and the response would be lost."""
    responses = exchange(echo, chunked(b"-5\r\n" + b"x" * 20_000_000))
    assert responses.startswith(b"HTTP/1.1 400 ")
    assert responses.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: identity", 501),
        ("Transfer-Encoding: chunked, chunked", 501),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 501),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
        ("Content-Length: 5\r\nContent-Length: 6", 400),
        ("Content-Length: +5", 400),
        ("Content-Length: 1_0", 400),
        ("Content-Length: -1", 400),
        ("Content-Length:", 400),
        ("Content-Length: " + "9" * 5000, 400),
        ("X-\u00ff: x\r\nContent-Length: 5", 400),
        ("Content-Length : 5", 400),
        ("without a colon\r\nContent-Length: 5", 400),
    ],
)
def test_a_body_with_an_ambiguous_length_is_rejected(echo: HttpPort, head: str, status: int) -> None:
    """Another program on the path may find another end, so the connection is closed (RFC 9112, 6.3)."""
    responses = exchange(echo, chunked(b"5\r\nhello\r\n0\r\n\r\n", head))
    assert responses.startswith(f"HTTP/1.1 {status} ".encode())
    assert responses.count(b"HTTP/1.1") == 1
    assert b"Connection: close" in responses


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=edge", "multipart/form-data", "message/rfc822"])
def test_a_body_of_any_type_is_read(echo: HttpPort, kind: str) -> None:
    """Python's parser of mail reports a head without the parts of such a body as defective."""
    head = f"Content-Type: {kind}\r\nTransfer-Encoding: chunked"
    assert exchange(echo, chunked(b"5\r\nhello\r\n0\r\n\r\n", head)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("line", ["GARBAGE", "GET / HTTP/2.0", "PRI * HTTP/2.0", "GET / HTTP/nonsense"])
def test_a_request_that_is_not_http_1_gets_a_status(echo: HttpPort, line: str) -> None:
    """Such as that of a client of HTTP/2, which would show a bare text as a protocol error."""
    assert exchange(echo, f"{line}\r\n\r\n".encode()).startswith(b"HTTP/1.1 ")


def test_a_chunked_body_above_the_limit_is_rejected(echo: HttpPort) -> None:
    """At the limit it is read; above, the sender gets 413 after all that it sends, in one chunk or in many."""
    many = b"64\r\n%b\r\n" % (b"x" * 100)
    assert exchange(echo, chunked(many * 10 + b"0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    for body in (
        many * 10 + b"1\r\nx\r\n0\r\n\r\n",
        b"1388\r\n%b\r\n0\r\n\r\n" % (b"x" * 5000),
        b"fffffff\r\n" + many * 99,
    ):
        responses = exchange(echo, chunked(body))
        assert responses.startswith(b"HTTP/1.1 413 "), body[:20]
        assert b"more than 1000 bytes" in responses


def test_chunks_without_an_end_time_out(echo: HttpPort, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline covers the whole request, including a sender that starts a chunk and then sends nothing."""
    monkeypatch.setattr(echo.RequestHandlerClass, "request_timeout_s", 0.2)
    for sent in (b"", b"5\r\nhel", b"5\r\nhello\r\n", b"0\r\n"):
        with socket.create_connection(("127.0.0.1", echo.port), timeout=60) as connection:
            connection.sendall(chunked(sent))
            assert b"".join(iter(lambda: connection.recv(65536), b"")).startswith(b"HTTP/1.1 408 ")


def test_expect_100_continue_is_answered_at_once(echo: HttpPort) -> None:
    """The client, for example curl with a large body, sends the body only after this response."""
    with socket.create_connection(("127.0.0.1", echo.port), timeout=60) as connection:
        connection.sendall(chunked(b"", "Transfer-Encoding: chunked\r\nExpect: 100-continue"))
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"2\r\nhi\r\n0\r\n\r\n")
        assert connection.recv(65536).endswith(b"\r\n\r\nhi")


def free_slots(port: HttpPort) -> int:
    """Return how many more connections are allowed."""
    return port._slots._value


def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` returns true, at most 60 seconds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "not within 60 s"
        time.sleep(0.01)


def test_too_many_empty_gzip_members_are_rejected() -> None:
    """Each costs a copy of the rest, so a body of a few MB would keep the gateway busy for minutes."""
    with pytest.raises(HttpError, match="damaged"):
        decompress("gzip", gzip.compress(b"") * 101, 10)


def test_a_route_captures_one_path_segment_and_decodes_it_afterwards() -> None:
    """A slash in a service name is encoded as %2F and stays within its segment."""
    route = Route("GET", "/api/profiles/{service}/flame", lambda _: Answer())
    assert route.match("/api/profiles/a%2Fb/flame") == ("a/b",)
    assert route.match("/api/profiles/a/b/flame") is None
    assert route.match("/api/profiles/a") is None


def index(routes: list[Route]) -> str:
    """Return the page as a browser gets it."""
    [route] = [route for route in routes if route.path == "/"]
    headers = None
    return route.handler(Request(headers, {}, (), b"")).body.decode()  # type: ignore[arg-type]


def test_without_the_libraries_the_page_requests_none(tmp_path: Path) -> None:
    """The page works without them and shows what is missing; there is no 404."""
    assert "/lib/" not in index(page_routes(tmp_path))


def test_with_the_libraries_the_page_loads_each_in_order(tmp_path: Path) -> None:
    """Every library file that exists is served and requested."""
    for path in LIBRARIES.values():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("")
    routes = page_routes(tmp_path)
    html = index(routes)
    places = [html.index(f'"/lib/{name}"') for name in LIBRARIES]
    assert places == sorted(places)
    assert {f"/lib/{name}" for name in LIBRARIES} <= {route.path for route in routes}


def test_the_page_requests_nothing_from_other_hosts() -> None:
    """There is no CDN, font, or frame, and no inline script or style, which its policy forbids."""
    for file in WEB.iterdir():
        if file.suffix in {".html", ".css", ".js"}:
            assert "//" not in file.read_text().replace("// ", "").replace("//\n", ""), file.name
    html = (WEB / "index.html").read_text()
    assert "<style" not in html
    assert " style=" not in html
    assert "innerHTML" not in "".join(file.read_text() for file in WEB.glob("*.js"))


def test_the_lock_file_contains_no_host() -> None:
    """It must be installable through any registry."""
    lock = json.loads((WEB / "package-lock.json").read_text())
    packages = {name: each for name, each in lock["packages"].items() if name}
    assert packages
    assert all("resolved" not in each and each["integrity"] for each in packages.values())


def test_defaults_are_the_ports_of_alloy_on_loopback() -> None:
    """Services need no setting for the stand-in."""
    settings = read_settings([])
    assert settings.bind == "127.0.0.1"
    assert settings.ports == {
        "otlp_grpc": 4317,
        "otlp_http": 4318,
        "loki": 3100,
        "pyroscope": 4040,
        "faro": 12350,
        "page": 12347,
    }


def test_each_limit_has_an_option() -> None:
    """The bounds of the window can be set by name."""
    assert read_settings(["--max-spans", "7"]).limits.spans == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--loki", "70000"], "is not a port number"),
        (["--loki", "x"], "is not a port number"),
        (["--max-spans", "0"], "whole number"),
        (["--forward-otlp", "localhost:4318"], "is not an address"),
        (["--ui", "javascript:alert(1)"], "is not an address"),
        (["--ui", "http://x:99999"], "is not an address"),
    ],
)
def test_an_invalid_option_ends_with_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line names the option and the error in its value."""
    with pytest.raises(SystemExit) as ended:
        read_settings(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
