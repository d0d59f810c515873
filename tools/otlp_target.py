"""Where a signal goes over OTLP, and what is wrong with that target, in one sentence: for the log, and for the doctor.

The exporters of the SDK retry a set-up that cannot work, and report it late, in many words, or not at all. Here an
empty push finds the cause. `python -m tools.otlp_target` prints it for each signal, as JSON.
"""

import http.client
import json
import os
import socket
import ssl
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from common.core.env import Env
from common.telemetry.settings import Collector, Signal, collector

TIMEOUT_S = 3.0
PUSH: dict[Signal, str] = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
# Source: RFC 9113, section 3.4 (the preface and an empty SETTINGS frame) and 4.1 (the type of a frame is its byte 3).
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
SETTINGS_FRAME, TYPE_AT = 4, 3
# Source: RFC 8446, section 5.1, the first bytes of an alert.
TLS_ALERT = b"\x15\x03"

DENIED = "it rejects the credentials ({}); check OTEL_EXPORTER_OTLP_HEADERS"
NO_OTLP = "it has no OTLP {} there ({}); check the path and the port of the endpoint"
USE_TLS = "it expects TLS; use an endpoint with https://"
STATUS = {
    **{code: DENIED.format(code) for code in (401, 403)},
    **{code: NO_OTLP.format("over HTTP", code) for code in (404, 405)},
}


@dataclass(frozen=True)
class Target:
    """The target of a signal: URL or host:port, protocol, headers, whether gRPC goes without TLS, and TLS files."""

    signal: Signal
    url: str
    protocol: str
    headers: dict[str, str]
    insecure: bool
    authority: str
    client: tuple[str, str]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url if "://" in self.url else f"//{self.url}")
        return parts.hostname or "", parts.port or (443 if self.tls else 80)

    @property
    def tls(self) -> bool:
        """Whether it is reached by TLS."""
        return self.url.startswith("https://") or (self.protocol == "grpc" and not self.insecure)

    def problem(self) -> str:
        """Push nothing; return why it cannot be delivered, or an empty string if the set-up seems right."""
        try:
            return self._over_grpc() if self.protocol == "grpc" else self._over_http()
        except socket.gaierror:
            return f"the name {self.address[0]} cannot be resolved"
        except ssl.SSLCertVerificationError as error:
            trust = "check OTEL_EXPORTER_OTLP_CERTIFICATE and the name in the endpoint"
            return f"its certificate cannot be verified: {error.verify_message}; {trust}"
        except ssl.SSLError:
            return "it does not answer with TLS; use an endpoint with http://"
        except (OSError, http.client.HTTPException) as error:
            return f"the connection failed: {getattr(error, 'strerror', '') or error or type(error).__name__}"

    def _over_http(self) -> str:
        request = urllib.request.Request(self.url, b"", self.headers | {"Content-Type": "application/x-protobuf"})  # noqa: S310 - http(s), as checked at the start
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=self._context() if self.tls else None):  # noqa: S310
                return ""
        except urllib.error.HTTPError as error:
            error.close()
            return STATUS.get(error.code, "")
        except urllib.error.URLError as error:
            if isinstance(error.reason, OSError):
                raise error.reason from None
            return str(error.reason)
        except http.client.BadStatusLine as error:
            begin = str(error.args[0]).encode("latin-1", "replace")
            if begin.startswith(TLS_ALERT):
                return USE_TLS
            if begin[TYPE_AT : TYPE_AT + 1] == bytes((SETTINGS_FRAME,)):
                return "it expects gRPC; set OTEL_EXPORTER_OTLP_PROTOCOL=grpc, or use the port for HTTP"
            raise

    def _over_grpc(self) -> str:
        if not self._proxied():
            first = self._first_answer()
            if first.startswith(TLS_ALERT) or not (first or self.tls):
                return USE_TLS
            if first[TYPE_AT : TYPE_AT + 1] != bytes((SETTINGS_FRAME,)):
                return (
                    "it does not expect gRPC; set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, or use the port for gRPC"
                )
        # Imported when used: gRPC takes 20 MB, and a process without it has no such exporter.
        import grpc  # type: ignore[import-untyped]  # its stubs are a package of their own

        known = {
            grpc.StatusCode.UNAUTHENTICATED: DENIED.format("UNAUTHENTICATED"),
            grpc.StatusCode.PERMISSION_DENIED: DENIED.format("PERMISSION_DENIED"),
            grpc.StatusCode.UNIMPLEMENTED: NO_OTLP.format("over gRPC", "UNIMPLEMENTED"),
        }
        host_port = self.url.partition("://")[2].strip("/") or self.url
        if self.tls:
            files = (self.authority, self.client[1], self.client[0])
            trusted, key, chain = (Path(file).read_bytes() if file else None for file in files)
            channel = grpc.secure_channel(host_port, grpc.ssl_channel_credentials(trusted, key, chain))
        else:
            channel = grpc.insecure_channel(host_port)
        try:
            channel.unary_unary(PUSH[self.signal])(b"", metadata=tuple(self.headers.items()), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return known.get(error.code(), "")
        finally:
            channel.close()
        return ""

    def _proxied(self) -> bool:
        proxies = urllib.request.getproxies_environment()
        return bool(proxies) and not urllib.request.proxy_bypass(self.address[0])

    def _first_answer(self) -> bytes:
        """Return the first bytes that the target sends to a client of HTTP/2; raises OSError if it can't be reached."""
        with socket.create_connection(self.address, TIMEOUT_S) as connection:
            if self.tls:
                context = self._context()
                context.set_alpn_protocols(["h2"])
                connection = context.wrap_socket(connection, server_hostname=self.address[0])  # noqa: PLW2901
            connection.sendall(HTTP2_PREFACE)
            return connection.recv(16)

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority or None)
        if self.client[0]:
            context.load_cert_chain(self.client[0], self.client[1] or None)
        return context


def target(to: Collector, signal: Signal) -> Target:
    """Return the target of a signal, as the exporter reads it from the standard variables."""

    def standard(what: str) -> str:
        names = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_{what}", f"OTEL_EXPORTER_OTLP_{what}")
        return next((value for name in names if (value := os.environ.get(name, "").strip())), "")

    protocol = to.protocol_of(signal)
    url = to.endpoint(signal) or standard("ENDPOINT")
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    if protocol != "grpc" and not own and not url.endswith(f"/v1/{signal}"):
        url = f"{url.rstrip('/')}/v1/{signal}"
    pairs = [pair.partition("=") for pair in standard("HEADERS").split(",") if pair.strip()]
    insecure = standard("INSECURE").lower()
    return Target(
        signal,
        url,
        protocol,
        {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs},
        url.startswith("http://") if not insecure else insecure == "true",
        standard("CERTIFICATE"),
        (standard("CLIENT_CERTIFICATE"), standard("CLIENT_KEY")),
    )


if __name__ == "__main__":
    to = collector(Env(os.environ))
    targets = [target(to, signal) for signal in PUSH]
    problems = {each.signal: f"{each.url}: {found}" for each in targets if (found := each.problem())}
    sys.stdout.write(json.dumps(problems) + "\n")
