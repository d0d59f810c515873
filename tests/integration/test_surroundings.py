"""The commands of the Makefile in environments of real users' shells and machines: a table with a row for each.

In each row every command works, or exits with a line that has cause and remedy. No process is left running.
"""

import fcntl
import os
import pty
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

from local.ports import LOOPBACK, free_port
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from local.state import CHECKOUT
from tests.integration.conftest import module_process
from tests.integration.demo_run import STOPPED_S, DemoRun
from tests.integration.running import eventually
from tests.integration.service_support import ask, broker_settings, database_settings, own
from tests.seams.tree import ROOT, committed
from tools.query import is_up

COMMAND_S = 240.0  # of which the benchmark of messages takes 20 s on an idle machine
COMPLETE_S = 180.0  # 15 s on an idle machine, of which a profile takes ten
DOCTOR_WAIT_S = 30  # while it waits, it uses less CPU time than a new doctor for each look
NOWHERE = f"http://{LOOPBACK}:9"
PROXIES = [variable for name in ("http_proxy", "https_proxy", "all_proxy") for variable in (name, name.upper())]
FOREIGN = {
    "PGHOST": "db.example.org",
    "PGHOSTADDR": "10.0.0.1",
    "PGPORT": "1",
    "PGSERVICE": "none",
    "PGSSLMODE": "verify-full",
    "PGOPTIONS": "-c nonsense=1",
    "PGCLIENTENCODING": "LATIN1",
    "AMQP_URL": "amqp://mq.example.org",
    "RABBITMQ_NODENAME": "another",
    "RABBITMQ_CONFIG_FILE": "/missing",
    "ERL_FLAGS": "-nonsense",
    "FLASK_APP": "another",
    "FLASK_DEBUG": "1",
    "GRANIAN_PORT": "1",
    "GRANIAN_WORKERS": "7",
    "GRANIAN_INTERFACE": "asgi",
    "LOCUST_LOCUSTFILE": "/missing",
    "LOCUST_LOGLEVEL": "NONSENSE",
    "LOCUST_EXPECT_WORKERS": "3",
    "OTEL_PYTHON_METER_PROVIDER": "nonsense",
    "OTEL_PYTHON_TRACER_PROVIDER": "nonsense",
    "OTEL_SERVICE_NAME": "another",
    "OTEL_RESOURCE_ATTRIBUTES": "service.name=another,team=mine",
    "REQUESTS_CA_BUNDLE": "/missing",
    "SSL_CERT_FILE": "/missing",
    "GRPC_VERBOSITY": "nonsense",
    "GRPC_TRACE": "nonsense",
    "GRPC_ENABLE_FORK_SUPPORT": "nonsense",
    "GRPC_DNS_RESOLVER": "nonsense",
}
PYTHON_VARIABLES = {
    "PYTHONHOME": "/missing",
    "PYTHONPATH": "/missing",
    "PYTHONSTARTUP": "/missing",
    "PYTHONSAFEPATH": "1",
    "PYTHONHASHSEED": "nonsense",
    "PYTHONMALLOC": "nonsense",
    "PYTHONINSPECT": "1",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUTF8": "0",
    "PYTHONIOENCODING": "ascii",
}
DOCTOR, WORKSHOP, LOAD, GATE = "make doctor", "make workshop", "make load", "make load-gate"
BENCH = ".venv/bin/python -m bench --only messages --messages 50"
GATE_FILE = "[run]\nusers = 1\nrate = 1\ntime = 1\n[most]\np95_ms = 5000\nerror_share = 1\n[least]\nrequests = 0\n"
IPV6 = "ip link set lo up; sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.lo.disable_ipv6=0"
NO_IPV6 = "ip link set lo up; sysctl -qw net.ipv6.conf.all.disable_ipv6=1"


PASSED = "All checks passed.\n\nstatus 0"
WITHOUT_DOCKER = "The suite runs without Docker."


