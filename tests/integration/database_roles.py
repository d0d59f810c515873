"""The roles of Grafana and Alloy, created on a real Postgres by the scripts that compose's image runs."""

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
# Roles belong to the whole server, so the passwords are the same for the whole run.
PASSWORDS = {"grafana": secrets.token_hex(8), "alloy": secrets.token_hex(8)}


@dataclass(frozen=True)
class Roles:
    """A database that both roles can access."""

    postgres: Postgres
    database: str

    @property
    def superuser(self) -> str:
        """The connection string of the scripts."""
        return f"{self.postgres.dsn.rpartition('/')[0]}/{self.database}"

    def dsn(self, role: str) -> str:
        """Return the connection string of a role."""
        return f"postgresql://{role}:{PASSWORDS[role]}@{self.postgres.host}:{self.postgres.port}/{self.database}"

    def connect(self, role: str) -> psycopg.Connection:
        """Return a connection with a role."""
        return psycopg.connect(self.dsn(role))

    def create(self) -> None:
        """Run the scripts as the image does: with psql, as the superuser, with the passwords in the environment."""
        passwords = {f"{role.upper()}_DATABASE_PASSWORD": password for role, password in PASSWORDS.items()}
        for script in SCRIPTS:
            command = ["psql", "-X", "-v", "ON_ERROR_STOP=1", "-f", str(script), self.superuser]
            result = subprocess.run(command, env=os.environ | passwords, capture_output=True, text=True, check=False)  # noqa: S603
            assert result.returncode == 0, result.stderr


@contextmanager
def roles(postgres: Postgres) -> Iterator[Roles]:
    """Create a database with the table unicorn and the roles; drop both at the end."""
    with own_database(postgres) as name:
        run(postgres, "CREATE TABLE unicorn (name text); INSERT INTO unicorn VALUES ('amber')", name)
        created = Roles(postgres, name)
        created.create()
        yield created
        run(postgres, "DROP OWNED BY grafana, alloy", name)
    run(postgres, "DROP ROLE grafana, alloy")
