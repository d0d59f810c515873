"""Outgoing requests keep their connections for a while."""

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.metrics import NoOpMeterProvider

from common.telemetry.settings import Conventions
from common.web.client import RENEW_AFTER, HttpClient

NEW = Conventions(old_http=False, new_http=True, old_database=False, new_database=True)


def test_a_connection_is_renewed_after_a_number_of_requests() -> None:
    """Servers that are added later would get no requests otherwise."""
    requests = Counter[int]()  # by the caller's port

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            requests[self.client_address[1]] += 1
            self.send_response(204)
            if self.close_connection:  # as the caller asks; RFC 9112, section 9.6
                self.send_header("Connection", "close")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        meter = NoOpMeterProvider().get_meter("test")
        client = HttpClient(("127.0.0.1", server.server_port), meter, connections=1, conventions=NEW)
        statuses = {client.send("GET", "/unicorn", None, {}).status for _ in range(2 * RENEW_AFTER + 1)}
        client.pool.close()
        server.shutdown()
        thread.join()
    assert statuses == {204}
    assert sorted(requests.values()) == [1, RENEW_AFTER, RENEW_AFTER]
