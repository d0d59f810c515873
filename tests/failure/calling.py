"""Callers of the server that write down what each answer promised, to be held against the tables afterwards."""

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
PAUSE_S = 0.05  # of a caller that was refused, or found nobody


class Callers:
    """Threads that add, read and sometimes delete names, one request after the other, until told to stop.

    `kept` names were acknowledged with 201 and nobody was asked to delete them; `gone` ones were acknowledged twice,
    with 201 and 204; of any other name nothing is promised.
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
        self.kept: dict[str, set[str]] = {beast: set() for beast in beasts}
        self.gone: dict[str, set[str]] = {beast: set() for beast in beasts}
        self.unanswered: Counter[str] = Counter()
        self.unanswered_names: set[str] = set()
        self.refused_without_hint = 0
        self.slowest_s = 0.0
        self._mark = secrets.token_hex(3)  # no name twice, whoever called before
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
    def answered(self) -> int:
        """How many answers came, of any kind."""
        return self.statuses.total()

    def broken_promises(self, postgres: Postgres, database: str | None = None) -> list[str]:
        """The names that should be in the tables and are not, or the other way around."""
        broken: list[str] = []
        for beast in self._beasts:
            there = names_in(postgres, beast, database)
            broken += [f"lost: {beast} {name}" for name in self.kept[beast] - there]
            broken += [f"back from the dead: {beast} {name}" for name in self.gone[beast] & there]
        return broken

    def names_in(self, postgres: Postgres, database: str | None = None) -> set[str]:
        """All names in the tables."""
        return {name for beast in self._beasts for name in names_in(postgres, beast, database)}

    def _call(self, server: Service, caller: str) -> None:
        line = _Line(server)
        count = 0
        while not self._stop.is_set():
            count += 1
            beast, name = self._beasts[count % len(self._beasts)], f"{self._mark} {caller} {count}"
            if self._ask(line, "POST", beast, name) == http.HTTPStatus.CREATED:
                self.kept[beast].add(name)
            self._ask(line, "GET", beast, "")
            if self._deletes and count % 3 == 0 and name in self.kept[beast]:
                self.kept[beast].discard(name)
                if self._ask(line, "DELETE", beast, name) == http.HTTPStatus.NO_CONTENT:
                    self.gone[beast].add(name)
            if not self._reuse:
                line.close()
        line.close()

    def _ask(self, line: "_Line", method: str, beast: str, name: str) -> int:
        """Make one request and note what came of it; 0 where there was no answer."""
        began = time.monotonic()
        try:
            status, hint = line.ask(method, f"/{beast}", name)
        except (OSError, http.client.HTTPException) as fault:
            with self._lock:
                self.unanswered[type(fault).__name__] += 1
                if method == "POST" and not isinstance(fault, ConnectionRefusedError):
                    self.unanswered_names.add(name)
            line.close()
            self._stop.wait(PAUSE_S)
            return 0
        with self._lock:
            self.statuses[status] += 1
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            self.refused_without_hint += status == http.HTTPStatus.SERVICE_UNAVAILABLE and not hint
        if status == http.HTTPStatus.SERVICE_UNAVAILABLE:
            self._stop.wait(PAUSE_S)
        return status


class _Line:
    """A connection to a server, opened when it is needed."""

    def __init__(self, server: Service) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(server.base_url).netloc, timeout=TIMEOUT_S)

    def ask(self, method: str, path: str, name: str) -> tuple[int, str | None]:
        """Make a request; give its status and Retry-After."""
        self._connection.request(method, path, json.dumps({"name": name}) if name else None, JSON if name else {})
        answer = self._connection.getresponse()
        answer.read()
        return answer.status, answer.headers["Retry-After"]

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self._connection.close()


def names_in(postgres: Postgres, beast: str, database: str | None = None) -> set[str]:
    """The names in one table."""
    return {name for (name,) in run(postgres, f"SELECT name FROM {beast}", database)}  # noqa: S608 - a constant
