"""A program of the suite as the demo runs it: a process and the address that tells when it is ready."""

from typing import Protocol

from local.processes.process import GRACE_S, Process
from tools.query import is_up


class Unit(Protocol):
    """What the demo starts, watches and stops: a Program, a Postgres or a RabbitMQ."""

    @property
    def name(self) -> str:
        """The word it is called by in the table and in its log's file name."""

    @property
    def process(self) -> Process:
        """Its process."""

    def launch(self) -> None:
        """Start it and return without waiting."""

    def is_ready(self) -> bool:
        """Tell whether it does its work now."""

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Stop it in good order, or kill it after `grace_s` seconds."""


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
        """Start it and return at once."""
        self.process.launch()

    def is_ready(self) -> bool:
        """Tell whether it answers now, with no complaint."""
        return is_up(self.ready_url)

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Stop it in good order, or kill it after `grace_s` seconds."""
        self.process.stop(grace_s)
