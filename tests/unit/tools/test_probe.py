"""The doctor pushes like a service and names the error in the response; each cause has a real server."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest

from local.ports import LOOPBACK, free_port
from tests.unit.services.http_server import Server
from tools.probe import Target, probe, proxy_of, target

GRPC_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
Listening = Callable[..., int]


@pytest.fixture
def server() -> Iterator[Server]:
    """Start an HTTP server that responds as configured."""
    made = Server()
    yield made
    made.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a self-signed certificate for the loopback address, with its key in the same file."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    subject = ["-subj", "/CN=localhost", "-addext", f"subjectAltName=IP:{LOOPBACK}"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command = ["openssl", "req", "-x509", *key, "-keyout", str(file), "-out", f"{file}.crt", "-days", "2", *subject]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file


@pytest.fixture
def listening() -> Iterator[Listening]:
    """Return `listening(response, certificate)`, which starts a server that sends a response and closes."""
    listeners: list[tuple[socket.socket, threading.Thread]] = []

    def serve(listener: socket.socket, response: bytes, context: ssl.SSLContext | None) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with connection if context is None else context.wrap_socket(connection, server_side=True) as accepted:
                    accepted.recv(1000)
                    accepted.sendall(response)
                    # The client may still send its body: a close with unread bytes would reset the connection.
                    while response and accepted.recv(1000):
                        pass
            except OSError:
                connection.close()

    def start(response: bytes = b"", certificate: Path | None = None) -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
        if context and certificate:
            context.load_cert_chain(certificate)
        listener = socket.create_server((LOOPBACK, 0))
        thread = threading.Thread(target=serve, args=(listener, response, context))
        thread.start()
        listeners.append((listener, thread))
        return int(listener.getsockname()[1])

    yield start
    for listener, thread in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.fixture
def collector() -> Iterator[Callable[[grpc.StatusCode], int]]:
    """Return `collector(status)`, which starts a gRPC server that responds with a status, and returns its port."""
    servers: list[grpc.Server] = []

    def start(status: grpc.StatusCode) -> int:
        def export(_: bytes, context: grpc.ServicerContext) -> bytes:
            if status is not grpc.StatusCode.OK:
                context.abort(status, "because")
            return b""

        made = grpc.server(ThreadPoolExecutor(1))
        handler = grpc.unary_unary_rpc_method_handler(export)
        name = "opentelemetry.proto.collector.trace.v1.TraceService"
        if status is not grpc.StatusCode.UNIMPLEMENTED:
            made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Export": handler}),))
        port = made.add_insecure_port(f"{LOOPBACK}:0")
        made.start()
        servers.append(made)
        return int(port)

    yield start
    for each in servers:
        each.stop(None).wait()


def logs(port: int, scheme: str = "http", **more: str) -> dict[str, str]:
    """Return the environment of a service that pushes its lines to a port."""
    return {"LOGS_TARGET": f"{scheme}://{LOOPBACK}:{port}/loki/api/v1/push", **more}


def finding(signal: str, environment: dict[str, str]) -> str:
    """Return the doctor's finding about a signal with its remedy, or an empty text."""
    found = probe(target(signal, environment), environment)
    return "; ".join(found) if found else ""


@pytest.mark.parametrize("status", [200, 204, 400, 422])
def test_a_response_to_an_empty_push_is_a_success(server: Server, status: int) -> None:
    """A response that content is missing shows that the endpoint is right."""
    server.status, server.body = status, b""
    assert finding("logs", logs(server.address[1])) == ""
    assert [(method, path) for method, path, _, _ in server.requests] == [("POST", "/loki/api/v1/push")]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, "rejects the credentials (status 401); correct LOGS_TOKEN"),
        (403, "rejects the credentials (status 403)"),
        (404, "has no such endpoint (status 404); correct the path in LOGS_TARGET"),
        (302, "redirects to  (status 302): a login page, or a moved endpoint"),
        (503, "answers with status 503"),
    ],
)
def test_a_status_is_explained(server: Server, status: int, expected: str) -> None:
    """The message names the variable in effect."""
    server.status, server.body = status, b""
    assert expected in finding("logs", logs(server.address[1]))


def test_credentials_are_sent_and_not_shown(server: Server) -> None:
    """They are those of the URL, and those of the OTLP headers."""
    server.status, server.body = 401, b""
    url = f"http://user:s3cret@{LOOPBACK}:{server.address[1]}/push?token=s3cret"
    environment = {"LOGS_TARGET": url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"} | {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": url, "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20s3cret"
    }  # fmt: skip
    for signal in ("logs", "traces"):
        text = finding(signal, environment)
        assert "rejects the credentials" in text
        assert "s3cret" not in text
    assert [headers.get("Authorization") or headers.get("authorization") for _, _, headers, _ in server.requests] == [
        "Basic dXNlcjpzM2NyZXQ=",
        "Basic dXNlcjpzM2NyZXQ=",
    ]


def test_an_html_page_as_the_response_is_named(listening: Listening) -> None:
    """A login page or the page of a proxy also has status 200."""
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 4\r\n\r\n<ht>"
    assert "answers with an HTML page, such as a login page" in finding("logs", logs(listening(page)))


def test_a_closed_port_is_named() -> None:
    """The message has the variable and the address, for HTTP and for gRPC."""
    port = free_port()
    assert f"LOGS_TARGET=http://{LOOPBACK}:{port}/loki/api/v1/push does not answer: Connection refused" in finding(
        "logs", logs(port)
    )
    assert "does not answer" in finding("traces", {GRPC_ENDPOINT: f"http://{LOOPBACK}:{port}"})


