"""Sends an empty push to the address of a signal, as the service does, and says what is wrong with the answer.

`python -m tools.probe` prints it for each signal over OTLP, as JSON: a sentence and a remedy, or nothing.
"""

import contextlib
import http.client
import json
import os
import socket
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

from common.core.address import is_local, join_host_port, shown, split_credentials
from common.core.cli import run_program
from common.core.env import Env
from common.telemetry.settings import GRPC_METHODS, PROTOCOLS, collector, port_for, protocol_of, push_headers
from common.telemetry.standard_variables import otlp_headers, otlp_variable

TIMEOUT_S = 3.0
PORTS = {"http": 80, "https": 443}
# A client's preface and empty SETTINGS frame; the server's answer begins with its SETTINGS: type 4 (RFC 9113, 3.4).
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
SETTINGS_TYPE, TYPE_AT = 4, 3
HTTP1_REQUEST = b"OPTIONS / HTTP/1.1\r\nHost: suite\r\nConnection: close\r\n\r\n"
TLS_ALERT = b"\x15\x03"

Diagnosis = tuple[str, str]  # what is wrong, and a remedy


@dataclass(frozen=True)
class Target:
    """Where a service sends a signal: the variable in effect, the URL, grpc or http, and the headers.

    `certificate` is the file of trusted authorities, or empty for those of the system; `client` are the files of the
    client's own certificate and key, if any.
    """

    variable: str
    url: str
    protocol: str = "http"
    signal: str = "traces"
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    certificate: str = ""
    client: tuple[str, str] = ("", "")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)

    @property
    def shown(self) -> str:
        """The variable and the URL."""
        return f"{self.variable}={shown(self.url)}"


def target(signal: str, environment: Mapping[str, str]) -> Target:
    """Return where a service with this environment sends a signal, by the same precedence as the service."""

    env = Env(environment)

    def value(name: str) -> str:
        return env.text(name, "")

    if signal == "profiles":
        address = join_host_port(value("PROFILE_COLLECTOR_HOST"), value("PROFILE_COLLECTOR_PORT") or "4040")
        url = f"http://{address}/push.v1.PusherService/Push"
        return Target("PROFILE_COLLECTOR_HOST", url, signal=signal, headers=push_headers(env, "PROFILE_COLLECTOR"))
    if signal == "logs" and value("OTEL_LOGS_EXPORTER").lower() != "otlp":
        bundle = value("REQUESTS_CA_BUNDLE") or value("CURL_CA_BUNDLE")
        headers = push_headers(env, "LOGS")
        return Target("LOGS_TARGET", value("LOGS_TARGET"), signal=signal, headers=headers, certificate=bundle)
    own, every = f"OTEL_EXPORTER_OTLP_{signal.upper()}_", "OTEL_EXPORTER_OTLP_"
    otlp = partial(otlp_variable, environment, signal)
    of_all = collector(env)
    in_full = protocol_of(environment, signal, of_all.protocol)
    protocol = PROTOCOLS[in_full]
    path = f"/v1/{signal}" if protocol == "http" else ""
    if url := value(f"{own}ENDPOINT"):
        variable = f"{own}ENDPOINT"
    elif url := value(f"{every}ENDPOINT"):
        variable, url = f"{every}ENDPOINT", url.rstrip("/") + path
    else:
        variable = "TRACING_COLLECTOR_HOST"
        url = f"http://{join_host_port(of_all.host, port_for(in_full, of_all.port))}{path}"
    if "://" not in url:  # for gRPC, host:port is enough, and means TLS
        url = f"{'http' if otlp('INSECURE').lower() == 'true' else 'https'}://{url}"
    client = otlp("CLIENT_CERTIFICATE"), otlp("CLIENT_KEY")
    return Target(variable, url, protocol, signal, otlp_headers(environment, signal), otlp("CERTIFICATE"), client)


def otlp_problems(environment: Mapping[str, str]) -> dict[str, Diagnosis]:
    """Push nothing by each signal of OTLP, as a service with this environment would; return what is wrong, if it is."""
    found = {name: probe(target(name, environment), environment) for name in GRPC_METHODS}
    return {name: diagnosis for name, diagnosis in found.items() if diagnosis}


