"""Collectors that answer every push with an error: UNAVAILABLE over gRPC, 503 over HTTP."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import grpc  # type: ignore[import-untyped]  # grpc ships no types

from local.ports import LOOPBACK


class _Unavailable(grpc.GenericRpcHandler):  # type: ignore[misc]
    def service(self, _: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            lambda _, context: context.abort(grpc.StatusCode.UNAVAILABLE, "rejected by the test")
        )


class _RejectingHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@contextmanager
def rejecting_grpc() -> Iterator[int]:
    """Yield the port of a gRPC server that answers every call with UNAVAILABLE."""
    server = grpc.server(ThreadPoolExecutor(4), handlers=[_Unavailable()])
    port = server.add_insecure_port(f"{LOOPBACK}:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0)


@contextmanager
def rejecting_http() -> Iterator[int]:
    """Yield the port of an HTTP server that answers every POST with 503."""
    with ThreadingHTTPServer((LOOPBACK, 0), _RejectingHandler) as server:
        thread = Thread(target=server.serve_forever, name="rejecting")
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
