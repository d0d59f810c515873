"""The doctor's queries about targets other than the services, run on the real Mimir."""

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
    """A Mimir without samples."""
    with running(tmp_path) as one:
        yield one


def push_samples(mimir: Mimir, **services: list[float]) -> None:
    """Push samples of each service, one every ten seconds, the last one at the current time.

    `pg` is whether Alloy's login succeeded, `statements` a metric of the query for statements.
    """
    end = now()
    for service, values in services.items():
        name = {"pg": "pg_up", "statements": "pg_statements_calls"}.get(service, "up")
        target = service if name == "up" else "postgres"
        which = series(name, service=target, group="infrastructure")
        for number, value in enumerate(values, 1 - len(values)):
            mimir.push({which: value}, end + number * STEP_S)


def test_only_targets_down_for_a_minute_are_reported(mimir: Mimir) -> None:
    """Targets that were just started, were down for a moment, or are up, are not reported."""
    assert failed_targets(mimir.base, {}) == []
    up, down = [1.0] * SAMPLES, [0.0] * SAMPLES
    push_samples(
        mimir, rabbitmq=down, loki=[0.0, 0.0], tempo=[0.0, 0.0, 1.0, 0.0, 0.0], postgres=up, pg=up, statements=up
    )
    findings = eventually(lambda: failed_targets(mimir.base, {}), what="nothing was reported")
    assert [finding.what for finding in findings] == ["metrics of rabbitmq"]


def test_a_database_that_rejects_alloys_login_is_reported(mimir: Mimir) -> None:
    """Alloy's exporter is up in this case; another metric reports the failed login."""
    push_samples(mimir, postgres=[1.0] * SAMPLES, pg=[0.0] * SAMPLES)
    findings = eventually(
        lambda: [each for each in failed_targets(mimir.base, {}) if each.what == "metrics of postgres"], what="nothing"
    )
    assert "rejects Alloy's login" in findings[0].said


def test_a_database_without_statistics_of_statements_is_reported(mimir: Mimir) -> None:
    """Its other metrics arrive in this case."""
    push_samples(mimir, postgres=[1.0] * SAMPLES, pg=[1.0] * SAMPLES)
    findings = eventually(lambda: failed_targets(mimir.base, {}), what="nothing was reported")
    assert [finding.what for finding in findings] == ["statements of postgres"]
