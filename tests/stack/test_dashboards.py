"""Every query of every dashboard returns data from a running stack."""

import pytest

from grafana.source.reading import PanelQuery, panel_queries, with_values
from tests.stack.backends import Backends, eventually
from tests.stack.dashboard_queries import run_query

# The value for "All", or one value where a reader has to choose one. The test chooses a trace when it runs.
CHOICES = {
    "httpStatus": ".*",
    "httpEndpoint": ".*",
    "serviceVersion": ".*",
    "endpoint": ".*",
    "httpMethod": ".*",
    "queue": ".*",
    "run": ".*",
    "statement": ".*",
    "service": "mythical-server",
    "window": "30s",
}
# Panels that may be empty, with the reason.
MAY_BE_EMPTY = {
    ("mlt", "Autologged Errors"): "with ALWAYS_SUCCEED no request fails",
    ("mlt-erroring-endpoints", "Error rates"): "with ALWAYS_SUCCEED no request fails",
    ("mlt-erroring-endpoints", "Share of failed requests"): "with ALWAYS_SUCCEED no request fails",
    ("mlt-erroring-endpoints", "p99"): "with ALWAYS_SUCCEED no request fails",
    ("mlt-erroring-endpoints", "Root Cause: Errors"): "with ALWAYS_SUCCEED no request fails",
    ("mlt-erroring-endpoints", "Server log"): "with ALWAYS_SUCCEED no request fails",
    ("frontend", "Largest contentful paint"): "Locust paints nothing",
    ("frontend", "Interaction to next paint"): "Locust paints nothing",
    ("frontend", "Cumulative layout shift"): "Locust paints nothing",
    ("frontend", "Errors in browsers"): "no script fails",
    ("frontend", "Errors with their trace"): "no script fails",
    ("frontend", "Slow requests"): "a fast machine has no request that takes 100 ms",
    ("postgres", "Blocked sessions"): "no session waits for a lock",
    ("slo", "Firing now"): "by default no alert fires",
    ("alloy", "Alloy's log"): "Alloy logs little without errors",
    ("profiles", "Traces with a profile"): "a fast machine has no request that takes 20 ms",
}


@pytest.fixture(scope="module")
def choices(stack: Backends) -> dict[str, str]:
    """Values of the dashboards' variables, including an existing trace."""
    trace = eventually(lambda: stack.traceql("{ kind = server }", limit=1), "trace with a server span")[0]
    return CHOICES | {"dashTraceID": trace["traceID"]}


@pytest.mark.parametrize("it", list(panel_queries()), ids=str)
def test_each_query_of_each_dashboard_returns_data(it: PanelQuery, stack: Backends, choices: dict[str, str]) -> None:
    """A panel without data is a mistake or in the list above with its reason; even then its query is valid."""
    text = with_values(it.text, choices)
    if (it.board, it.panel) in MAY_BE_EMPTY:
        run_query(stack, it, text)
    else:
        eventually(lambda: run_query(stack, it, text), f"data for {text}")
