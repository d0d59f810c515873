"""Five times as many requests as can be served, for a minute: some are served in time, the rest refused at once."""

from pathlib import Path

import pytest

from local.servers.postgres import Postgres
from tests.failure.beside import Windows
from tests.failure.conftest import Measured
from tests.failure.load import offer
from tests.integration.conftest import eventually
from tests.integration.service_support import SILENT, ask, database_settings, fleet, own_database

pytestmark = pytest.mark.timeout(300)

TIMES = 5
MINUTE_S = 60.0
# Whoever waits longer than a second for a turn is refused; the rest is the work itself, on a machine that is busy with
# making this load as well.
SERVED_S, REFUSED_S = 4.0, 2.5
CALLERS, TURNS = 16, 8
# What has to be left afterwards of the server's rate, held against one beside it. In a slow hour of the machine it was
# 82 % in one run and 109 % in the next; a server that does not give turns back has less.
KEPT = 0.5


def test_five_times_the_capacity_is_served_in_part_and_refused_in_part(
    postgres: Postgres, tmp_path: Path, measured: Measured
) -> None:
    """Bounded latency for what is served, 503 at once for the rest, no other status; afterwards as if nothing was."""
    with (
        own_database(postgres) as ours,
        own_database(postgres) as theirs,
        fleet(tmp_path, SILENT, {"FAULT_NULL_NAME": "0"}) as servers,
    ):
        server, beside = (servers.start("server", **database_settings(postgres, name)) for name in (ours, theirs))
        before, after = Windows(), Windows()
        Windows().in_turns(server, beside, 2, CALLERS)  # warm-up
        before.in_turns(server, beside, TURNS, CALLERS)
        seen = offer(server.port, rate=TIMES * before.rate, seconds=MINUTE_S)
        eventually(lambda: ask(server.base_url, "/unicorn").status == 200, 10)
        after.in_turns(server, beside, TURNS, CALLERS)
        refusals = server.process.log.read_text(encoding="utf-8").count("requests rejected, too many are in progress")
        page = ask(server.base_url, "/metrics").text
    kept = after.share / before.share
    served, refused = seen.statuses[200], seen.statuses[503]
    measured(
        f"capacity {before.rate:.0f}/s; offered {TIMES * before.rate:.0f}/s for {MINUTE_S:.0f} s: served "
        f"{served / seen.seconds:.0f}/s, half within {seen.quantile_ms(200, 0.5):.0f} ms, 99 % within "
        f"{seen.quantile_ms(200, 0.99):.0f} ms; refused {refused / seen.seconds:.0f}/s, half within "
        f"{seen.quantile_ms(503, 0.5):.0f} ms, 99 % within {seen.quantile_ms(503, 0.99):.0f} ms; {seen.unsent} not "
        f"sent, for 400 were under way; {refusals} lines in the log; afterwards {kept:.0%} of the rate, held against a "
        f"server beside it, at {after.dearer / before.dearer:.0%} of the CPU time for each answer"
    )
    assert set(seen.statuses) == {200, 503}, seen.faults
    assert served > before.rate / 4 * MINUTE_S
    assert refused > served / 4
    assert seen.quantile_ms(200, 0.99) < SERVED_S * 1000
    assert seen.quantile_ms(503, 0.99) < REFUSED_S * 1000
    assert after.statuses == {200, 201, 204}
    assert kept > KEPT
    assert 'mythical_requests_refused_total{reason="queue_full"}' in page
    assert 1 <= refusals <= MINUTE_S / 5 + 2
