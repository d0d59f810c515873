"""A private Postgres: a child process with its own data folder and port, on the loopback address only."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Self

import psycopg

from common.core.env import remove_libpq_variables
from local.errors import LocalError
from local.ports import LOOPBACK, check_free, free_port
from local.processes.process import GRACE_S, Process
from local.processes.record import command_line
from local.servers.binaries import postgres_binary
from local.state import CHECKOUT, server_folder, server_user

START_S = 60.0

# Small, for a laptop; durability stays as Postgres has it, so the failure tests show what a real server does.
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "min_wal_size": "32MB",
    "max_wal_size": "256MB",
    "logging_collector": "off",
}
# What Postgres measures and logs about itself, as with Docker.
OBSERVED = CHECKOUT / "postgres/mythical.conf"
SETTING = re.compile(r"^([a-z_.]+) = '?(.*?)'?$", re.MULTILINE)
LIBRARIES = "shared_preload_libraries"


class Postgres:
    """A server that belongs to this run: start, stop, kill, and start again on the same data and port.

    `folder` holds its data and `port` is where it listens; 0 picks a free port once, at construction.
    As root it runs as `postgres` or `nobody`, because Postgres does not run as root.
    Start it from the main thread: then it ends even if this process is killed with SIGKILL.
    """

    name = "postgres"
    host = LOOPBACK
    user = "postgres"
    password = "mythical"  # noqa: S105 - the suite's public default, behind loopback
    database = "postgres"

    def __init__(self, folder: Path, port: int = 0, log: Path | None = None) -> None:
        # This process and its children connect to this server, for which the variables of the shell are not meant.
        remove_libpq_variables(os.environ)
        self.port = port or free_port()
        self._initdb, postgres = postgres_binary("initdb"), postgres_binary("postgres")
        self._os_user = server_user("postgres", "nobody")
        self._folder = folder
        # By version: a newer Postgres cannot read the files of an older one, and starts with an empty folder.
        self._data = folder / f"data-{_major_version(postgres)}"
        self._process = Process(
            self.name,
            [
                str(postgres),
                "-D",
                str(self._data),
                "-p",
                str(self.port),
                *(part for key, value in (SETTINGS | observed(postgres)).items() for part in ("-c", f"{key}={value}")),
            ],
            log=log or folder / "postgres.log",
            record=folder.with_name(f"{folder.name}.pid"),
            mark=str(self._data),
            environ=_environ(),
            folder=folder,
            user=self._os_user,
            stop_signal=signal.SIGINT,  # "fast": ends open sessions; SIGTERM would wait for them forever
        )

    @property
    def dsn(self) -> str:
        """The connection string of its database, for psycopg."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{self.database}"

    @property
    def process(self) -> Process:
        """The child process: whether it runs, its pid, its log's tail."""
        return self._process

    def start(self) -> Self:
        """Start it and return when it answers queries. Raises LocalError, with its log's tail, if it does not."""
        self.launch()
        self._process.wait_ready(self.is_ready, START_S)
        return self

    def launch(self) -> None:
        """Start it and return immediately, or after about a second the first time, when the data folder is made."""
        server_folder(self._folder, self._os_user)
        if not self._data.exists():
            self._initialise()
        self._process.end_orphan()
        self._forget_stale_lock()
        check_free(self.port, self.name)
        self._process.launch()

    def _forget_stale_lock(self) -> None:
        """Remove the lock of a server that was killed, whose pid another process may have by now.

        Postgres only checks whether a process with that pid runs, and would not start.
        """
        lock = self._data / "postmaster.pid"
        try:
            first, *_ = lock.read_text(encoding="utf-8").splitlines() or [""]
        except FileNotFoundError:
            return
        if not first.isdecimal() or str(self._data) not in command_line(int(first)):
            lock.unlink(missing_ok=True)

    def is_ready(self) -> bool:
        """Return whether it answers a query now."""
        try:
            with psycopg.connect(self.dsn, connect_timeout=2) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return self._process.running

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Stop it gracefully; open sessions are ended."""
        self._process.stop(grace_s)

    def kill(self) -> None:
        """End the whole server with SIGKILL, as a power cut would."""
        self._process.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _initialise(self) -> None:
        # Created under another name and then renamed: the folder of an interrupted first start is not used as data.
        making = self._folder / "making"
        secret = self._folder / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)  # its folder is closed to others
        command = ["--pgdata", str(making), "--username", self.user, "--auth", "scram-sha-256", "--pwfile", str(secret)]
        options = ["--no-sync", "--encoding", "UTF8", "--locale", "C", "--no-instructions"]
        shutil.rmtree(making, ignore_errors=True)
        made = subprocess.run(  # noqa: S603 - our own arguments
            [self._initdb, *command, *options],
            capture_output=True,
            text=True,
            check=False,
            cwd=self._folder,
            env=_environ(),
            user=self._os_user,
        )
        if made.returncode:
            raise LocalError(f"Postgres could not create its data folder {making}", (made.stdout + made.stderr).strip())
        secret.unlink()
        making.rename(self._data)


def observed(postgres: Path) -> dict[str, str]:
    """Return the settings of postgres/mythical.conf, without the libraries if this Postgres does not have them.

    It would not start. Some distributions have them in a package of their own.
    """
    settings = dict(SETTING.findall(OBSERVED.read_text(encoding="utf-8")))
    del settings["include_if_exists"]
    config = postgres.with_name("pg_config")
    if config.exists():
        folder = subprocess.run([config, "--pkglibdir"], capture_output=True, text=True, check=True).stdout  # noqa: S603
        if all([*Path(folder.strip()).glob(f"{name}.*")] for name in settings[LIBRARIES].split(",")):
            return settings
    return {name: value for name, value in settings.items() if name != LIBRARIES}


def _major_version(postgres: Path) -> str:
    # "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
    answer = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603
    return answer.split(")")[1].split()[0].split(".")[0]


def _environ() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}
