"""The endpoints of the API: the beasts, each with its danger level."""

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class EndpointSet:
    """A set of endpoints, and their names in telemetry.

    `danger` maps each endpoint to its danger level; the requester's deletes depend on the order. `tag` is the span
    attribute, metric label and Loki label that has the endpoint as its value; the Loki label `job` begins with
    `prefix`.
    """

    danger: dict[str, int]
    tag: str
    prefix: str

    @property
    def names(self) -> tuple[str, ...]:
        """The endpoints, in order."""
        return tuple(self.danger)


MYTHICAL = EndpointSet(
    danger={"unicorn": 1, "manticore": 23, "illithid": 13, "owlbear": 32, "beholder": 153},
    tag="beast",
    prefix="mythical",
)

# For audiences that prefer a web shop to mythical beasts.
BORING = EndpointSet(
    danger={"login": 1, "payment": 4, "account": 5, "cart": 2, "health": 3, "fastcache": 6},
    tag="endpoint",
    prefix="eStore",
)


def endpoints_for(endpoint_type: str) -> EndpointSet:
    """Return the set for the setting ENDPOINT_TYPE: BORING, or the beasts for any other value."""
    return BORING if endpoint_type == "BORING" else MYTHICAL


def message_text(method: str, endpoint: str, body: dict[str, str] | None) -> str:
    """Return the text of the message about a request, in the original's format; `body` is the JSON that was sent."""
    if body is None:
        return f"{method} /{endpoint}"
    return f"{method} /{endpoint} {json.dumps(body) if method == 'POST' else body['name']}"