def probe(at: Target, environment: Mapping[str, str]) -> Diagnosis | None:
    """Push nothing to a target, as a service with this environment would; None if the answer is as it should be."""
    proxy = proxy_of(at.url, environment)
    try:
        return _call(at, proxy) if at.protocol == "grpc" else _post(at, proxy, environment)
    except ssl.SSLCertVerificationError as error:
        bundle = at.certificate or "the system"
        said = f"{at.shown} has a certificate that no authority of {bundle} signed ({error.verify_message})"
        return said, "set the file with its authority: OTEL_EXPORTER_OTLP_CERTIFICATE, or REQUESTS_CA_BUNDLE for logs"
    except ssl.SSLError:
        return f"{at.shown} does not use TLS, but the URL says https", f"change it to http:// in {at.variable}"
    except (http.client.HTTPException, ConnectionResetError, BrokenPipeError) as error:
        return _not_http1(at, str(error))
    except OSError as error:
        why = error.strerror or str(error)
        said = f"{at.shown} does not answer{_through(proxy)}: {why}"
        return said, f"start what listens there, or change {proxy.partition('=')[0] or at.variable}"
    except ValueError:
        return f"{at.variable} is not a URL", f"correct {at.variable}"


def _through(proxy: str) -> str:
    return f" through the proxy of {proxy}" if proxy else ""


def proxy_of(url: str, environment: Mapping[str, str]) -> str:
    """Return "name=value" of the proxy variable in effect for a URL, without credentials; empty if there is none."""
    host, scheme = urlsplit(url).hostname or "", urlsplit(url).scheme
    direct = (environment.get("no_proxy") or environment.get("NO_PROXY", "")).split(",")
    exceptions = [entry.strip().lstrip(".") for entry in direct if entry.strip()]
    if is_local(host) or any(entry in ("*", host) or host.endswith(f".{entry}") for entry in exceptions):
        return ""
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY")
    name = next((each for each in names if environment.get(each)), "")
    return f"{name}={shown(environment[name])}" if name else ""


def _exchange(host: str, port: int, sent: bytes) -> bytes:
    """Return the first bytes of the answer; empty if the connection is closed, or nothing arrives in time."""
    with socket.create_connection((host, port), TIMEOUT_S) as connection:
        connection.sendall(sent)
        try:
            return connection.recv(64)
        except (TimeoutError, ConnectionResetError):
            return b""


def _is_http2(answer: bytes) -> bool:
    return answer[TYPE_AT : TYPE_AT + 1] == bytes([SETTINGS_TYPE])


def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), TIMEOUT_S) as connection, context.wrap_socket(connection):
            return True
    except OSError:
        return False


def _not_http2(at: Target, answer: bytes) -> Diagnosis:
    if answer.startswith(TLS_ALERT) or b"HTTPS" in answer or _speaks_tls(*at.address):
        return _needs_tls(at)
    if answer.startswith(b"HTTP/1") or _exchange(*at.address, HTTP1_REQUEST).startswith(b"HTTP/1"):
        said = f"{at.shown} is an HTTP port, but the service sends gRPC"
        return said, "use the port for gRPC (4317), or OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"
    return f"{at.shown} answers, but not as a gRPC server", f"change the port in {at.variable}"


def _not_http1(at: Target, answer: str) -> Diagnosis:
    if _is_http2(_exchange(*at.address, HTTP2_PREFACE)):
        said = f"{at.shown} is a gRPC port, but the service sends HTTP"
        return said, "use the port for HTTP (4318), or OTEL_EXPORTER_OTLP_PROTOCOL=grpc"
    if at.url.startswith("http://") and _speaks_tls(*at.address):
        return _needs_tls(at)
    return f"{at.shown} answers, but not as an HTTP server ({answer[:40]!r})", f"change the port in {at.variable}"


def _needs_tls(at: Target) -> Diagnosis:
    return f"{at.shown} expects TLS, but the URL says http", f"change it to https:// in {at.variable}"


def _context(at: Target) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=at.certificate or None)
    except OSError as error:  # the name of the file is not in it
        raise OSError(error.errno, f"{at.certificate}: {error.strerror}") from None
    if at.client[0]:
        context.load_cert_chain(at.client[0], at.client[1] or None)
    return context


