"""Ten thousand hostile requests to the server: no 5xx, no internals leaked, no forged label or log line."""

import contextlib
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local.servers.postgres import Postgres
from tests.failure.conftest import Measured
from tests.failure.costs import used
from tests.failure.hostile import TEMPLATES, Attacker, requests
from tests.integration.conftest import Gateway, Service, eventually
from tests.integration.service_support import Fleet, ask, database_settings, fleet, own, own_database
from tests.unit.telemetry.logfmt_grammar import parse

pytestmark = pytest.mark.timeout(400)

REQUESTS = 10_000
SLOW_CLIENTS = 300
ROOT = Path(__file__).resolve().parents[2]
DESCRIPTION = ROOT / "services" / "server" / "openapi.yaml"
FUZZER = ROOT / ".venv-fuzz" / "bin" / "schemathesis"
COUNT = "http_server_request_duration_seconds_count"
# The allocator may retain this much after 9,000 requests: a leak of 1.4 kB per request would be found.
MAX_GROWTH_MB = 12.0


@pytest.fixture(scope="module")
def started(postgres: Postgres, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Services with a separate database, whose telemetry the gateway receives."""
    folder = tmp_path_factory.mktemp("hostile")
    with own_database(postgres) as name, fleet(folder, gateway.settings, database_settings(postgres, name)) as services:
        yield services


@pytest.fixture(scope="module")
def server(started: Fleet) -> Service:
    """A server without injected faults."""
    return started.start("server", FAULT_NULL_NAME="0")


def series_after_counting(server: Service, attacker: Attacker) -> set[str]:
    """Return every series at the server's /metrics, without values and exemplars, once it counts all requests."""
    # An unknown method, and a target that isn't a path, are rejected before the request is measured.
    measured = sum(count for status, count in attacker.statuses.items() if status) * 0.9

    def page() -> list[str]:
        lines = [line for line in ask(server.base_url, "/metrics").text.splitlines() if not line.startswith("#")]
        counted = sum(float(line.split(" ")[1]) for line in lines if line.startswith(COUNT))
        return lines if counted >= measured else []

    return {line.split(" ")[0] for line in eventually(page, 30)}


def test_hostile_requests_cause_no_error_and_leak_no_internals(
    server: Service, started: Fleet, gateway: Gateway, measured: Measured
) -> None:
    """No 5xx, no internals in a response, no new series after the first round, no forged log line, flat memory."""
    attacker = Attacker(server.base_url)
    for request in requests(len(TEMPLATES) * 20):
        attacker.send(request)
    before = series_after_counting(server, attacker)
    before_mb = used(server).own_mb
    for request in requests(REQUESTS - len(TEMPLATES) * 20):
        attacker.send(request)
    attacker.close()
    after_mb = used(server).own_mb

    assert attacker.statuses.total() == REQUESTS
    assert [status for status in attacker.statuses if status >= 500] == []
    assert attacker.unanswered == []
    assert attacker.leaked == []
    assert series_after_counting(server, attacker) == before
    assert after_mb - before_mb < MAX_GROWTH_MB
    lines = own(gateway.get("logs", service="mythical-server", limit=5000), started.namespace)
    assert lines
    for line in lines:
        fields = [key for key, _ in parse(line["line"])]
        assert len(fields) == len(set(fields)), line["line"]
        assert line["labels"].get("beast", "unicorn") == "unicorn"
        assert dict(parse(line["line"])).get("beast", "unicorn") == "unicorn"
    counts = ", ".join(f"{status}: {count}" for status, count in sorted(attacker.statuses.items()))
    measured(f"{REQUESTS} requests of {len(TEMPLATES)} kinds; {counts}; memory {before_mb:.1f} → {after_mb:.1f} MB")


def test_slow_clients_do_not_delay_other_requests(server: Service, measured: Measured) -> None:
    """Hundreds of connections that send a header byte now and then occupy no thread that other requests need."""
    url = urlsplit(server.base_url)
    with contextlib.ExitStack() as held:
        slow = [
            held.enter_context(socket.create_connection((url.hostname or "", url.port or 80), timeout=10))
            for _ in range(SLOW_CLIENTS)
        ]
        for number, each in enumerate(slow):
            each.sendall(b"GET /unicorn HTTP/1.1\r\nX-Slow: "[: 10 + number % 30])
        seconds = []
        for each in slow[:100]:
            with contextlib.suppress(OSError):  # the server may have closed it after a timeout
                each.sendall(b"x")
            began = time.monotonic()
            assert ask(server.base_url, "/unicorn?limit=1").status == 200
            seconds.append(time.monotonic() - began)
    seconds.sort()
    measured(
        f"{SLOW_CLIENTS} slow clients; others answered within {seconds[50] * 1000:.0f} ms, the slowest "
        f"{seconds[-1]:.2f} s"
    )
    assert seconds[-1] < 5


@pytest.mark.parametrize("phases", ["examples,coverage", "fuzzing"])
def test_responses_match_the_api_description_for_generated_requests(
    phases: str, server: Service, tmp_path: Path, measured: Measured
) -> None:
    """Schemathesis sends requests that openapi.yaml allows and forbids: no 5xx, and no undocumented response."""
    assert FUZZER.exists(), "run scripts/setup fuzz, as make test-failure does"
    done = subprocess.run(  # noqa: S603 - a program of this checkout
        [
            *(str(FUZZER), "run", str(DESCRIPTION), "--url", server.base_url, "--phases", phases),
            *("--max-examples", "100", "--seed", "1", "--no-color", "--generation-database", "none"),
            *("--checks", "not_a_server_error,status_code_conformance,content_type_conformance"),
            # A second concurrent profile is rejected with 503, as documented.
            *("--exclude-path-regex", "^/debug/"),
            *("--suppress-health-check", "all", "--report-dir", str(tmp_path)),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    generated = re.search(r"(\d+) generated", done.stdout)
    measured(f"{phases}: {generated.group(0) if generated else 'no count'} cases, none failed")
