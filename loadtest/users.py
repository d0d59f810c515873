"""The users: a keeper adds, reads and deletes; a browser reads pages; a breeder adds and deletes the oldest.

A person opens the page of the frontend, where one is set.
"""

import contextlib
import json
import re
import secrets
import time
from collections import deque
from datetime import UTC, datetime
from itertools import count
from typing import Any, NamedTuple

import gevent
import requests
from locust import FastHttpUser, between, constant, task

from loadtest.checks import Answer, Expectation
from loadtest.load import LoadRun
from loadtest.names import BEAST, NEXT_PAGE, next_page, random_name, user_rng
from loadtest.telemetry import Call

PAUSE_S = 1.0  # of a keeper, between two requests
PAGE, MOST_PAGES = 20, 5
MAX_KEPT = 10  # names that a breeder keeps; without a limit, tables would grow with each run
# A connection stays with one server. After so many requests, a user opens another one, so that servers that are added
# during a run get their share too.
RENEW_AFTER = 50


# The page's files, and what it knows at its start; see services/frontend/pages.py.
FILE = re.compile(r'(?:src|href)="(/static/[^"]+)"')
KNOWN = re.compile(r'id="known">(\{.*?\})</script>')
FARO_S = 2.0
# Of the largest contentful paint, in milliseconds. Source: web.dev.
GOOD_MS, POOR_MS = 2500, 4000


class Reply(NamedTuple):
    """A response: whether it was as expected, its Link header, its body, and the request's span."""

    ok: bool
    link: str | None
    text: str
    call: Call


class Visitor(FastHttpUser):
    """A user with its own random generator; each of its responses is checked."""

    abstract = True
    kind = ""
    peer = "mythical-server"
    connection_timeout = 5.0
    network_timeout = 10.0

    def on_start(self) -> None:
        """Create the random generator, the same in each run with the same seed."""
        # A worker that joins a run starts users before its init listeners have run.
        while not hasattr(self.environment, "load"):
            gevent.sleep(0.02)
        self.load: LoadRun = self.environment.load
        self.sent = count(1)
        worker = getattr(self.environment.runner, "worker_index", 0)
        self.rng = user_rng(self.load.settings.seed, self.kind, worker * 1_000_000 + next(self.load.numbers[self.kind]))

    def beast(self) -> str:
        """Return one of the beasts at random."""
        return self.rng.choice(self.load.settings.beasts)

    def name(self) -> str:
        """Return a random name."""
        return random_name(self.rng, self.load.settings.run_id)

    def add(self, beast: str, name: str) -> bool:
        """POST a name; return whether it was created."""
        return self._request("POST", f"/{beast}", self._expect("POST", 201), {"name": name}).ok

    def remove(self, beast: str, name: str) -> bool:
        """DELETE a name; return whether it was deleted."""
        return self._request("DELETE", f"/{beast}", self._expect("DELETE", 204), {"name": name}).ok

    def page(self, path: str, route: str = BEAST) -> str | None:
        """GET a page of names; return the path of the next one, or None if there is none or the request failed."""
        return next_page(self._request("GET", path, self._expect("GET", 200, names=True), None, route).link)

    def _expect(self, method: str, status: int, *, names: bool = False) -> Expectation:
        return Expectation(method, status, self.load.settings.within_ms, names)

    def _request(
        self, method: str, path: str, expected: Expectation, body: dict[str, str] | None, route: str = BEAST
    ) -> Reply:
        telemetry = self.load.telemetry
        renewal = {} if next(self.sent) % RENEW_AFTER else {"Connection": "close"}
        url = path if self.load.settings.frontend and path.startswith("http") else f"{self.host}{path}"
        with (
            telemetry.call(self.kind, method, route, url, self.peer) as call,
            self.client.request(
                method, path, name=route, json=body, headers=call.headers | renewal, catch_response=True
            ) as response,
        ):
            error = getattr(response, "error", None)
            answer = Answer(
                status=response.status_code or 0,
                took_ms=response.request_meta["response_time"],
                body=response.content or b"",
                error=type(error).__name__ if error else "",
            )
            telemetry.record(call, self.kind, route, method=method, status=answer.status, took_s=answer.took_ms / 1000)
            if wrong := self.load.judge(self.kind, call, expected, answer):
                response.failure(wrong)
            else:
                response.success()
            link, text = (response.headers or {}).get("link"), answer.body.decode(errors="replace")
            return Reply(answer.status == expected.status, link, text, call)


class Keeper(Visitor):
    """Adds a name, reads the page, deletes the name, with a second in between."""

    kind = "keeper"
    wait_time = constant(PAUSE_S)

    @task
    def cycle(self) -> None:
        """POST, GET, DELETE; a name that was not created is not deleted."""
        beast, name = self.beast(), self.name()
        with self.load.telemetry.task(self.kind):
            added = self.add(beast, name)
            gevent.sleep(PAUSE_S)
            self.page(f"/{beast}")
            if added:
                gevent.sleep(PAUSE_S)
                self.remove(beast, name)


