"""Runs the gateway: `python -m local.gateway`."""

import argparse
import json
import logging
import signal
import socket
import sys
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]

from common.core.address import join_host_port, shown
from common.core.cli import replace_unprintable
from local.gateway.allocator import share_one_arena
from local.gateway.api import Api
from local.gateway.forward import Forwarder
from local.gateway.limits import Limits
from local.gateway.page import page_routes, reject_other_hosts
from local.gateway.pprof import PprofReader
from local.gateway.receive_faro import MOST_BYTES, FaroReceiver
from local.gateway.receive_loki import LokiReceiver
from local.gateway.receive_otlp import OtlpReceiver
from local.gateway.receive_pyroscope import PyroscopeReceiver
from local.gateway.telemetry_store import TelemetryStore
from local.gateway.web import HttpPort

# The ports that Alloy listens on in the containers; 12347 is where its UI is published.
PORTS = {
    "otlp_grpc": (4317, "OTLP over gRPC"),
    "otlp_http": (4318, "OTLP over HTTP"),
    "loki": (3100, "Loki push"),
    "pyroscope": (4040, "Pyroscope push"),
    "faro": (12350, "Faro, from browsers"),
    "page": (12347, "the page and the JSON API"),
}
STOPPING = (signal.SIGTERM, signal.SIGINT)
FLUSH_S = 0.8
GRACE_S = 0.3
# One request of each service at a time; more threads would only wait for the interpreter lock.
GRPC_THREADS = 4


class PortTaken(Exception):
    """A port is in use by another process; the text names it and says what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the command line."""

    bind: str
    ports: dict[str, int]
    forward_otlp: str | None
    ui: str | None
    faro_origins: tuple[str, ...]
    limits: Limits


def main() -> int:
    """Run until SIGTERM or SIGINT; return 0 then, 1 if a port is in use, and exit with 2 on a wrong setting."""
    replace_unprintable()
    settings = read_settings(sys.argv[1:])
    share_one_arena()
    logging.basicConfig(format="gateway: %(message)s")
    # Blocked, here and in every thread that is started below, and waited for at the end: a handler that sets an event
    # may run while this thread holds the event's lock, and would deadlock.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    with ExitStack() as stack:
        try:
            ports = start(settings, stack)
        except PortTaken as taken:
            sys.stderr.write(f"{taken}\n")
            return 1
        sys.stdout.write(f"ready {json.dumps(ports, separators=(',', ':'))}\n")
        sys.stdout.flush()
        signal.sigwait(STOPPING)
    return 0


def start(settings: Settings, stack: ExitStack) -> dict[str, int]:
    """Start every part, register its stop with `stack`, and return the ports listened on. Raises PortTaken."""
    limits, numbers = settings.limits, settings.ports
    store, reader = TelemetryStore(limits), PprofReader(limits.body_bytes)
    forwarder = Forwarder(settings.forward_otlp or "", limits)
    if settings.forward_otlp:
        forwarder.start()
        stack.callback(forwarder.close, FLUSH_S)
        otlp = OtlpReceiver(store, forwarder.request, forwarder.remember_resource)
        loki = LokiReceiver(store, limits.body_bytes, forwarder.lines)
        faro = FaroReceiver(store, otlp, forwarder.lines, settings.faro_origins)
    else:
        otlp = OtlpReceiver(store, lambda *_: None, lambda *_: None)
        loki = LokiReceiver(store, limits.body_bytes, lambda _: None)
        faro = FaroReceiver(store, otlp, lambda _: None, settings.faro_origins)
    listening: dict[str, HttpPort] = {}
    api = Api(store, reader, forwarder.figures, settings.ui, listening)
    routes = {
        "otlp_http": otlp.routes(),
        "loki": loki.routes(),
        "pyroscope": PyroscopeReceiver(store, reader).routes(),
        "faro": faro.routes(),
        "page": page_routes() + api.routes(),
    }
    ports = {"otlp_grpc": start_grpc(settings.bind, numbers["otlp_grpc"], otlp, limits, stack)}
    stack.callback(stop_all, listening.values())
    for name, served in routes.items():
        probe(settings.bind, name, numbers[name])
        guard = reject_other_hosts if name == "page" else None
        most = min(limits.body_bytes, MOST_BYTES) if name == "faro" else limits.body_bytes
        port = listening[name] = HttpPort((settings.bind, numbers[name]), served, most, guard)
        port.start()
        ports[name] = port.port
    return ports


