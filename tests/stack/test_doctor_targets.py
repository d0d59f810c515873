"""The doctor's questions about what is measured beside the services, asked of the real Mimir."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from doctor.backends import failed_targets
from tests.integration.running import eventually
from tests.stack.mimir_running import Mimir, needs_mimir, now, running, series

pytestmark = needs_mimir

STEP_S, SAMPLES = 10, 6


@pytest.fixture
def mimir(tmp_path: Path) -> Iterator[Mimir]:
    """Give a Mimir that nobody has told anything."""
    with running(tmp_path) as one:
        yield one


def tell(mimir: Mimir, **services: list[float]) -> None:
    """Push samples of each service, one every ten seconds, the last one now.

    `pg` is whether Alloy's login worked, `statements` a metric that the query of the statements makes.
    """
    end = now()
    for service, values in services.items():
        name = {"pg": "pg_up", "statements": "pg_statements_calls"}.get(service, "up")
        target = service if name == "up" else "postgres"
        which = series(name, service=target, group="infrastructure")
        for number, value in enumerate(values, 1 - len(values)):
            mimir.push({which: value}, end + number * STEP_S)


def test_only_what_was_not_reached_for_a_minute_is_told(mimir: Mimir) -> None:
    """Neither what has just been started, nor what was away for a moment, nor what is well."""
    assert failed_targets(mimir.base, {}) == []
    well, away = [1.0] * SAMPLES, [0.0] * SAMPLES
    tell(
        mimir, rabbitmq=away, loki=[0.0, 0.0], tempo=[0.0, 0.0, 1.0, 0.0, 0.0], postgres=well, pg=well, statements=well
    )
    told = eventually(lambda: failed_targets(mimir.base, {}), what="nothing was told")
    assert [finding.what for finding in told] == ["metrics of rabbitmq"]


def test_a_database_that_does_not_let_alloy_in_is_told_though_it_answers(mimir: Mimir) -> None:
    """Alloy's exporter is up then; that it does not get in, it says by a metric of its own."""
    tell(mimir, postgres=[1.0] * SAMPLES, pg=[0.0] * SAMPLES)
    told = eventually(
        lambda: [each for each in failed_targets(mimir.base, {}) if each.what == "metrics of postgres"], what="nothing"
    )
    assert "rejects Alloy's login" in told[0].said


def test_a_database_without_statistics_of_statements_is_reported(mimir: Mimir) -> None:
    """Its other metrics arrive then."""
    tell(mimir, postgres=[1.0] * SAMPLES, pg=[1.0] * SAMPLES)
    told = eventually(lambda: failed_targets(mimir.base, {}), what="nothing was reported")
    assert [finding.what for finding in told] == ["statements of postgres"]
