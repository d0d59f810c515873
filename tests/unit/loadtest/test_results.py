"""Results: what Locust counted, as the report says it."""

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
    """An entry of Locust's statistics, in which nothing was asked but what is given."""
    nothing = {"num_requests": 0, "num_failures": 0, "total_rps": 0.0, "max_response_time": 0}
    times = {"start_time": 1000.0, "last_request_timestamp": None}
    return SimpleNamespace(**{**nothing, **times, **counted}, get_response_time_percentile=lambda _: 0)


@pytest.mark.parametrize(("last", "seconds"), [(None, 0.0), (1020.5, 20.5)])
def test_a_run_lasts_from_its_start_to_its_last_request(last: float | None, seconds: float) -> None:
    """One that made none, as where it was stopped at once, took no time; it did not begin fifty years ago."""
    settings = load(Env({}))
    run = LoadRun(settings, Telemetry(settings, NoOpTracerProvider(), NoOpMeterProvider()))
    stats = SimpleNamespace(entries={}, errors={}, total=entry(last_request_timestamp=last))
    report = report_of(stats, run, figures_of(stats, run.tally))
    assert report.run["seconds"] == seconds
    assert [row.request for row in report.rows] == ["all"]