def test_tls_and_plain_text_mixed_up_are_named(listening: Listening, server: Server, authority: Path) -> None:
    """The message has the scheme to use, for HTTP and for gRPC."""
    secure = listening(b"", authority)
    assert "expects TLS, but the URL says http; change it to https://" in finding("logs", logs(secure))
    assert "expects TLS" in finding("traces", {GRPC_ENDPOINT: f"http://{LOOPBACK}:{secure}"})
    plain = server.address[1]
    assert "does not use TLS, but the URL says https; change it to http://" in finding("logs", logs(plain, "https"))
    assert "does not use TLS" in finding("traces", {GRPC_ENDPOINT: f"https://{LOOPBACK}:{plain}"})


def test_a_certificate_of_an_unknown_authority_is_named(listening: Listening, authority: Path) -> None:
    """The message has the file of authorities in effect; with the right file, the push succeeds."""
    done = b"HTTP/1.1 204 No Content\r\n\r\n"
    port = listening(done, authority)
    assert "has a certificate that no authority of the system signed" in finding("logs", logs(port, "https"))
    assert finding("logs", logs(port, "https", REQUESTS_CA_BUNDLE=f"{authority}.crt")) == ""
    assert "/missing: No such file" in finding("logs", logs(port, "https", REQUESTS_CA_BUNDLE="/missing"))


def test_grpc_to_an_http_port_and_the_reverse_are_named(
    server: Server, collector: Callable[[grpc.StatusCode], int]
) -> None:
    """The remedy has both the port and the protocol."""
    found = finding("traces", {GRPC_ENDPOINT: f"http://{LOOPBACK}:{server.address[1]}"})
    assert "is an HTTP port, but the service sends gRPC; use the port for gRPC (4317)" in found
    http = {GRPC_ENDPOINT: f"http://{LOOPBACK}:{collector(grpc.StatusCode.OK)}"}
    found = finding("traces", http | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"})
    assert "is a gRPC port, but the service sends HTTP; use the port for HTTP (4318)" in found


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (grpc.StatusCode.OK, ""),
        (grpc.StatusCode.UNAUTHENTICATED, "(UNAUTHENTICATED); correct OTEL_EXPORTER_OTLP_HEADERS"),
        (grpc.StatusCode.UNIMPLEMENTED, "is a gRPC server without OTLP"),
        (grpc.StatusCode.UNAVAILABLE, "answers with UNAVAILABLE: because"),
    ],
)  # fmt: skip
def test_a_grpc_status_is_explained(
    collector: Callable[[grpc.StatusCode], int], status: grpc.StatusCode, expected: str
) -> None:
    """The messages are like those for HTTP."""
    text = finding("traces", {GRPC_ENDPOINT: f"http://{LOOPBACK}:{collector(status)}"})
    assert expected in text
    assert bool(text) == bool(expected)


def test_the_proxy_in_effect_is_named() -> None:
    """It is named only for addresses outside the suite that are not in NO_PROXY, and without its password."""
    proxy = f"http://user:s3cret@{LOOPBACK}:{free_port()}"
    environment = {"LOGS_TARGET": "http://loki.example.org/push", "HTTP_PROXY": proxy}
    found = finding("logs", environment)
    assert "does not answer through the proxy of HTTP_PROXY=http://127.0.0.1:" in found
    assert "s3cret" not in found
    assert proxy_of("http://loki.example.org/push", environment | {"NO_PROXY": "x, .example.org"}) == ""
    for local in (LOOPBACK, "localhost", "alloy", "[::1]"):
        assert proxy_of(f"http://{local}:4318", environment) == ""


@pytest.mark.parametrize(
    ("signal", "environment", "variable", "url", "protocol"),
    [
        ("traces", {"TRACING_COLLECTOR_HOST": "a"}, "TRACING_COLLECTOR_HOST", "http://a:4317", "grpc"),
        ("metrics", {"TRACING_COLLECTOR_HOST": "::1", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
         "TRACING_COLLECTOR_HOST", "http://[::1]:4318/v1/metrics", "http"),
        ("metrics", {"TRACING_COLLECTOR_HOST": "a", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf"},
         "TRACING_COLLECTOR_HOST", "http://a:4318/v1/metrics", "http"),
        ("traces", {GRPC_ENDPOINT: "http://b:1/x/", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
         GRPC_ENDPOINT, "http://b:1/x/v1/traces", "http"),
        ("traces", {GRPC_ENDPOINT: "http://b:1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "c:2"},
         "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://c:2", "grpc"),
        ("traces", {GRPC_ENDPOINT: "http://b:4318"}, GRPC_ENDPOINT, "http://b:4318/v1/traces", "http"),
        ("logs", {"LOGS_TARGET": "http://l/p", GRPC_ENDPOINT: "http://b:1"}, "LOGS_TARGET", "http://l/p", "http"),
        ("logs", {"OTEL_LOGS_EXPORTER": "otlp", GRPC_ENDPOINT: "http://b:1"}, GRPC_ENDPOINT, "http://b:1", "grpc"),
        ("profiles", {"PROFILE_COLLECTOR_HOST": "p"}, "PROFILE_COLLECTOR_HOST",
         "http://p:4040/push.v1.PusherService/Push", "http"),
    ],
)  # fmt: skip
def test_the_variable_in_effect_is_found(
    signal: str, environment: dict[str, str], variable: str, url: str, protocol: str
) -> None:
    """The precedence is that of the services."""
    found = target(signal, environment)
    assert found == Target(variable, url, protocol, signal)