class Browser(Visitor):
    """Reads a beast's first page and a random number of next pages, by the Link header."""

    kind = "browser"
    wait_time = between(0.5, 2)

    @task
    def browse(self) -> None:
        """GET pages of 20, one to five of them."""
        path: str | None = f"/{self.beast()}?limit={PAGE}"
        with self.load.telemetry.task(self.kind):
            for number in range(self.rng.randint(1, MOST_PAGES)):
                if path is None:
                    break
                path = self.page(path, NEXT_PAGE if number else BEAST)
                gevent.sleep(self.rng.uniform(0.1, 0.5))


class Breeder(Visitor):
    """Adds names, and deletes its oldest once there are more than ten."""

    kind = "breeder"
    wait_time = between(0.2, 1)

    def on_start(self) -> None:
        """Start without names."""
        super().on_start()
        self.own: deque[tuple[str, str]] = deque()

    @task
    def breed(self) -> None:
        """POST, and DELETE the oldest name if there are too many."""
        beast, name = self.beast(), self.name()
        with self.load.telemetry.task(self.kind):
            if self.add(beast, name):
                self.own.append((beast, name))
            if len(self.own) > MAX_KEPT:
                self.remove(*self.own.popleft())


class Person(Visitor):
    """Opens the frontend's page as a browser does, lists names, adds one and removes it, and reports by Faro.

    It runs no script: it does what the page's script does with what the page knows, and reports its own durations.
    """

    kind = "person"
    peer = "mythical-frontend"
    wait_time = between(2, 5)

    @task
    def visit(self) -> None:
        """GET the page, its files and a list of names; POST and DELETE a name."""
        beast, name, frontend = self.beast(), self.name(), self.load.settings.frontend
        with self.load.telemetry.task(self.kind):
            start = time.perf_counter()
            page = self._request("GET", f"{frontend}/", self._expect("GET", 200), None, "/")
            took_ms = {"ttfb": _since_ms(start)}
            known = KNOWN.search(page.text)
            if not known:
                return
            for path in FILE.findall(page.text):
                self._request("GET", f"{frontend}{path}", self._expect("GET", 200), None, "/static/<name>")
            took_ms["fcp"] = _since_ms(start)
            knows, api, route = json.loads(known[1]), f"{frontend}/api/{beast}", "/api/<beast>"
            listed = time.perf_counter()
            names = self._request("GET", f"{api}?limit={PAGE}", self._expect("GET", 200, names=True), None, route)
            if knows["breaks"]:
                self._report(knows, beast, names.call, {}, "TypeError: Cannot destructure property 'name' of 'null'")
                return
            gevent.sleep(knows["busy_ms"] / 1000)
            if names.ok:
                took_ms["names_shown"] = _since_ms(listed)
            self._report(knows, beast, names.call, took_ms, "" if names.ok else "Error: the names could not be listed")
            if self._request("POST", api, self._expect("POST", 201), {"name": name}, route).ok:
                self._request("DELETE", api, self._expect("DELETE", 204), {"name": name}, route)

    def _report(self, knows: dict[str, Any], beast: str, call: Call, took_ms: dict[str, float], error: str) -> None:
        """Send a payload of Faro with durations and an error, as the page's script would; drop it in an outage."""
        if not knows["faro"]:
            return
        ids = call.span.get_span_context()
        trace = {"trace_id": f"{ids.trace_id:032x}", "span_id": f"{ids.span_id:016x}"} if ids.is_valid else {}
        item = {"timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"), "trace": trace}
        kind, _, text = error.partition(": ")
        payload = {
            "meta": {
                "app": knows["faro"]["app"],
                "session": {"id": secrets.token_hex(5)},
                "page": {"url": f"{self.load.settings.frontend}/#{beast}"},
                "browser": {"name": "Locust", "mobile": False},
                "view": {"name": beast},
            },
            "events": [{**item, "name": "session_start", "domain": "browser"}],
            "measurements": [
                {
                    **item,
                    "type": "names_shown" if what == "names_shown" else "web-vitals",
                    "values": {what: ms},
                    "context": {"rating": _rating(ms)},
                }
                for what, ms in took_ms.items()
            ],
            "exceptions": [{**item, "type": kind, "value": text}] if error else [],
        }
        with contextlib.suppress(requests.RequestException):
            requests.post(self.load.settings.faro or knows["faro"]["url"], json=payload, timeout=FARO_S)


def _since_ms(start: float) -> float:
    return (time.perf_counter() - start) * 1000


def _rating(ms: float) -> str:
    if ms <= GOOD_MS:
        return "good"
    return "needs-improvement" if ms <= POOR_MS else "poor"


ALL: tuple[type[Visitor], ...] = (Keeper, Browser, Breeder, Person)
