"""The allow-list of baggage: which of a caller's entries become attributes and labels here.

A load generator marks its requests by baggage, which every propagator that OTEL_PROPAGATORS names may carry.
"""

from collections.abc import Mapping

from opentelemetry import baggage
from opentelemetry.context import Context

# OpenTelemetry semantic conventions, user agent: `test` made by a test, `bot` by a crawler; people have none.
SYNTHETIC = "user_agent.synthetic.type"
USER_KIND, SHAPE = "loadtest.user.kind", "loadtest.shape"

# Names and values. Any other baggage would let callers create label values.
ALLOWED: Mapping[str, frozenset[str]] = {
    SYNTHETIC: frozenset({"test", "bot"}),
    USER_KIND: frozenset({"keeper", "browser", "breeder"}),
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
