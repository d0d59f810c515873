"""Nonsense on every port of the local gateway: it answers or hangs up, and goes on receiving."""

import contextlib
import gzip
import random
import socket
from pathlib import Path

import pytest

from local.servers.postgres import Postgres
from tests.failure.conftest import Measured
from tests.integration.conftest import Gateway, eventually
from tests.integration.service_support import ask, database_settings, fleet, own

pytestmark = pytest.mark.timeout(300)

TIMES = 25
PATHS = {
    "otlp_http": ("/v1/traces", "/v1/metrics", "/v1/logs", "/nowhere"),
    "loki": ("/loki/api/v1/push", "/nowhere"),
    "pyroscope": ("/ingest?name=x&from=1&until=2", "/ingest?name={}", "/push.v1.PusherService/Push"),
    "faro": ("/collect", "/nowhere"),
    "page": ("/api/traces/zz", "/api/spans?limit=-1", "/api/profiles/x/flame?span_id=%00", "/../../etc/passwd"),
}
KINDS = ("application/x-protobuf", "application/json", "multipart/form-data; boundary=x", "text/plain")
GROWN_MB = 60.0
# Made once: it takes longer than to reject it.
BLOWN = gzip.compress(b"\0" * 50_000_000)


def bodies(dice: random.Random) -> list[tuple[bytes, dict[str, str]]]:
    """Broken, cut, nested and blown up bodies, with the headers that belong to them."""
    noise = dice.randbytes(dice.randrange(1, 4000))
    return [
        (noise, {}),
        (b"", {}),
        (b"\x0a\xff\xff\xff\xff\x0f" + noise, {}),
        (gzip.compress(noise)[:-5], {"Content-Encoding": "gzip"}),
        (noise, {"Content-Encoding": "gzip"}),
        (BLOWN, {"Content-Encoding": "gzip"}),
        (b'{"streams":' + b"[" * 5000, {}),
        (b'{"streams":[{"stream":{"a":1},"values":[["x",2]]}]}', {}),
        (b'{"resourceSpans":[{"scopeSpans":7}]}', {}),
    ]


def test_nonsense_stops_no_port_of_the_gateway(
    gateway: Gateway, postgres: Postgres, tmp_path: Path, measured: Measured
) -> None:
    """No answer is a failure of the gateway, its memory stays bounded, and a server's signals arrive afterwards."""
    dice = random.Random(1)  # noqa: S311 - no secret
    before_mb = rss_mb(gateway)
    statuses: dict[int, int] = {}
    for _ in range(TIMES):
        for name, paths in PATHS.items():
            for body, headers in bodies(dice):
                told = headers | {"Content-Type": dice.choice(KINDS)}
                with contextlib.suppress(OSError):  # it may hang up in the middle of a body
                    status = ask(
                        f"http://127.0.0.1:{gateway.ports[name]}", dice.choice(paths), "POST", body=body, headers=told
                    ).status
                    statuses[status] = statuses.get(status, 0) + 1
        for port in gateway.ports.values():
            raw(port, dice.randbytes(500))
    grown = rss_mb(gateway) - before_mb
    assert [status for status in statuses if status >= 500 and status not in (501, 503)] == []
    assert grown < GROWN_MB
    with fleet(tmp_path, gateway.settings, database_settings(postgres)) as services:
        server = services.start("server")
        assert ask(server.base_url, "/unicorn").status == 200
        eventually(lambda: own(gateway.get("spans", service="mythical-server"), services.namespace), 30)
        eventually(lambda: own(gateway.get("logs", service="mythical-server"), services.namespace), 30)
    measured(
        f"{sum(statuses.values())} broken bodies, answered {dict(sorted(statuses.items()))}; memory +{grown:.0f} MB"
    )


def raw(port: int, nonsense: bytes) -> None:
    """Send bytes that are no request of any protocol, and hang up."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(nonsense)


def rss_mb(gateway: Gateway) -> float:
    """The resident memory of the gateway, in MB (Linux, /proc/PID/statm)."""
    pid = gateway.process.pid
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * 4096 / 1e6
