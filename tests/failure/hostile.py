"""Malformed and hostile requests, from templates with parts that are random in each request."""

import secrets
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

# Text that shows the implementation of a server: no response may contain it.
INTERNALS = (
    "Traceback",
    "psycopg",
    "SELECT ",
    "INSERT ",
    "site-packages",
    ".py",
    "werkzeug",
    "flask",
    "/home",
)

JSON = "Content-Type: application/json"
FORGED = 'x\\nlevel=error beast=dragon msg=\\"forged\\" trace_id=1'

# Head and body, a blank line between them; {r} is random in each request.
TEMPLATES = (
    "GET /unicorn HTTP/1.1",
    "GET /{r} HTTP/1.1",
    "GET /unicorn/{r} HTTP/1.1",
    "GET /%2e%2e/%2e%2e/etc/{r} HTTP/1.1",
    "GET /unicorn%00{r} HTTP/1.1",
    "GET /%ff%fe{r} HTTP/1.1",
    "GET /unicorn?limit={r} HTTP/1.1",
    "GET /unicorn?limit=-1&before=99999999999999999999 HTTP/1.1",
    "GET /unicorn?limit=1&limit=2&{r}=1 HTTP/1.1",
    "GET /unicorn;drop%20table%20unicorn HTTP/1.1",
    "GET /unicorn'%20OR%201=1--{r} HTTP/1.1",
    "DELETE /unicorn?{r} HTTP/1.1",
    "PATCH /unicorn HTTP/1.1",
    "{r} /unicorn HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "GET /unicorn HTTP/1.1\r\ntraceparent: 00-{r}-{r}-zz",
    "GET /unicorn HTTP/1.1\r\ntraceparent: 00-00000000000000000000000000000000-0000000000000000-01",
    "GET /unicorn HTTP/1.1\r\ntracestate: {long}={r}",
    "GET /unicorn HTTP/1.1\r\nbaggage: synthetic={r},user_agent.synthetic.type={r},{long}={long}",
    "GET /unicorn HTTP/1.1\r\nbaggage: {pairs}",
    "GET /unicorn HTTP/1.1\r\nUser-Agent: {long}\r\nX-Forwarded-For: {r}\r\nForwarded: for={r}",
    "GET /unicorn HTTP/1.1\r\nCookie: {long}\r\nAccept: {r}/{r}\r\nAccept-Encoding: {r}",
    "POST /unicorn HTTP/1.1\r\n" + JSON,
    "POST /unicorn HTTP/1.1\r\n" + JSON + "\r\n\r\n{{",
    "POST /unicorn HTTP/1.1\r\n" + JSON + '\r\n\r\n{{"name": null}}',
    "POST /unicorn HTTP/1.1\r\n" + JSON + '\r\n\r\n{{"name": ["{r}"]}}',
    "POST /unicorn HTTP/1.1\r\n" + JSON + '\r\n\r\n{{"name": 1e999}}',
    "POST /unicorn HTTP/1.1\r\n" + JSON + '\r\n\r\n{{"name": "\\u0000{r}"}}',
    "POST /unicorn HTTP/1.1\r\n" + JSON + '\r\n\r\n{{"name": "\\ud800{r}"}}',
    "POST /unicorn HTTP/1.1\r\n" + JSON + '\r\n\r\n{{"name": "{long}{long}"}}',
    "POST /unicorn HTTP/1.1\r\n" + JSON + "\r\n\r\n{deep}",
    "POST /unicorn HTTP/1.1\r\n" + JSON + '\r\n\r\n{{"name": "' + FORGED + '{r}"}}',
    "POST /unicorn HTTP/1.1\r\n" + JSON + '\r\n\r\n{{"name": "\'); DROP TABLE unicorn; -- {r}"}}',
    'POST /unicorn HTTP/1.1\r\nContent-Type: text/{r}\r\n\r\n{{"name": "{r}"}}',
    "POST /unicorn HTTP/1.1\r\nContent-Type: application/json; charset={r}\r\n\r\n{{}}",
    "DELETE /unicorn HTTP/1.1\r\n" + JSON + '\r\n\r\n{{"name": "{r}\\"=\\n"}}',
)


