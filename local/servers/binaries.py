"""Finds the programs of Postgres and RabbitMQ on this machine, and says what to install if they are missing.

`python -m local.servers.binaries` prints the names of the missing ones, for scripts/setup.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from common.core.cli import replace_unprintable
from local.errors import LocalError

# Debian keeps the servers off the PATH; Homebrew keeps versioned formulae off it. A later version sorts first.
POSTGRES_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/pgsql-*/bin",
)
# The first is the server itself: Debian's wrapper requires the system-wide user and folders.
RABBITMQ_FOLDERS = (
    "/usr/lib/rabbitmq/bin",
    "/opt/homebrew/opt/rabbitmq/sbin",
    "/usr/local/opt/rabbitmq/sbin",
    "/opt/rabbitmq/sbin",
)


def postgres_binary(name: str) -> Path:
    """Return the path of Postgres's program `name` (initdb, postgres). Raises LocalError if there is none."""
    found = _find(name, POSTGRES_FOLDERS)
    if found is None:
        raise LocalError(
            f"Postgres ({name}) is not installed: `apt-get install postgresql` or `brew install postgresql@17`, "
            "or set MYTHICAL_DATABASE_HOST to an existing server"
        )
    return found


def rabbitmq_binary() -> Path:
    """Return the path of the program rabbitmq-server. Raises LocalError if there is none."""
    found = _find("rabbitmq-server", RABBITMQ_FOLDERS)
    if found is None:
        raise LocalError(
            "RabbitMQ is not installed: `apt-get install rabbitmq-server` or `brew install rabbitmq`, "
            "or set MYTHICAL_QUEUE_HOST to an existing server"
        )
    return found


def epmd_binary() -> Path:
    """Return the path of epmd, Erlang's port mapper. Raises LocalError if there is none."""
    found = _find("epmd", ("/opt/homebrew/opt/erlang/bin", "/usr/local/opt/erlang/bin", "/usr/lib/erlang/bin"))
    if found is None:
        raise LocalError("epmd, a part of Erlang, is not on the PATH; install it with RabbitMQ's package")
    return found


def missing() -> list[str]:
    """Return which of "postgresql" and "rabbitmq-server" (Debian's package names) this machine lacks."""
    wanted: dict[str, Callable[[], Path]] = {
        "postgresql": lambda: postgres_binary("initdb"),
        "rabbitmq-server": rabbitmq_binary,
    }
    return [package for package, find in wanted.items() if not _succeeds(find)]


def _succeeds(find: Callable[[], Path]) -> bool:
    try:
        find()
    except LocalError:
        return False
    return True


def _find(name: str, folders: Sequence[str]) -> Path | None:
    for pattern in folders:
        anchor = Path(pattern)
        for folder in sorted(Path("/").glob(str(anchor.relative_to("/"))), key=_version, reverse=True):
            if os.access(folder / name, os.X_OK):
                return folder / name
    on_path = shutil.which(name)
    return Path(on_path) if on_path else None


def _version(folder: Path) -> list[int]:
    return [int(part) for part in "".join(c if c.isdigit() else " " for c in str(folder)).split()]


if __name__ == "__main__":
    replace_unprintable()
    print("\n".join(missing()))  # noqa: T201 - this is its answer
