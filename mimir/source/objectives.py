"""The SLOs: which events count, which of them are bad, and the target share of good events."""

from dataclasses import dataclass

# Measured by the requester, as the client sees it: a server that is down reports nothing.
REQUESTS = "http_client_request_duration_seconds"
BY_REQUESTER = 'service="mythical-requester"'
# 500 and above, or the name of an error if there was no response. A 404 or 409 is a correct response.
SERVER_ERROR = 'error_type=~"5..|[A-Z].*"'
NO_ERROR = 'error_type=""'

RECORDED = "mythical_message_age_seconds"
BY_RECORDER = 'service="mythical-recorder"'

SLOW_S = "0.25"
STALE_S = "60"


@dataclass(frozen=True)
class Objective:
    """One SLO, met while the share of good events is at least the one in `shares` for the scale.

    `bad` and `every` are PromQL for rates of events with $window as a placeholder. `alert` is the name of the alert and
    of the runbook.
    """

    name: str
    alert: str
    title: str
    sentence: str
    shares: dict[str, float]
    bad: str
    every: str


def rate(metric: str, *matchers: str) -> str:
    """Return PromQL for the rate of events over $window."""
    return f"sum(rate({metric}{{{','.join(matchers)}}}[$window]))"


def beyond(histogram: str, le: str, *matchers: str) -> str:
    """Return PromQL for the rate of events above a bucket of a histogram."""
    return f"({rate(histogram + '_count', *matchers)} - {rate(histogram + '_bucket', *matchers, le)})"


AVAILABILITY = Objective(
    "api-availability",
    "ApiErrorBudgetBurn",
    "API availability",
    "requests get a response other than a server error",
    # The injected null names fail one POST in ten, about 4 % of all requests, and are on by default. They count,
    # because clients see the failures, and a strength of 1 has to show here. So 90 % leaves room for twice as many,
    # and 99.5 % is for a suite without injected faults (ALWAYS_SUCCEED=true).
    {"workshop": 0.9, "production": 0.995},
    # Before the first failure there is no such series.
    bad=f"({rate(REQUESTS + '_count', BY_REQUESTER, SERVER_ERROR)} or vector(0))",
    every=rate(f"{REQUESTS}_count", BY_REQUESTER),
)
LATENCY = Objective(
    "api-latency",
    "ApiLatencyBudgetBurn",
    "API latency",
    f"successful requests get a response within {SLOW_S} s",
    # A fast failure is not a success, and a slow one already counts as a failure.
    {"workshop": 0.9, "production": 0.99},
    bad=beyond(REQUESTS, f'le="{SLOW_S}"', BY_REQUESTER, NO_ERROR),
    every=rate(f"{REQUESTS}_count", BY_REQUESTER, NO_ERROR),
)
FRESHNESS = Objective(
    "recording-freshness",
    "RecordingFreshnessBudgetBurn",
    "Recording freshness",
    f"messages are recorded within {STALE_S} s after they were published",
    # By default, the requester's waves and the slow beasts delay a message by up to most of a minute, within the limit.
    {"workshop": 0.9, "production": 0.99},
    # Alloy writes 60, a scrape may write 60.0.
    bad=beyond(RECORDED, f'le=~"{STALE_S}([.]0)?"', BY_RECORDER),
    every=rate(f"{RECORDED}_count", BY_RECORDER),
)
OBJECTIVES = (AVAILABILITY, LATENCY, FRESHNESS)