def bodies(begin: str) -> tuple[str, ...]:
    """Return a request with the head `begin` for each body that a fault API must reject."""
    return tuple(
        f"{begin}\r\n{JSON}\r\n\r\n{body}"
        for body in (
            "",
            "{{",
            "[]",
            "{{}}",
            "null",
            "{deep}",
            '{{"strength": "{r}"}}',
            '{{"strength": null}}',
            '{{"strength": true}}',
            '{{"strength": NaN}}',
            '{{"strength": -Infinity}}',
            '{{"strength": 1e999}}',
            '{{"strength": -0.1}}',
            '{{"strength": [1]}}',
            '{{"strength": {digits}}}',
            '{{"strength": "\\u0000\\ud800"}}',
            '{{"{r}": 1, "strength": "' + FORGED + '"}}',
            '{{"strength": "{huge}"}}',
            "\x00\x00\x00",
        )
    )


def requests(count: int) -> Iterator[bytes]:
    """Yield `count` requests to the server's API."""
    return filled(TEMPLATES, count)


# To the admin endpoints; FAULT stands for a fault of the service.
ADMIN_TEMPLATES = (
    *(
        f"GET /debug/pprof/{kind}?seconds={seconds} HTTP/1.1"
        for kind in ("profile", "heap")
        for seconds in (
            *("", "nan", "inf", "-inf", "-1", "0", "-0.0", "60.001", "1e308", "1e999", "0x10", "1_0", "%00", "%D9%A1"),
            *("%0a", "{r}", "{digits}", "0&seconds=2", "%ff", "1,5", "{{}}", "'%20OR%201=1"),
        )
    ),
    "GET /debug/pprof/{r} HTTP/1.1",
    "GET /debug/pprof/../../../etc/{r} HTTP/1.1",
    "POST /debug/pprof/profile?seconds=1 HTTP/1.1\r\n" + JSON + "\r\n\r\n{deep}",
    "GET /metrics?{r}={r} HTTP/1.1\r\nAccept: {long}/{r};q={r}",
    "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text; version={r}; escaping={r}",
    "GET /metrics/{r} HTTP/1.1",
    "DELETE /metrics HTTP/1.1",
    "{r} /metrics HTTP/1.1",
    "GET /healthz HTTP/1.1\r\nbaggage: {pairs}\r\ntraceparent: 00-{r}-{r}-zz",
    "GET /healthz%00{r} HTTP/1.1",
    "GET /%ff{r} HTTP/1.1",
    "POST /{r} HTTP/1.1\r\n" + JSON + "\r\n\r\n{deep}",
    "PUT /faults/{r} HTTP/1.1\r\nHost: localhost\r\n" + JSON + '\r\n\r\n{{"strength": 1}}',
    "PUT /faults/%00%0alevel=error HTTP/1.1\r\nHost: localhost\r\n" + JSON + '\r\n\r\n{{"strength": 1}}',
    "PUT /faults/FAULT/../FAULT HTTP/1.1\r\nHost: localhost\r\n" + JSON + '\r\n\r\n{{"strength": 1}}',
    "PUT /faults/FAULT HTTP/1.1\r\nHost: localhost\r\n" + JSON + '\r\n\r\n{{"strength": 1, "seconds": 1e300}}',
    "PUT /faults/FAULT HTTP/1.1\r\nHost: localhost\r\n" + JSON + '\r\n\r\n{{"strength": 1, "blind": "{r}"}}',
    "PUT /faults/FAULT HTTP/1.1\r\nHost: {long}\r\n" + JSON + '\r\n\r\n{{"strength": 1}}',
    "DELETE /faults/{r} HTTP/1.1\r\nHost: localhost",
    "PATCH /faults HTTP/1.1\r\nHost: localhost",
    *bodies("PUT /faults/FAULT HTTP/1.1\r\nHost: localhost"),
)