@dataclass(frozen=True)
class Row:
    """A surrounding: variables, and shell code that runs before each command.

    `commands` run while the demo runs, after the doctor, which must say `doctor`, or that all checks passed. With
    `rejected`, the demo ends with a line that has it. `own` starts separate servers in the surrounding, `network`
    a network without other machines, and `columns` a terminal of this width. `root` needs root.
    """

    environ: dict[str, str] = field(default_factory=dict)
    before: str = ""
    commands: tuple[str, ...] = ()
    doctor: str = PASSED
    rejected: str = ""
    own: bool = False
    columns: int = 0
    network: bool = False
    root: bool = False


ROWS = {
    "proxies": Row(dict.fromkeys(PROXIES, NOWHERE) | {"NO_PROXY": "example.org"}, commands=(WORKSHOP, LOAD)),
    "socks": Row(dict.fromkeys(PROXIES, f"socks5://{LOOPBACK}:9"), commands=(GATE,)),
    "foreign variables": Row(FOREIGN, own=True, commands=(WORKSHOP, LOAD, BENCH)),
    "variables of Python": Row(PYTHON_VARIABLES, commands=(WORKSHOP, LOAD)),
    "locale C, no HOME, umask 077, few files": Row(
        {"LC_ALL": "C", "TMPDIR": "/missing"}, "unset HOME LANG; umask 077; ulimit -n 256", own=True, commands=(LOAD,)
    ),
    "Latin-1, a HOME that cannot be written, CDPATH": Row(
        {"LC_ALL": "de_DE.ISO-8859-1", "PYTHONIOENCODING": "iso-8859-1", "HOME": "/proc", "CDPATH": "/:/usr"},
        commands=(WORKSHOP,),
    ),
    "a path with blanks, encodings that Python lacks": Row(
        {"PYTHONIOENCODING": "nonsense", "PYTHONUTF8": "nonsense"}, 'cd "$CLONE"', commands=(WORKSHOP,)
    ),
    "a terminal of 40 columns, locale POSIX": Row({"TERM": "xterm", "COLUMNS": "40", "LC_ALL": "POSIX"}, columns=40),
    "no IPv6, and no network": Row(own=True, before=NO_IPV6, network=True, root=True),
    "telemetry sent elsewhere": Row(
        {"OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE}, doctor=f"OTEL_EXPORTER_OTLP_ENDPOINT={NOWHERE} does not answer"
    ),
    "an exporter that Python lacks": Row(
        {"OTEL_TRACES_EXPORTER": "zipkin"}, rejected="OTEL_TRACES_EXPORTER='zipkin' is not one of"
    ),
    "a way to poll that gRPC lacks": Row(
        {"GRPC_POLL_STRATEGY": "nonsense"}, rejected="GRPC_POLL_STRATEGY='nonsense' is not one of epoll1"
    ),
    "an implementation that protobuf lacks": Row(
        {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "cpp"},
        rejected="PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION='cpp' is not one of upb, python",
    ),
    "a database at an address that is none": Row(
        {"MYTHICAL_DATABASE_HOST": "127.0.0.1:5432"}, rejected="MYTHICAL_DATABASE_HOST='127.0.0.1:5432' is not a host"
    ),
    "a state folder that cannot be made": Row({"MYTHICAL_STATE": "/proc/mine"}, rejected="/proc/mine: No such file"),
    "a state folder of another user": Row(
        before='mkdir -p "$MYTHICAL_STATE"; chown 65534 "$MYTHICAL_STATE"', rejected="belongs to another user",
        root=True,
    ),
    "too few files": Row(before="ulimit -n 64", rejected="ulimit -n 1024"),
    "output closed early": Row({"DEMO_SECONDS": "1"}, rejected="ready after", before="exec > >(head -n 1)"),
}  # fmt: skip


def copy_checkout(made: Path) -> None:
    """Copy this checkout, with the environments of this one."""
    for file in committed():
        target = made / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    for name in (".venv", ".venv-load", "local/gateway/web/node_modules", "local/aspire/node_modules"):
        if (CHECKOUT / name).exists():
            (made / name).symlink_to(CHECKOUT / name)


@pytest.fixture
def demo(servers_folder: Path, request: pytest.FixtureRequest) -> Iterator[DemoRun]:
    """A demo that is not started."""
    folder = servers_folder / f"surroundings-{list(ROWS).index(request.node.callspec.id)}"
    folder.mkdir(mode=0o711)
    run = DemoRun(folder)
    yield run
    run.close()


class Surrounding:
    """The demo and other commands in the surrounding of a row."""

    def __init__(self, row: Row, demo: DemoRun) -> None:
        self._row, self._demo = row, demo
        gate = demo.folder / "gate.toml"
        gate.write_text(GATE_FILE)
        load = {
            "LOAD_HOST": f"http://{LOOPBACK}:{demo.environ['DEMO_SERVER_PORT']}",
            "LOAD_PORT": str(free_port()),
            "LOAD_GATE": str(gate),
            "LOAD_HEADLESS": "true",
            "LOAD_TIME": "1",
            "LOAD_USERS": "1",
            "LOAD_RESULTS": str(demo.folder / "load"),
        }
        self.environ = {**demo.environ, **load, "DEMO_LOAD": "false", **row.environ}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, output: int) -> None:
        """Start the demo, as the leader of a session, with this output."""
        self.process = subprocess.Popen(  # noqa: S603 - commands of the table
            self._words("make demo"),
            cwd=CHECKOUT,
            env=self.environ,
            stdin=output if self._row.columns else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def run(self, words: str) -> str:
        """Run a command to its end; return its output and, as the last line, its status."""
        done = subprocess.run(  # noqa: S603 - commands of the table
            self._words(words),
            cwd=CHECKOUT,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            errors="replace",
            timeout=COMMAND_S,
            check=False,
        )
        return f"{done.stdout}\nstatus {done.returncode}"

    def checked(self, expected: str) -> bool:
        """Return whether the doctor's answer is about the running demo, and as expected."""
        answer = self.run(f"{DOCTOR} WAIT={DOCTOR_WAIT_S if expected is PASSED else 0}")
        (self._demo.folder / "doctor").write_text(answer)
        return WITHOUT_DOCKER in answer and expected in answer

    def stop(self) -> None:
        """Press Ctrl-C: the signal goes to make and to the demo."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(STOPPED_S)

    def _words(self, command: str) -> list[str]:
        network: list[str] = []
        if self._row.network:
            network = ["unshare", "--net"]
            if self.process is not None:
                network = ["nsenter", f"--net=/proc/{self.process.pid}/ns/net"]
        return [*network, "bash", "-c", f"{self._row.before}\nexec {command}"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_each_command_works_or_names_cause_and_remedy(
    row: Row, demo: DemoRun, tmp_path: Path, postgres: Postgres, rabbitmq: RabbitMQ
) -> None:
    """Afterwards everything is stopped."""
    if os.getuid() and row.root:
        pytest.skip("only root can change owners and networks")
    if not row.own:
        demo.environ |= database_settings(postgres) | broker_settings(rabbitmq)
    here = Surrounding(row, demo)
    if "CLONE" in row.before:
        copy_checkout(tmp_path / "a clone")
        here.environ["CLONE"] = str(tmp_path / "a clone")
    with demo.output.open("wb") as output, terminal(row.columns, output) as shown:
        here.start(shown)
        assert here.process is not None
        try:
            if row.rejected:
                here.process.wait(COMPLETE_S)
                assert row.rejected in said(demo)
            else:
                eventually(lambda: here.checked(row.doctor), COMPLETE_S, f"{row.doctor!r} from the doctor")
                for command in row.commands:
                    answer = here.run(command)
                    assert answer.endswith("status 0"), answer
                    assert "Traceback" not in answer
                here.stop()
                assert "stopped all processes" in said(demo)
        finally:
            with suppress(ProcessLookupError):  # with the demo, the kernel ends its children
                os.killpg(here.process.pid, signal.SIGKILL)
            here.process.wait()
    assert "Traceback" not in said(demo)
    eventually(lambda: demo.remaining() == [], what=f"an end of {demo.remaining()}")


def said(demo: DemoRun) -> str:
    """Return the output, which is in the row's encoding."""
    return demo.output.read_text(encoding="ascii", errors="replace")


@contextmanager
def terminal(columns: int, output: IO[bytes]) -> Iterator[int]:
    """Yield the descriptor of a terminal of this width, which is copied to the output; without a width, the output."""
    if not columns:
        yield output.fileno()
        return
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def copy() -> None:
        with suppress(OSError):  # when the last process with this terminal exits
            while content := os.read(ours, 10_000):
                output.write(content)
                output.flush()

    thread = threading.Thread(target=copy)
    thread.start()
    try:
        yield theirs
    finally:
        os.close(theirs)
        thread.join()
        os.close(ours)


@pytest.mark.timeout(600)
def test_every_address_can_be_the_ipv6_loopback(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Services, database, broker, and collector. Where this machine has no IPv6, root tries it in another network."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        if os.getuid() or "IN_OWN_NETWORK" in os.environ:
            pytest.skip("this machine has no IPv6 loopback, and only root can make one")
        command = f'{IPV6}; exec "{sys.executable}" -m pytest -q "{__file__}" -k ipv6_loopback'
        ended = subprocess.run(  # noqa: S603 - this test
            ["unshare", "--net", "bash", "-c", command],  # noqa: S607
            cwd=CHECKOUT,
            env=os.environ | {"IN_OWN_NETWORK": "true"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "1 passed" in ended.stdout, ended.stdout[-5000:] + ended.stderr
        return
    postgres, rabbitmq, gateway = map(request.getfixturevalue, ("postgres", "rabbitmq", "gateway"))
    server, frontend = free_port(), free_port()
    settings = {
        **database_settings(postgres),
        **broker_settings(rabbitmq),
        "MYTHICAL_DATABASE_HOST": "[::1]",
        "MYTHICAL_QUEUE_HOST": "::1",
        "MYTHICAL_SERVER_HOST_PORT": f"[::1]:{server}",
        "TRACING_COLLECTOR_HOST": "::1",
        "TRACING_COLLECTOR_PORT": str(gateway.ports["otlp_grpc"]),
        "LOGS_TARGET": f"http://[::1]:{gateway.ports['loki']}/loki/api/v1/push",
        "PROFILE_COLLECTOR_HOST": "[::1]",
        "PROFILE_COLLECTOR_PORT": str(gateway.ports["pyroscope"]),
        "NAMESPACE": f"ipv6-{server}",
        "HTTP_HOST": "::1",
        "REQUESTER_START": "0",
    }
    with ExitStack() as running:
        for port in (
            postgres.port,
            rabbitmq.port,
            *(gateway.ports[name] for name in ("otlp_grpc", "loki", "pyroscope")),
        ):
            running.enter_context(forwarded(port))
        ports = {"server": server, "frontend": frontend, "recorder": free_port(), "requester": free_port()}
        for name, port in ports.items():
            process = module_process(name, f"services.{name}", tmp_path, [], settings | {"HTTP_PORT": str(port)})
            process.launch()
            running.callback(process.stop, STOPPED_S)
        for port in ports.values():
            eventually(lambda port=port: is_up(f"http://[::1]:{port}/readyz"), COMPLETE_S)  # type: ignore[misc]
        assert ask(f"http://[::1]:{frontend}", "/api/unicorn").status == 200
        for what in ("spans", "metrics", "logs", "profiles"):
            for name in ports:

                def arrived(what: str = what, name: str = name) -> bool:
                    return bool(own(gateway.get(what, service=f"mythical-{name}", limit=500), settings["NAMESPACE"]))

                eventually(arrived, COMPLETE_S, f"{what} of {name}")


@contextmanager
def forwarded(port: int) -> Iterator[None]:
    """Forward connections from a port of the IPv6 loopback to the same port of the IPv4 loopback."""

    def copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(65_536):
                target.sendall(content)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve(ours: socket.socket) -> None:
        with ours, suppress(OSError), socket.create_connection((LOOPBACK, port)) as theirs:
            back = threading.Thread(target=copy, args=(theirs, ours))
            back.start()
            copy(ours, theirs)
            back.join()

    def accept() -> None:
        with suppress(OSError):
            while True:
                threads.append(threading.Thread(target=serve, args=(listener.accept()[0],)))
                threads[-1].start()

    threads: list[threading.Thread] = []
    with socket.create_server(("::1", port), family=socket.AF_INET6) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()
