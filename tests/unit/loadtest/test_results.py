"""Results of a run contain Locust's counts."""

from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider

from common.core.env import Env
from loadtest.load import LoadRun
from loadtest.report import figures_of, report_of
from loadtest.settings import load
from loadtest.telemetry import Telemetry


def entry(**counted: Any) -> SimpleNamespace:
    """Return an entry of Locust's statistics without requests, except for the given values."""
    no_requests = {"num_requests": 0, "num_failures": 0, "total_rps": 0.0, "max_response_time": 0}
    times = {"start_time": 1000.0, "last_request_timestamp": None}
    return SimpleNamespace(**{**no_requests, **times, **counted}, get_response_time_percentile=lambda _: 0)


@pytest.mark.parametrize(("last", "seconds"), [(None, 0.0), (1020.5, 20.5)])
def test_the_duration_of_a_run_ends_with_its_last_request(last: float | None, seconds: float) -> None:
    """A run without requests, such as one that was stopped at once, has a duration of 0."""
    settings = load(Env({}))
    run = LoadRun(settings, Telemetry(settings, NoOpTracerProvider(), NoOpMeterProvider()))
    stats = SimpleNamespace(entries={}, errors={}, total=entry(last_request_timestamp=last))
    report = report_of(stats, run, figures_of(stats, run.tally))
    assert report.run["seconds"] == seconds
    assert [row.request for row in report.rows] == ["all"]
