"""Callers of the server that record what each response guarantees, to compare it with the tables afterwards."""

import http.client
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

from common.core.endpoints import MYTHICAL
from local.servers.postgres import Postgres
from tests.integration.conftest import Service
from tests.integration.service_support import JSON, run

TIMEOUT_S = 30.0
PAUSE_S = 0.05  # after a 503 or a failed request


class Callers:
    """Threads that add, read and sometimes delete names, one request after the other, until the end of the context.

    `stored`: names that were acknowledged with 201 and that no request deleted. `deleted`: names that were acknowledged
    with 201 and then with 204. Nothing is guaranteed about other names.
    """

    def __init__(
        self,
        servers: Sequence[Service],
        *,
        each: int = 4,
        beasts: Sequence[str] = MYTHICAL.names,
        reuse: bool = True,
        deletes: bool = True,
    ) -> None:
        self.statuses: Counter[int] = Counter()
        self.stored: dict[str, set[str]] = {beast: set() for beast in beasts}
        self.deleted: dict[str, set[str]] = {beast: set() for beast in beasts}
        self.unanswered: Counter[str] = Counter()
        self.unanswered_names: set[str] = set()
        self.unavailable_without_retry_after = 0
        self.slowest_s = 0.0
        self._mark = secrets.token_hex(3)  # so that names differ from those of earlier callers
        self._beasts = beasts
        self._reuse = reuse
        self._deletes = deletes
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._call, args=(server, f"{number}-{caller}"), name=f"caller-{number}-{caller}")
            for number, server in enumerate(servers)
            for caller in range(each)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def responses(self) -> int:
        """The number of responses, with any status."""
        return self.statuses.total()

    def broken_guarantees(self, postgres: Postgres, database: str | None = None) -> list[str]:
        """Return the stored names that the tables lack, and the deleted names that they contain."""
        violations: list[str] = []
        for beast in self._beasts:
            found = names_in(postgres, beast, database)
            violations += [f"lost: {beast} {name}" for name in self.stored[beast] - found]
            violations += [f"deleted but present: {beast} {name}" for name in self.deleted[beast] & found]
        return violations

    def names_in(self, postgres: Postgres, database: str | None = None) -> set[str]:
        """Return all names in the tables."""
        return {name for beast in self._beasts for name in names_in(postgres, beast, database)}

    def _call(self, server: Service, caller: str) -> None:
        connection = _Connection(server)
        count = 0
        while not self._stop.is_set():
            count += 1
            beast, name = self._beasts[count % len(self._beasts)], f"{self._mark} {caller} {count}"
            if self._send(connection, "POST", beast, name) == http.HTTPStatus.CREATED:
                self.stored[beast].add(name)
            self._send(connection, "GET", beast, "")
            if self._deletes and count % 3 == 0 and name in self.stored[beast]:
                self.stored[beast].discard(name)
                if self._send(connection, "DELETE", beast, name) == http.HTTPStatus.NO_CONTENT:
                    self.deleted[beast].add(name)
            if not self._reuse:
                connection.close()
        connection.close()

    def _send(self, connection: "_Connection", method: str, beast: str, name: str) -> int:
        """Send one request and record the result; return the status, 0 without a response."""
        began = time.monotonic()
        try:
            status, retry_after = connection.send(method, f"/{beast}", name)
        except (OSError, http.client.HTTPException) as error:
            with self._lock:
                self.unanswered[type(error).__name__] += 1
                if method == "POST" and not isinstance(error, ConnectionRefusedError):
                    self.unanswered_names.add(name)
            connection.close()
            self._stop.wait(PAUSE_S)
            return 0
        with self._lock:
            self.statuses[status] += 1
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            self.unavailable_without_retry_after += status == http.HTTPStatus.SERVICE_UNAVAILABLE and not retry_after
        if status == http.HTTPStatus.SERVICE_UNAVAILABLE:
            self._stop.wait(PAUSE_S)
        return status


class _Connection:
    """A connection to a server, opened by the first request and reopened after a close."""

    def __init__(self, server: Service) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(server.base_url).netloc, timeout=TIMEOUT_S)

    def send(self, method: str, path: str, name: str) -> tuple[int, str | None]:
        """Send a request; return the status and the header Retry-After of the response."""
        self._connection.request(method, path, json.dumps({"name": name}) if name else None, JSON if name else {})
        response = self._connection.getresponse()
        response.read()
        return response.status, response.headers["Retry-After"]

    def close(self) -> None:
        """Close the connection."""
        with suppress(OSError):
            self._connection.close()


def names_in(postgres: Postgres, beast: str, database: str | None = None) -> set[str]:
    """Return the names in one table."""
    return {name for (name,) in run(postgres, f"SELECT name FROM {beast}", database)}  # noqa: S608 - a constant
