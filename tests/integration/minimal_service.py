"""A service with only a WSGI application, to test the web server: python -m tests.integration.minimal_service."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from wsgiref.types import StartResponse, WSGIEnvironment

from common.core.env import Env
from common.web.server import Address, ServiceRuntime, address, run_service

SLOW_S = 0.5


@dataclass(frozen=True)
class Config:
    """The settings."""

    address: Address


def load(env: Env) -> Config:
    """Read the settings."""
    return Config(address(env, 4000))


def start(_: Config, stop_event: threading.Event) -> ServiceRuntime:
    """Start the application; with STOP_AT_START in the environment, the service receives SIGTERM meanwhile."""
    if "STOP_AT_START" in os.environ:
        received: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
        os.kill(os.getppid(), signal.SIGTERM)
        while not received:
            time.sleep(0.01)
    app = App()
    return ServiceRuntime(app, fails, lambda: say(f"closed, stop={stop_event.is_set()}, {app.answered}"))


def say(text: str) -> None:
    """Print a line."""
    print(text, flush=True)  # noqa: T201 - the test reads it


def fails() -> None:
    """Raise an error, as a failing shutdown hook."""
    raise ValueError("injected")


class App:
    """Answers at once, slowly or with an exception, depending on the path."""

    def __init__(self) -> None:
        self.answered = 0

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Respond to a request."""
        path = environ["PATH_INFO"]
        if path == "/raise":
            raise ValueError("injected")
        if path == "/exit":
            sys.exit("injected")
        if path == "/status":
            start_response("9999 injected", [])
        if path == "/raise-in-log":
            logging.getLogger("common.web.server").addFilter(_broken)
            raise ValueError("injected")
        if path == "/slow":
            say("slow request")
            time.sleep(SLOW_S)
        start_response("200 OK", [("Content-Length", "2")])
        self.answered += 1
        return [b"ok"]


def _broken(_: logging.LogRecord) -> bool:
    raise TypeError("injected into the log")


if __name__ == "__main__":
    run_service(load, "tests.integration.minimal_service:start")
