"""Names and values that semantic conventions fix: of HTTP, and of synthetic requests, which are marked by baggage.

A load generator marks its requests by baggage, which every propagator that OTEL_PROPAGATORS names may carry.
"""

from collections.abc import Mapping

from opentelemetry import baggage
from opentelemetry.context import Context

# The advised bucket boundaries, in seconds. Source: semantic conventions, metrics http.server.request.duration and
# http.client.request.duration.
HTTP_DURATION_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

# Any other method becomes OTHER, since a caller could create label values with made-up ones. The conventions list three
# more, which no service of the suite serves: each would be a series for callers to create.
# Source: semantic conventions, attribute http.request.method.
HTTP_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
OTHER = "_OTHER"

# OpenTelemetry semantic conventions, user agent: `test` made by a test, `bot` by a crawler; people have none.
SYNTHETIC = "user_agent.synthetic.type"
USER_KIND, SHAPE = "loadtest.user.kind", "loadtest.shape"

# The allow-list of baggage: names and values. Any other would let callers create label values.
ALLOWED: Mapping[str, frozenset[str]] = {
    SYNTHETIC: frozenset({"test", "bot"}),
    USER_KIND: frozenset({"keeper", "browser", "breeder", "person"}),
    SHAPE: frozenset({"steady", "steps", "spike", "soak", "day", "break"}),
}


def synthetic_attributes(context: Context | None = None) -> dict[str, str]:
    """Return the allowed entries of the baggage in `context`, or in the current context.

    The result is empty if the baggage does not say that the request is synthetic.
    """
    entries = baggage.get_all(context)
    if SYNTHETIC not in entries:
        return {}
    # A value may have properties behind a semicolon. Source: W3C Baggage, "Header Content".
    values = {name: str(entries.get(name, "")).partition(";")[0].strip() for name in ALLOWED}
    found = {name: value for name, value in values.items() if value in ALLOWED[name]}
    return found if SYNTHETIC in found else {}
