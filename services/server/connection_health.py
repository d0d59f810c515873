"""Whether the database can be reached, so that nobody waits for a connection while it cannot."""

from typing import Any, Self

import psycopg

Row = tuple[Any, ...]


class ConnectionHealth:
    """`lost` from an attempt to connect that failed until one that succeeds, or a statement that does."""

    def __init__(self) -> None:
        self.is_down = False

    def connection_class(self) -> type[psycopg.Connection[Row]]:
        """Give the class of connections that note how each attempt ends; the pool attempts in threads of its own."""
        health = self

        class Noting(psycopg.Connection[Row]):
            @classmethod
            def connect(cls, *arguments: Any, **more: Any) -> Self:
                try:
                    made = super().connect(*arguments, **more)
                except psycopg.OperationalError:
                    health.is_down = True
                    raise
                health.is_down = False
                return made

        return Noting
