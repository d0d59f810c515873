"""Synthetic requests: which a load generator makes, told from those of people by a mark in W3C baggage."""

from collections.abc import Mapping
from functools import lru_cache

# OpenTelemetry semantic conventions, user agent: `test` made by a test, `bot` by a crawler; people have none.
SYNTHETIC = "user_agent.synthetic.type"
USER_KIND, SHAPE = "loadtest.user.kind", "loadtest.shape"

# Everything that is taken over from a caller, in full: whatever else baggage says would be a label that anyone makes.
KNOWN: Mapping[str, frozenset[str]] = {
    SYNTHETIC: frozenset({"test", "bot"}),
    USER_KIND: frozenset({"keeper", "browser", "breeder"}),
    SHAPE: frozenset({"steady", "steps", "spike", "soak", "day", "break"}),
}

# Source: W3C Baggage, limits: no implementation has to carry more bytes or more members.
LONGEST, MOST_MEMBERS = 8192, 64


# The same few headers come with each request of a run.
@lru_cache(maxsize=64)
def synthetic(header: str) -> Mapping[str, str]:
    """Give the marks in a baggage header that are known with a value that is known; none without the first of them."""
    found: dict[str, str] = {}
    if len(header) > LONGEST:
        return found
    for member in header.split(",")[:MOST_MEMBERS]:
        name, _, rest = member.partition("=")
        value = rest.partition(";")[0].strip()
        if value in KNOWN.get(name.strip(), ()):
            found[name.strip()] = value
    return found if SYNTHETIC in found else {}
