"""Invalid data on every port of the local gateway: it rejects the data and continues to receive."""

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

ROUNDS = 25
PATHS = {
    "otlp_http": ("/v1/traces", "/v1/metrics", "/v1/logs", "/nowhere"),
    "loki": ("/loki/api/v1/push", "/nowhere"),
    "pyroscope": ("/ingest?name=x&from=1&until=2", "/ingest?name={}", "/push.v1.PusherService/Push"),
    "faro": ("/collect", "/nowhere"),
    "page": ("/api/traces/zz", "/api/spans?limit=-1", "/api/profiles/x/flame?span_id=%00", "/../../etc/passwd"),
}
KINDS = ("application/x-protobuf", "application/json", "multipart/form-data; boundary=x", "text/plain")
MAX_GROWTH_MB = 60.0
# Compressed once, because compressing takes longer than rejecting it.
ZIP_BOMB = gzip.compress(b"\0" * 50_000_000)


def bodies(dice: random.Random) -> list[tuple[bytes, dict[str, str]]]:
    """Return random, truncated, nested and highly compressed bodies, each with its headers."""
    noise = dice.randbytes(dice.randrange(1, 4000))
    return [
        (noise, {}),
        (b"", {}),
        (b"\x0a\xff\xff\xff\xff\x0f" + noise, {}),
        (gzip.compress(noise)[:-5], {"Content-Encoding": "gzip"}),
        (noise, {"Content-Encoding": "gzip"}),
        (ZIP_BOMB, {"Content-Encoding": "gzip"}),
        (b'{"streams":' + b"[" * 5000, {}),
        (b'{"streams":[{"stream":{"a":1},"values":[["x",2]]}]}', {}),
        (b'{"resourceSpans":[{"scopeSpans":7}]}', {}),
    ]


def test_gateway_survives_invalid_data_on_every_port(
    gateway: Gateway, postgres: Postgres, tmp_path: Path, measured: Measured
) -> None:
    """No response reports an error of the gateway, its memory stays bounded, and signals arrive afterwards."""
    dice = random.Random(1)  # noqa: S311 - no secret
    before_mb = rss_mb(gateway)
    statuses: dict[int, int] = {}
    for _ in range(ROUNDS):
        for name, paths in PATHS.items():
            for body, headers in bodies(dice):
                sent = headers | {"Content-Type": dice.choice(KINDS)}
                with contextlib.suppress(OSError):  # it may close the connection in the middle of a body
                    status = ask(
                        f"http://127.0.0.1:{gateway.ports[name]}", dice.choice(paths), "POST", body=body, headers=sent
                    ).status
                    statuses[status] = statuses.get(status, 0) + 1
        for port in gateway.ports.values():
            raw(port, dice.randbytes(500))
    growth = rss_mb(gateway) - before_mb
    assert [status for status in statuses if status >= 500 and status not in (501, 503)] == []
    assert growth < MAX_GROWTH_MB
    with fleet(tmp_path, gateway.settings, database_settings(postgres)) as services:
        server = services.start("server")
        assert ask(server.base_url, "/unicorn").status == 200
        eventually(lambda: own(gateway.get("spans", service="mythical-server"), services.namespace), 30)
        eventually(lambda: own(gateway.get("logs", service="mythical-server"), services.namespace), 30)
    measured(
        f"{sum(statuses.values())} invalid bodies, answered {dict(sorted(statuses.items()))}; memory +{growth:.0f} MB"
    )


def raw(port: int, data: bytes) -> None:
    """Send bytes that aren't a request of any protocol, and close the connection."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(data)


def rss_mb(gateway: Gateway) -> float:
    """Return the resident memory of the gateway in MB (Linux, /proc/PID/statm)."""
    pid = gateway.process.pid
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * 4096 / 1e6
