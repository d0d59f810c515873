"""An OTLP receiver that is stricter than the gateway: it checks a header, and uses TLS with a private CA."""

import gzip
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any

import grpc  # type: ignore[import-untyped]  # its stubs are a separate package
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from local.ports import LOOPBACK

REQUESTS: dict[str, Any] = {
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
}
METHODS = {
    f"/opentelemetry.proto.collector.{kind}.v1.{kind.capitalize()}Service/Export": signal
    for kind, signal in (("trace", "traces"), ("metrics", "metrics"), ("logs", "logs"))
}
HEADER = "authorization"


@dataclass(frozen=True)
class Certificate:
    """The files of a server certificate for this machine, and of the private CA that signed it."""

    authority: Path
    certificate: Path
    key: Path


def make_certificate(folder: Path) -> Certificate:
    """Create both with openssl; they are valid for two days."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    authority, certificate = folder / "ca.pem", folder / "server.pem"
    _openssl(
        "req", "-x509", *key, "-keyout", f"{folder}/ca.key", "-out", str(authority), "-days", "2", "-subj", "/CN=ca"
    )
    _openssl(
        *(
            "req",
            "-x509",
            *key,
            "-CA",
            str(authority),
            "-CAkey",
            f"{folder}/ca.key",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ),
        *("-keyout", f"{folder}/server.key", "-out", str(certificate)),
        *("-addext", "subjectAltName=DNS:localhost,DNS:host.docker.internal,IP:127.0.0.1"),
        *("-addext", "basicConstraints=critical,CA:FALSE"),
    )
    return Certificate(authority, certificate, folder / "server.key")


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)  # noqa: S603, S607 - of the machine


@dataclass
class Arrived:
    """The accepted data by service and signal: pushes, items (spans, points, records), and bytes."""

    pushes: Counter[tuple[str, str]] = field(default_factory=Counter)
    items: Counter[tuple[str, str]] = field(default_factory=Counter)
    body_bytes: Counter[tuple[str, str]] = field(default_factory=Counter)
    series: set[tuple[Any, ...]] = field(default_factory=set)
    compressed: int = 0
    rejected: int = 0

    def add(self, signal: str, body: bytes) -> None:
        """Count a push by the service in its resource."""
        push = REQUESTS[signal].FromString(body)
        for resource in _of(push, "resource_"):
            service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
            scopes = _of(resource, "scope_")
            if signal == "metrics":
                points = [point for scope in scopes for metric in scope.metrics for point in _points(service, metric)]
                self.series |= set(points)
                count = len(points)
            else:
                count = sum(len(_of(scope, "spans") or _of(scope, "log_records")) for scope in scopes)
            self.pushes[service, signal] += 1
            self.items[service, signal] += count
            self.body_bytes[service, signal] += len(body)


def _of(message: Any, prefix: str) -> Any:
    """Return the repeated field of a message whose name starts with the prefix."""
    names = [name for name in message.DESCRIPTOR.fields_by_name if name.startswith(prefix) and name != "resource"]
    return getattr(message, names[0]) if names else []


def _points(service: str, metric: Any) -> Iterator[tuple[Any, ...]]:
    kind = metric.WhichOneof("data")
    for point in getattr(metric, kind).data_points:
        yield service, metric.name, tuple(sorted((a.key, str(a.value)) for a in point.attributes))


@contextmanager
def http_receiver(
    token: str = "", status: int = 401, certificate: Certificate | None = None, host: str = LOOPBACK, port: int = 0
) -> Iterator[tuple[str, Arrived]]:
    """Yield the URL of a receiver of OTLP over HTTP, and its accepted data.

    With a `token`, a push with a different header authorization is answered with `status`.
    """
    arrived = Arrived()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # the name is defined by http.server
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if token and self.headers.get(HEADER) != token:
                arrived.rejected += 1
                self.send_response(status)
            else:
                if self.headers.get("Content-Encoding") == "gzip":
                    arrived.compressed += 1
                    body = gzip.decompress(body)
                arrived.add(self.path.rpartition("/")[2], body)
                self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer((host, port), Handler) as server:
        server.daemon_threads = True
        if certificate:
            context = SSLContext(PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.certificate, certificate.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        name = "localhost" if certificate else LOOPBACK
        try:
            yield f"{'https' if certificate else 'http'}://{name}:{server.server_address[1]}/otlp", arrived
        finally:
            server.shutdown()
            serving.join()


@contextmanager
def grpc_receiver(
    token: str = "", certificate: Certificate | None = None, address: str = f"{LOOPBACK}:0"
) -> Iterator[tuple[str, Arrived]]:
    """Yield the URL of a receiver of OTLP over gRPC, and its accepted data; a wrong `token` is UNAUTHENTICATED."""
    arrived = Arrived()

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # it has no types
        def service(self, call: Any) -> Any:
            signal = METHODS[call.method]
            headers = dict(call.invocation_metadata)
            arrived.compressed += headers.get("grpc-encoding") == "gzip"

            def export(body: bytes, context: Any) -> bytes:
                if token and headers.get(HEADER) != token:
                    arrived.rejected += 1
                    context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong token")
                arrived.add(signal, body)
                return b""

            return grpc.unary_unary_rpc_method_handler(export)

    server = grpc.server(ThreadPoolExecutor(8), [Handler()])
    if certificate:
        pair = (certificate.key.read_bytes(), certificate.certificate.read_bytes())
        port = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    else:
        port = server.add_insecure_port(address)
    server.start()
    try:
        yield (f"https://localhost:{port}" if certificate else f"http://{LOOPBACK}:{port}"), arrived
    finally:
        server.stop(None).wait()
