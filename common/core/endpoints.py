"""The beasts: what the API serves, in the order that deletes go by, each with its danger level."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EndpointSet:
    """A set of endpoints and the names that tell of them in telemetry.

    `danger` maps each endpoint to its danger level and keeps their order; `tag` is the span attribute, the metric
    label and the Loki label that carry the endpoint; `prefix` starts the Loki label `job`.
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

# For audiences to whom a beholder is one surprise too many: the same suite in the words of a shop.
BORING = EndpointSet(
    danger={"login": 1, "payment": 4, "account": 5, "cart": 2, "health": 3, "fastcache": 6},
    tag="endpoint",
    prefix="eStore",
)


def endpoints_for(endpoint_type: str) -> EndpointSet:
    """Give the catalogue for the setting ENDPOINT_TYPE: BORING or, for anything else, the beasts."""
    return BORING if endpoint_type == "BORING" else MYTHICAL
