"""Passwords stay where they were put: none of them is in a signal, an answer, a log file or a process's arguments."""

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
    """A right one, given in a file, and wrong ones, given in the environment."""

    def __init__(self) -> None:
        self.right, self.wrong, self.broker = (f"pw-{secrets.token_hex(12)}" for _ in range(3))

    def found_in(self, text: str) -> list[str]:
        """Those that the text gives away."""
        return [each for each in (self.right, self.wrong, self.broker) if each in text]


@pytest.fixture(scope="module")
def passwords() -> Passwords:
    """Passwords that occur nowhere else."""
    return Passwords()


@pytest.fixture(scope="module")
def started(
    passwords: Passwords,
    postgres: Postgres,
    rabbitmq: RabbitMQ,
    gateway: Gateway,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Fleet, list[Service]]]:
    """A server that gets in by a file, one that is refused, and a requester and a recorder that are refused."""
    folder = tmp_path_factory.mktemp("secrets")
    file = folder / "password"
    file.write_text(f"{passwords.right}\n", encoding="utf-8")
    run(postgres, f"CREATE ROLE {ROLE} SUPERUSER LOGIN PASSWORD '{passwords.right}'")
    with own_database(postgres) as name, fleet(folder, gateway.settings) as services:
        there = database_settings(postgres, name) | {"MYTHICAL_DATABASE_USER": ROLE}
        by_file = {"MYTHICAL_DATABASE_PASSWORD": "", "MYTHICAL_DATABASE_PASSWORD_FILE": str(file)}
        refused = broker_settings(rabbitmq) | {"MYTHICAL_QUEUE_PASSWORD": passwords.broker}
        server = services.launch("server", **there | by_file)
        all_of_them = [
            server,
            services.launch("server", "/healthz", **there | {"MYTHICAL_DATABASE_PASSWORD": passwords.wrong}),
            services.launch("requester", "/healthz", **refused | requests_to(server) | {"REQUESTER_START": "0"}),
            services.launch("recorder", "/healthz", **refused),
        ]
        services.ready()
        yield services, all_of_them
    run(postgres, f"DROP ROLE {ROLE}")


def test_a_password_in_a_file_lets_the_server_in(started: tuple[Fleet, list[Service]]) -> None:
    """As containers' secrets are given."""
    server = started[1][0]
    assert ask(server.base_url, "/unicorn", "POST", body='{"name": "let in"}', headers=JSON).status in (201, 500)
    assert ask(server.base_url, "/unicorn").status == 200


def test_a_refused_service_says_so_without_the_password(
    started: tuple[Fleet, list[Service]], passwords: Passwords
) -> None:
    """What a driver says of a failed connection goes through our hands, to page and log."""
    for service in started[1][1:]:
        answer = eventually(lambda service=service: _not_ready(service), 30)  # type: ignore[misc]
        assert answer
        assert passwords.found_in(answer) == []


def test_no_signal_answer_log_or_argument_gives_a_password_away(
    started: tuple[Fleet, list[Service]], passwords: Passwords, gateway: Gateway
) -> None:
    """All four signals as received, every page, what the services printed, and how they were called."""
    fleet_, services = started
    eventually(lambda: all(fleet_.namespace in json.dumps(gateway.get(signal, limit=5000)) for signal in SIGNALS), 60)
    for signal in SIGNALS:
        assert passwords.found_in(json.dumps(gateway.get(signal, limit=5000))) == [], signal
    for service in services:
        for path in ("/metrics", "/readyz", "/healthz", "/faults", "/unicorn"):
            assert passwords.found_in(ask(service.base_url, path).text) == [], path
        printed = service.process.log.read_text(encoding="utf-8")
        assert passwords.found_in(printed) == []
        called = Path(f"/proc/{service.process.pid}/cmdline").read_text(encoding="utf-8")
        assert "services." in called
        assert passwords.found_in(called) == []


def _not_ready(service: Service) -> str | None:
    answer = ask(service.base_url, "/readyz")
    return answer.text if answer.status == 503 else None
