"""A program of the suite as the demo runs it: a process and the URL that shows whether it is ready."""

from typing import Protocol

from local.processes.process import GRACE_S, Process
from tools.query import is_up


class Unit(Protocol):
    """What the demo starts, watches and stops: a Program, a Postgres or a RabbitMQ."""

    @property
    def name(self) -> str:
        """Its name in the table and in the file name of its log."""

    @property
    def process(self) -> Process:
        """Its process."""

    def launch(self) -> None:
        """Start it and return immediately."""

    def is_ready(self) -> bool:
        """Return whether it works now."""

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Stop it gracefully, or kill it after `grace_s` seconds."""


class Program:
    """A process that is ready once GET `ready_url` answers with a status below 400."""

    def __init__(self, process: Process, ready_url: str) -> None:
        self.process = process
        self.ready_url = ready_url

    @property
    def name(self) -> str:
        """The name of its process."""
        return self.process.name

    def launch(self) -> None:
        """Start it and return immediately."""
        self.process.launch()

    def is_ready(self) -> bool:
        """Return whether it answers now with a status below 400."""
        return is_up(self.ready_url)

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Stop it gracefully, or kill it after `grace_s` seconds."""
        self.process.stop(grace_s)