def _post(at: Target, proxy: str, environment: Mapping[str, str]) -> Diagnosis | None:
    parts = urlsplit(at.url)
    host, port = at.address
    path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    headers = {"Content-Type": "application/x-protobuf"} | at.headers
    body = b""
    if at.variable == "LOGS_TARGET":
        headers["Content-Type"], body = "application/json", b'{"streams": []}'
    elif at.signal == "profiles":
        headers["Content-Type"] = "application/proto"
    if authorization := split_credentials(at.url)[1]:
        headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        headers["Authorization"] = authorization
    via = urlsplit(environment[proxy.partition("=")[0]]) if proxy else None
    at_host, at_port = (via.hostname or "", via.port or 80) if via else (host, port)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(at_host, at_port, timeout=TIMEOUT_S, context=_context(at))
        if via:
            connection.set_tunnel(host, port)
    else:
        connection = http.client.HTTPConnection(at_host, at_port, timeout=TIMEOUT_S)
        path = f"http://{join_host_port(host, port)}{path}" if via else path
    with contextlib.closing(connection):
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        text = answer.read(1000).decode(errors="replace")
        return _judge(at, answer, text, proxy)


def _judge(at: Target, answer: http.client.HTTPResponse, text: str, proxy: str) -> Diagnosis | None:
    """Judge the answer to an empty push; that the content is rejected (400, 422) is as it should be."""
    status, through = answer.status, _through(proxy)
    is_page = answer.headers.get_content_type() == "text/html"
    found: Diagnosis | None = None
    match status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            said = f"{at.shown} rejects the credentials (status {status}{through})"
            found = said, f"correct {_credentials_of(at)}"
        case HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            found = f"the proxy of {proxy} rejects the credentials (status {status})", "correct them in that variable"
        case HTTPStatus.NOT_FOUND | HTTPStatus.METHOD_NOT_ALLOWED:
            said = f"{at.shown} has no such endpoint (status {status}{through})"
            found = said, f"correct the path in {at.variable}"
        case HTTPStatus.BAD_REQUEST if "HTTPS" in text:
            found = _needs_tls(at)
        case _ if status // 100 == 3:  # noqa: PLR2004 - redirects
            where = shown(answer.headers.get("Location", ""))
            said = f"{at.shown} redirects to {where} (status {status}{through}): a login page, or a moved endpoint"
            found = said, f"correct {at.variable}"
        case _ if status // 100 == 5:  # noqa: PLR2004 - errors of the server
            said = f"{at.shown} answers with status {status}{through}: {text.strip()[:80]}"
            found = said, "see the log of that server"
        case _ if is_page and status < HTTPStatus.MULTIPLE_CHOICES:
            found = f"{at.shown} answers with an HTML page, such as a login page{through}", f"correct {at.variable}"
    return found


def _credentials_of(at: Target) -> str:
    if at.variable.startswith(("OTEL_", "TRACING_")):
        return "OTEL_EXPORTER_OTLP_HEADERS"
    return "LOGS_TOKEN" if at.signal == "logs" else "PROFILE_COLLECTOR_TOKEN"


def _call(at: Target, proxy: str) -> Diagnosis | None:
    """Export nothing by gRPC, if its library is installed, and judge the status."""
    tls = urlsplit(at.url).scheme == "https"
    if not proxy:
        if tls:
            with socket.create_connection(at.address, TIMEOUT_S) as connection:
                _context(at).wrap_socket(connection, server_hostname=at.address[0]).close()
        elif not _is_http2(answer := _exchange(*at.address, HTTP2_PREFACE)):
            return _not_http2(at, answer)
    os.environ.pop("GRPC_POLL_STRATEGY", None)  # with a wrong value, gRPC would abort this process
    try:
        grpc = import_module("grpc")
    except ImportError:
        return None
    address = join_host_port(*at.address)
    if tls:
        files = (at.certificate, at.client[1], at.client[0])
        trusted, key, chain = (Path(file).read_bytes() if file else None for file in files)
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(trusted, key, chain))
    else:
        channel = grpc.insecure_channel(address)
    with channel:
        try:
            channel.unary_unary(GRPC_METHODS[at.signal])(b"", timeout=TIMEOUT_S, metadata=tuple(at.headers.items()))
        except grpc.RpcError as error:
            status, said = error.code().name, str(error.details())
        else:
            return None
    if status in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return f"{at.shown} rejects the credentials ({status})", f"correct {_credentials_of(at)}"
    if status == "UNIMPLEMENTED":
        return f"{at.shown} is a gRPC server without OTLP ({status})", f"correct {at.variable}"
    return f"{at.shown} answers with {status}: {said[:80]}", "see the log of that server"


def main() -> int:
    """Print the problems of the targets that this environment names."""
    # The lines of the log may go to Loki, and are not asked for then.
    sys.stdout.write(json.dumps(otlp_problems({**os.environ, "OTEL_LOGS_EXPORTER": "otlp"})) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
