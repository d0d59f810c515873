"""A private RabbitMQ: a child process with its own data folder and ports, on the loopback address only."""

import os
import shutil
import socket
from pathlib import Path
from typing import Self

from local.ports import LOOPBACK, answers, check_free, free_port
from local.processes.process import GRACE_S, Process
from local.servers.binaries import epmd_binary, rabbitmq_binary
from local.state import server_folder, server_user

START_S = 90.0

# The client's first eight octets, and the method the server must answer with (AMQP 0-9-1, sections 4.2.2 and 1.4):
# frame type 1 (method), channel 0, then after the length class 10 (connection) method 10 (start).
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
CONNECTION_START = (10, 10)


class RabbitMQ:
    """A broker that belongs to this run: start, stop, kill, and start again on the same data and port.

    `folder` holds its data and `port` is where it serves AMQP; 0 picks a free port once, at construction.
    Start it from the main thread: then it ends even if this process is killed with SIGKILL.
    """

    name = "rabbitmq"
    host = LOOPBACK
    user = "guest"
    password = "guest"  # noqa: S105 - RabbitMQ's own default, which it accepts from the loopback address only
    virtual_host = "/"

    def __init__(self, folder: Path, port: int = 0, log: Path | None = None) -> None:
        self.port = port or free_port()
        self._folder = folder
        self._os_user = server_user("rabbitmq", "nobody")
        self._distribution_port, self._mapper_port = free_port(), free_port()
        log = log or folder / "rabbitmq.log"
        # The broker needs Erlang's port mapper and would leave one running as a daemon; this one is a child process.
        mapper = [str(epmd_binary()), "-address", LOOPBACK, "-port", str(self._mapper_port)]
        self._mapper = self._child("epmd", mapper, log, mark="epmd")
        self._process = self._child(self.name, [str(rabbitmq_binary())], log, mark=str(folder))

    @property
    def url(self) -> str:
        """The address for AMQP clients; %2F is the virtual host "/"."""
        return f"amqp://{self.user}:{self.password}@{self.host}:{self.port}/%2F"

    @property
    def environ(self) -> dict[str, str]:
        """The environment it runs in; rabbitmqctl, given the same, finds it."""
        # RABBITMQ_* and ERL_* of the environment are meant for another broker.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("RABBITMQ_", "ERL_"))}
        return inherited | {
            # The Erlang cookie lies in HOME; rabbitmqctl needs the same one.
            "HOME": str(self._folder),
            "RABBITMQ_NODENAME": "mythical@localhost",
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_CRASH_DUMP_SECONDS": "0",  # no dump of hundreds of MB when it is killed
            # Makes the start script exec the Erlang machine, so that pid and signals are those of the broker.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    @property
    def process(self) -> Process:
        """The child process: whether it runs, its pid, its log's tail."""
        return self._process

    def forget(self) -> None:
        """Remove its queues and messages; call it before the start."""
        self._process.end_orphan()
        shutil.rmtree(self._folder / "data", ignore_errors=True)

    def start(self) -> Self:
        """Start it and return when it serves AMQP. Raises LocalError, with its log's tail, if it does not."""
        self.launch()
        self._process.wait_ready(self.is_ready, START_S)
        return self

    def launch(self) -> None:
        """Start it and return immediately."""
        server_folder(self._folder, self._os_user)
        self._write_configuration()
        self._process.end_orphan()
        check_free(self.port, self.name)
        if not self._mapper.running:
            self._mapper.launch()
            self._mapper.wait_ready(lambda: answers(self._mapper_port), timeout_s=10)
        self._process.launch()

    def is_ready(self) -> bool:
        """Return whether it answers the AMQP handshake now; its listener opens last."""
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as connection:
                connection.sendall(PROTOCOL_HEADER)
                head = connection.recv(11)
        except OSError:
            return False
        method = (int.from_bytes(head[7:9]), int.from_bytes(head[9:11]))
        return method == CONNECTION_START and self._process.running

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Stop it gracefully: queues and connections are closed."""
        self._process.stop(grace_s)
        self._mapper.stop(grace_s)

    def kill(self) -> None:
        """End the whole broker with SIGKILL, as a power cut would."""
        self._process.kill()
        self._mapper.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _child(self, name: str, arguments: list[str], log: Path, mark: str) -> Process:
        return Process(
            name,
            arguments,
            log=log,
            record=self._folder.with_name(f"{self._folder.name}.{name}.pid"),
            mark=mark,
            environ=self.environ,
            folder=self._folder,
            user=self._os_user,
        )

    def _write_configuration(self) -> None:
        (self._folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {LOOPBACK}:{self.port}\n"
            "log.console = true\n"
            "log.file = false\n"
            # The default is relative to the memory of the machine: without this, a small disk blocks every publisher.
            "disk_free_limit.absolute = 50MB\n"
        )
        (self._folder / "enabled_plugins").write_text("[].\n")
        for file in ("rabbitmq.conf", "enabled_plugins"):
            (self._folder / file).chmod(0o644)
