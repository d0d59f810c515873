"""The users: a keeper adds, reads and deletes; a browser reads pages; a breeder adds and deletes the oldest."""

from collections import deque

import gevent
from locust import FastHttpUser, between, constant, task

from loadtest.checks import Answer, Expectation
from loadtest.load import LoadRun
from loadtest.names import BEAST, NEXT_PAGE, next_page, random_name, user_rng

PAUSE_S = 1.0  # of a keeper, between two requests
PAGE, MOST_PAGES = 20, 5
MAX_KEPT = 10  # names that a breeder keeps; without a limit, tables would grow with each run


class Visitor(FastHttpUser):
    """A user with its own random generator; each of its responses is checked."""

    abstract = True
    kind = ""
    connection_timeout = 5.0
    network_timeout = 10.0

    def on_start(self) -> None:
        """Create the random generator, the same in each run with the same seed."""
        # A worker that joins a run starts users before its init listeners have run.
        while not hasattr(self.environment, "load"):
            gevent.sleep(0.02)
        self.load: LoadRun = self.environment.load
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
        return self._request("POST", f"/{beast}", self._expect("POST", 201), {"name": name})[0]

    def remove(self, beast: str, name: str) -> bool:
        """DELETE a name; return whether it was deleted."""
        return self._request("DELETE", f"/{beast}", self._expect("DELETE", 204), {"name": name})[0]

    def page(self, path: str, route: str = BEAST) -> str | None:
        """GET a page of names; return the path of the next one, or None if there is none or the request failed."""
        _, link = self._request("GET", path, self._expect("GET", 200, names=True), None, route)
        return next_page(link)

    def _expect(self, method: str, status: int, *, names: bool = False) -> Expectation:
        return Expectation(method, status, self.load.settings.within_ms, names)

    def _request(
        self, method: str, path: str, expected: Expectation, body: dict[str, str] | None, route: str = BEAST
    ) -> tuple[bool, str | None]:
        telemetry = self.load.telemetry
        with (
            telemetry.call(self.kind, method, route, f"{self.host}{path}") as call,
            self.client.request(
                method, path, name=route, json=body, headers=call.headers, catch_response=True
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
            return answer.status == expected.status, (response.headers or {}).get("link")


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


ALL: tuple[type[Visitor], ...] = (Keeper, Browser, Breeder)
