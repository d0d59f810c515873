"""Passwords do not leak: none is in a signal, a response, a log file or the arguments of a process."""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from tests.integration.conftest import Gateway, Service, eventually
from tests.integration.service_support import (
    JSON,
    Fleet,
    ask,
    broker_settings,
    database_settings,
    fleet,
    own_database,
    requests_to,
    run,
)

ROLE = "secretive"
SIGNALS = ("spans", "logs", "metrics", "profiles")


class Passwords:
    """A correct password, set by a file, and wrong ones, set by the environment."""

    def __init__(self) -> None:
        self.correct, self.wrong, self.broker = (f"pw-{secrets.token_hex(12)}" for _ in range(3))

    def found_in(self, text: str) -> list[str]:
        """Return the passwords that the text contains."""
        return [each for each in (self.correct, self.wrong, self.broker) if each in text]


@pytest.fixture(scope="module")
def passwords() -> Passwords:
    """Random passwords that occur nowhere else."""
    return Passwords()


@pytest.fixture(scope="module")
def started(
    passwords: Passwords,
    postgres: Postgres,
    rabbitmq: RabbitMQ,
    gateway: Gateway,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Fleet, list[Service]]]:
    """A server with a correct password file, and a server, a requester and a recorder with rejected passwords."""
    folder = tmp_path_factory.mktemp("secrets")
    file = folder / "password"
    file.write_text(f"{passwords.correct}\n", encoding="utf-8")
    run(postgres, f"CREATE ROLE {ROLE} SUPERUSER LOGIN PASSWORD '{passwords.correct}'")
    with own_database(postgres) as name, fleet(folder, gateway.settings) as services:
        database = database_settings(postgres, name) | {"MYTHICAL_DATABASE_USER": ROLE}
        by_file = {"MYTHICAL_DATABASE_PASSWORD": "", "MYTHICAL_DATABASE_PASSWORD_FILE": str(file)}
        rejected = broker_settings(rabbitmq) | {"MYTHICAL_QUEUE_PASSWORD": passwords.broker}
        server = services.launch("server", **database | by_file)
        launched = [
            server,
            services.launch("server", "/healthz", **database | {"MYTHICAL_DATABASE_PASSWORD": passwords.wrong}),
            services.launch("requester", "/healthz", **rejected | requests_to(server) | {"REQUESTER_START": "0"}),
            services.launch("recorder", "/healthz", **rejected),
        ]
        services.ready()
        yield services, launched
    run(postgres, f"DROP ROLE {ROLE}")


def test_a_server_logs_in_with_a_password_file(started: tuple[Fleet, list[Service]]) -> None:
    """Secrets of containers are mounted as such files."""
    server = started[1][0]
    assert ask(server.base_url, "/unicorn", "POST", body='{"name": "let in"}', headers=JSON).status in (201, 500)
    assert ask(server.base_url, "/unicorn").status == 200


def test_a_service_reports_a_rejected_login_without_the_password(
    started: tuple[Fleet, list[Service]], passwords: Passwords
) -> None:
    """Endpoint and log contain the driver's error of the failed connection."""
    for service in started[1][1:]:
        response = eventually(lambda service=service: _not_ready(service), 30)  # type: ignore[misc]
        assert response
        assert passwords.found_in(response) == []


def test_no_signal_response_log_or_argument_contains_a_password(
    started: tuple[Fleet, list[Service]], passwords: Passwords, gateway: Gateway
) -> None:
    """The rule holds for all four received signals, every endpoint, the services' output and their command lines."""
    running, services = started
    eventually(lambda: all(running.namespace in json.dumps(gateway.get(signal, limit=5000)) for signal in SIGNALS), 60)
    for signal in SIGNALS:
        assert passwords.found_in(json.dumps(gateway.get(signal, limit=5000))) == [], signal
    for service in services:
        for path in ("/metrics", "/readyz", "/healthz", "/faults", "/unicorn"):
            assert passwords.found_in(ask(service.base_url, path).text) == [], path
        output = service.process.log.read_text(encoding="utf-8")
        assert passwords.found_in(output) == []
        command_line = Path(f"/proc/{service.process.pid}/cmdline").read_text(encoding="utf-8")
        assert "services." in command_line
        assert passwords.found_in(command_line) == []


def _not_ready(service: Service) -> str | None:
    response = ask(service.base_url, "/readyz")
    return response.text if response.status == 503 else None