def start_grpc(bind: str, port: int, otlp: OtlpReceiver, limits: Limits, stack: ExitStack) -> int:
    """Serve OTLP over gRPC and return the port; raises PortTaken."""
    # gRPC itself would share a port that is in use without an error, or log a stack trace.
    probe(bind, "otlp_grpc", port)
    options = [("grpc.max_receive_message_length", limits.body_bytes), ("grpc.so_reuseport", 0)]
    server: Any = grpc.server(ThreadPoolExecutor(GRPC_THREADS, "otlp-grpc"), options=options)
    server.add_generic_rpc_handlers(otlp.grpc_handlers())
    number = int(server.add_insecure_port(join_host_port(bind, port)))
    server.start()
    stack.callback(lambda: server.stop(GRACE_S).wait(2 * GRACE_S))
    return number


def stop_all(ports: Collection[HttpPort]) -> None:
    """Stop all ports in parallel: each needs up to a quarter of a second."""
    if ports:
        with ThreadPoolExecutor(len(ports)) as stopping:
            list(stopping.map(HttpPort.stop, ports))


def probe(bind: str, name: str, port: int) -> None:
    """Raise PortTaken if `port` cannot be listened on."""
    with socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((bind, port))
        except OSError as fault:
            option = f"--{name.replace('_', '-')}"
            raise PortTaken(
                f"{PORTS[name][1]} cannot listen on {join_host_port(bind, port)} ({fault.strerror}):"
                f" stop the process that holds the port (ss -ltnp 'sport = :{port}') or choose another with {option}"
            ) from None


def read_settings(arguments: list[str]) -> Settings:
    """The settings of a command line; ends the process with 2 and one line if one is wrong."""
    parser = argparse.ArgumentParser(
        "python -m local.gateway", usage="%(prog)s [options]", description="Replaces Alloy on a laptop."
    )
    parser.add_argument("--bind", default="127.0.0.1", help="address to listen on (%(default)s)")
    for name, (default, what) in PORTS.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=port_number, default=default, metavar="PORT", help=f"{what} (%(default)s)")
    parser.add_argument("--forward-otlp", type=web_address, metavar="URL", help="forward to this OTLP HTTP base")
    parser.add_argument("--ui", type=web_address, metavar="URL", help="the viewer to link to from the page")
    parser.add_argument(
        "--faro-origins",
        default="http://localhost:4005,http://127.0.0.1:4005",
        metavar="URLS",
        help="the pages that may send by Faro (%(default)s)",
    )
    for limit in fields(Limits):
        option = f"--max-{limit.name.replace('_', '-')}"
        text = f"{limit.metadata['help']} (%(default)s)"
        parser.add_argument(option, dest=limit.name, type=positive, default=limit.default, metavar="N", help=text)
    given = parser.parse_args(arguments)
    return Settings(
        bind=given.bind,
        ports={name: getattr(given, name) for name in PORTS},
        forward_otlp=given.forward_otlp,
        ui=given.ui,
        faro_origins=tuple(given.faro_origins.split(",")),
        limits=Limits(**{limit.name: getattr(given, limit.name) for limit in fields(Limits)}),
    )


def port_number(text: str) -> int:
    """A TCP port, 0 for any free one."""
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number, 0 to 65535")
    return int(text)


def positive(text: str) -> int:
    """A whole number, 1 or more."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)


def web_address(text: str) -> str:
    """An http or https address."""
    try:
        split = urlsplit(text)
        known = split.scheme in {"http", "https"} and split.hostname and (split.port or True)
    except ValueError:
        known = False
    if not known:
        raise argparse.ArgumentTypeError(f"{shown(text)!r} is not an address such as http://127.0.0.1:18888")
    return text


if __name__ == "__main__":
    sys.exit(main())
