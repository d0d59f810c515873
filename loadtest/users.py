"""The users: a keeper adds, looks and removes; a browser turns pages; a breeder adds, and removes what gets old."""

from collections import deque

import gevent
from locust import FastHttpUser, between, constant, task

from loadtest.checks import Answer, Expectation
from loadtest.load import Load
from loadtest.names import BEAST, NEXT_PAGE, dice_of, random_name
from loadtest.paging import next_page

PAUSE_S = 1.0  # of a keeper, between two requests
PAGE, MOST_PAGES = 20, 5
KEPT = 10  # names that a breeder leaves standing: without an end, tables would grow with each run


class Visitor(FastHttpUser):
    """A user: chooses by dice of its own, asks, and has each answer checked."""

    abstract = True
    kind = ""
    connection_timeout = 5.0
    network_timeout = 10.0

    def on_start(self) -> None:
        """Get the dice, the same ones in each run with the same seed."""
        # A worker that joins a run is told to start users before Locust has let it set up anything.
        while not hasattr(self.environment, "load"):
            gevent.sleep(0.02)
        self.load: Load = self.environment.load
        worker = getattr(self.environment.runner, "worker_index", 0)
        self.dice = dice_of(self.load.settings.seed, self.kind, worker * 1_000_000 + next(self.load.numbers[self.kind]))

    def beast(self) -> str:
        """Choose one of the beasts."""
        return self.dice.choice(self.load.settings.beasts)

    def name(self) -> str:
        """Make up a name."""
        return random_name(self.dice, self.load.settings.run_id)

    def add(self, beast: str, name: str) -> bool:
        """POST a name; tell whether it was taken."""
        return self._ask("POST", f"/{beast}", self._expect("POST", 201), {"name": name})[0]

    def remove(self, beast: str, name: str) -> bool:
        """DELETE a name; tell whether it is gone."""
        return self._ask("DELETE", f"/{beast}", self._expect("DELETE", 204), {"name": name})[0]

    def page(self, path: str, route: str = BEAST) -> str | None:
        """GET a page of names; give the path of the next one, or None if there is none or it went wrong."""
        _, link = self._ask("GET", path, self._expect("GET", 200, names=True), None, route)
        return next_page(link)

    def _expect(self, method: str, status: int, *, names: bool = False) -> Expectation:
        return Expectation(method, status, self.load.settings.within_ms, names)

    def _ask(
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
            telemetry.note(call, self.kind, route, method=method, status=answer.status, took_s=answer.took_ms / 1000)
            if wrong := self.load.judge(self.kind, call, expected, answer):
                response.failure(wrong)
            else:
                response.success()
            return answer.status == expected.status, (response.headers or {}).get("link")


class Keeper(Visitor):
    """The cycle: adds a name, looks at the page, removes the name; a second between."""

    kind = "keeper"
    wait_time = constant(PAUSE_S)

    @task
    def cycle(self) -> None:
        """POST, GET, DELETE; a name that was not taken is not removed."""
        beast, name = self.beast(), self.name()
        with self.load.telemetry.task(self.kind):
            added = self.add(beast, name)
            gevent.sleep(PAUSE_S)
            self.page(f"/{beast}")
            if added:
                gevent.sleep(PAUSE_S)
                self.remove(beast, name)


class Browser(Visitor):
    """Reads a beast's page and turns to the next ones, as far as its dice or the Link header let it."""

    kind = "browser"
    wait_time = between(0.5, 2)

    @task
    def browse(self) -> None:
        """GET pages of 20, one to five of them."""
        path: str | None = f"/{self.beast()}?limit={PAGE}"
        with self.load.telemetry.task(self.kind):
            for number in range(self.dice.randint(1, MOST_PAGES)):
                if path is None:
                    break
                path = self.page(path, NEXT_PAGE if number else BEAST)
                gevent.sleep(self.dice.uniform(0.1, 0.5))


class Breeder(Visitor):
    """Writes: adds names, and removes the oldest of its own once there are ten."""

    kind = "breeder"
    wait_time = between(0.2, 1)

    def on_start(self) -> None:
        """Begin with no names."""
        super().on_start()
        self.own: deque[tuple[str, str]] = deque()

    @task
    def breed(self) -> None:
        """POST, and DELETE where there are too many."""
        beast, name = self.beast(), self.name()
        with self.load.telemetry.task(self.kind):
            if self.add(beast, name):
                self.own.append((beast, name))
            if len(self.own) > KEPT:
                self.remove(*self.own.popleft())


ALL: tuple[type[Visitor], ...] = (Keeper, Browser, Breeder)
