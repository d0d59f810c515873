"""What is promised of the suite: which events count, which of them are bad, and what share may be."""

from dataclasses import dataclass

# The requester's own times, for whoever asks is whom the promise is made to: a server that is away tells nothing.
ASKED = "http_client_request_duration_seconds"
BY_REQUESTER = 'service="mythical-requester"'
# 500 and above, or the name of an error where no answer came. A 404 or 409 is a right answer to a wrong question.
SERVERS_FAULT = 'error_type=~"5..|[A-Z].*"'
NO_ERROR = 'error_type=""'

RECORDED = "mythical_message_age_seconds"
BY_RECORDER = 'service="mythical-recorder"'

SLOW_S = "0.25"
STALE_S = "60"


@dataclass(frozen=True)
class Objective:
    """One promise, kept while the share of good events is at least `share`, by scale.

    `bad` and `every` are PromQL for rates of events, in which $window stands for the window. `alert` is the name of
    its alert and of the runbook.
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
    "Availability of the API",
    "requests that the server answers, with something else than an error of its own",
    # The planted null names fail one POST in ten, some 4 % of all requests, and are on by default. They count: they
    # are failures to whoever asks, and a strength of 1 is to be seen here. So 90 % leaves room for twice as many, and
    # 99.5 % is for a suite without planted faults (ALWAYS_SUCCEED=true).
    {"workshop": 0.9, "production": 0.995},
    # Without a failure so far there is no series of them.
    bad=f"({rate(ASKED + '_count', BY_REQUESTER, SERVERS_FAULT)} or vector(0))",
    every=rate(f"{ASKED}_count", BY_REQUESTER),
)
LATENCY = Objective(
    "api-latency",
    "ApiLatencyBudgetBurn",
    "Latency of the API",
    f"requests without an error that are answered within {SLOW_S} s",
    # A failure that comes fast is no success, and one that comes late is counted as a failure already.
    {"workshop": 0.9, "production": 0.99},
    bad=beyond(ASKED, f'le="{SLOW_S}"', BY_REQUESTER, NO_ERROR),
    every=rate(f"{ASKED}_count", BY_REQUESTER, NO_ERROR),
)
FRESHNESS = Objective(
    "recording-freshness",
    "RecordingFreshnessBudgetBurn",
    "Freshness of recording",
    f"messages that are recorded within {STALE_S} s after they were handed over",
    # The requester's waves and the slow beasts let a message wait for most of a minute by default, which is within it.
    {"workshop": 0.9, "production": 0.99},
    # Alloy writes 60, a scrape may write 60.0.
    bad=beyond(RECORDED, f'le=~"{STALE_S}([.]0)?"', BY_RECORDER),
    every=rate(f"{RECORDED}_count", BY_RECORDER),
)
OBJECTIVES = (AVAILABILITY, LATENCY, FRESHNESS)