# To the page of the injected faults.
FAULT_PAGE_TEMPLATES = (
    "GET /{r} HTTP/1.1\r\nHost: localhost",
    "GET /../page.py HTTP/1.1\r\nHost: localhost",
    "GET /%2e%2e/page.{r} HTTP/1.1\r\nHost: localhost",
    "GET /page.js/{r} HTTP/1.1\r\nHost: localhost",
    "POST / HTTP/1.1\r\nHost: localhost",
    "PUT /api/faults HTTP/1.1\r\nHost: localhost",
    "PUT /api/faults/{r} HTTP/1.1\r\nHost: localhost\r\n" + JSON + '\r\n\r\n{{"strength": 1}}',
    "PUT /api/faults/%00%0a HTTP/1.1\r\nHost: localhost\r\n" + JSON + '\r\n\r\n{{"strength": 1}}',
    "DELETE /api/faults/{r} HTTP/1.1\r\nHost: localhost",
    "GET / HTTP/1.1\r\nHost: {long}",
    *bodies("PUT /api/faults/FAULT HTTP/1.1\r\nHost: localhost"),
)


def filled(templates: Sequence[str], count: int) -> Iterator[bytes]:
    """Yield `count` requests, from one template after the other."""
    for number in range(count):
        text = templates[number % len(templates)].format(
            r=f"x{secrets.token_hex(8)}",
            long="y" * 1500,
            digits="9" * 5000,
            huge="z" * 20_000,
            deep='{"name":' * 3000 + "1" + "}" * 3000,
            pairs=",".join(f"{secrets.token_hex(4)}={number}" for number in range(180)),
        )
        head, _, body = text.partition("\r\n\r\n")
        host = "" if "\r\nHost: " in head else "\r\nHost: server"
        yield f"{head}{host}\r\nContent-Length: {len(body.encode())}\r\n\r\n".encode() + body.encode()


class Attacker:
    """Sends requests on one connection, reopened when the server has closed it, and counts the responses."""

    def __init__(self, base_url: str) -> None:
        url = urlsplit(base_url)
        self._address = (url.hostname or "", url.port or 80)
        self._connection: socket.socket | None = None
        self.statuses: Counter[int] = Counter()
        self.unanswered: list[bytes] = []
        self.leaked: list[tuple[bytes, bytes]] = []

    def send(self, request: bytes) -> None:
        """Send one request and check the response for internals."""
        status, response = self._exchange(request)
        if not status:  # the server closed the connection after the last response: retry on a new one
            status, response = self._exchange(request)
        self.statuses[status] += 1
        if not status:
            self.unanswered.append(request)
        if any(word.encode() in response for word in INTERNALS):
            self.leaked.append((request, response))

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(self, request: bytes) -> tuple[int, bytes]:
        try:
            if self._connection is None:
                self._connection = socket.create_connection(self._address, timeout=20)
            self._connection.sendall(request)
            status, response, reusable = _read(self._connection)
        except OSError:
            status, response, reusable = 0, b"", False
        if not reusable:
            self.close()
        return status, response


def _read(connection: socket.socket) -> tuple[int, bytes, bool]:
    """Return the status (0 without a response), the whole response, and whether the connection can be used again."""
    response = b""
    while b"\r\n\r\n" not in response:
        more = connection.recv(65536)
        if not more:
            return 0, response, False
        response += more
    head, _, body = response.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    status = int(head.split()[1])
    while len(body) < int(fields.get(b"content-length", b"0")):
        more = connection.recv(65536)
        if not more:
            return status, head + body, False
        body += more
    return status, head + body, fields.get(b"connection") != b"close"
