"""The roles of Grafana and Alloy, made on a real Postgres by the scripts that compose's image runs."""

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from local.servers.postgres import Postgres
from local.state import CHECKOUT
from tests.integration.service_support import own_database, run

SCRIPTS = sorted((CHECKOUT / "postgres").glob("*.sql"))  # in the order of the image
# Roles belong to the whole server, so these passwords are kept for the run.
PASSWORDS = {"grafana": secrets.token_hex(8), "alloy": secrets.token_hex(8)}


@dataclass(frozen=True)
class Roles:
    """A database that both roles can reach."""

    postgres: Postgres
    database: str

    @property
    def superuser(self) -> str:
        """Where, and as whom, the scripts connect."""
        return f"{self.postgres.dsn.rpartition('/')[0]}/{self.database}"

    def dsn(self, role: str) -> str:
        """Where, and as whom, one of the roles connects."""
        return f"postgresql://{role}:{PASSWORDS[role]}@{self.postgres.host}:{self.postgres.port}/{self.database}"

    def connect(self, role: str) -> psycopg.Connection:
        """Connect as one of the roles."""
        return psycopg.connect(self.dsn(role))

    def make(self) -> None:
        """Run the scripts as the image does: by psql, as the superuser, with the passwords in the environment."""
        told = {f"{role.upper()}_DATABASE_PASSWORD": password for role, password in PASSWORDS.items()}
        for script in SCRIPTS:
            command = ["psql", "-X", "-v", "ON_ERROR_STOP=1", "-f", str(script), self.superuser]
            done = subprocess.run(command, env=os.environ | told, capture_output=True, text=True, check=False)  # noqa: S603
            assert done.returncode == 0, done.stderr


@contextmanager
def roles(postgres: Postgres) -> Iterator[Roles]:
    """Give a database of its own with the table unicorn and the roles; both are gone afterwards."""
    with own_database(postgres) as name:
        run(postgres, "CREATE TABLE unicorn (name text); INSERT INTO unicorn VALUES ('amber')", name)
        made = Roles(postgres, name)
        made.make()
        yield made
        run(postgres, "DROP OWNED BY grafana, alloy", name)
    run(postgres, "DROP ROLE grafana, alloy")
