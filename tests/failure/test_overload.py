"""Five times the capacity for a minute: some requests are served in time, the rest are rejected at once."""

from pathlib import Path

import pytest

from local.servers.postgres import Postgres
from tests.failure.conftest import Measured
from tests.failure.load import offer
from tests.failure.paired_load import Windows
from tests.integration.conftest import eventually
from tests.integration.service_support import SILENT, ask, database_settings, fleet, own_database

pytestmark = pytest.mark.timeout(300)

TIMES = 5
MINUTE_S = 60.0
# A request that waits longer than a second for a thread is rejected. The rest of these limits is processing time, on a
# machine that also generates the load.
SERVED_S, REJECTED_S = 4.0, 2.5
CALLERS, TURNS = 16, 8
# The least share of the server's rate that must remain afterwards, relative to a control server. On a slow machine it
# was 82 % in one run and 109 % in the next; a server that does not release its threads has less.
MIN_RATE = 0.5


def test_overload_is_served_in_part_and_rejected_in_part(
    postgres: Postgres, tmp_path: Path, measured: Measured
) -> None:
    """Served requests have bounded latency, the rest get 503 at once, no other status; then the server recovers."""
    with (
        own_database(postgres) as database,
        own_database(postgres) as control_database,
        fleet(tmp_path, SILENT, {"FAULT_NULL_NAME": "0"}) as servers,
    ):
        server, control = (
            servers.start("server", **database_settings(postgres, name)) for name in (database, control_database)
        )
        before, after = Windows(), Windows()
        Windows().in_turns(server, control, 2, CALLERS)  # warm-up
        before.in_turns(server, control, TURNS, CALLERS)
        result = offer(server.port, rate=TIMES * before.rate, seconds=MINUTE_S)
        eventually(lambda: ask(server.base_url, "/unicorn").status == 200, 10)
        after.in_turns(server, control, TURNS, CALLERS)
        log_lines = server.process.log.read_text(encoding="utf-8").count("requests rejected, too many are in progress")
        page = ask(server.base_url, "/metrics").text
    remaining = after.relative_rate / before.relative_rate
    served, rejected = result.statuses[200], result.statuses[503]
    measured(
        f"capacity {before.rate:.0f}/s; offered {TIMES * before.rate:.0f}/s for {MINUTE_S:.0f} s: served "
        f"{served / result.seconds:.0f}/s, half within {result.quantile_ms(200, 0.5):.0f} ms, 99 % within "
        f"{result.quantile_ms(200, 0.99):.0f} ms; rejected {rejected / result.seconds:.0f}/s, half within "
        f"{result.quantile_ms(503, 0.5):.0f} ms, 99 % within {result.quantile_ms(503, 0.99):.0f} ms; {result.unsent} "
        "not "
        f"sent, because 400 were in flight; {log_lines} lines in the log; afterwards {remaining:.0%} of the rate, "
        "relative to "
        f"a control server, at {after.relative_cost / before.relative_cost:.0%} of the CPU time per response"
    )
    assert set(result.statuses) == {200, 503}, result.errors
    assert served > before.rate / 4 * MINUTE_S
    assert rejected > served / 4
    assert result.quantile_ms(200, 0.99) < SERVED_S * 1000
    assert result.quantile_ms(503, 0.99) < REJECTED_S * 1000
    assert after.statuses == {200, 201, 204}
    assert remaining > MIN_RATE
    assert 'mythical_requests_rejected_total{reason="queue_full"}' in page
    assert 1 <= log_lines <= MINUTE_S / 5 + 2
