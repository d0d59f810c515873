"""What a sampler and a span processor can decide by: attributes that a span has when it starts."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from common.core.endpoints import MYTHICAL
from common.core.env import Env
from common.faults import Faults
from common.telemetry.settings import Conventions
from services.requester.client import Client
from services.server.config import load
from services.server.sql_telemetry import StatementTracer
from services.server.statements import Statements
from tests.unit.services.recorded import Recorded
from tests.unit.services.server_rig import Rig

BOTH = Conventions(old_http=True, new_http=True, old_database=True, new_database=True)


class NotingSampler(Sampler):
    """Samples everything, and notes the attributes that it decided by."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, Any]] = {}

    def should_sample(  # noqa: PLR0917 - the SDK's signature
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,  # noqa: ARG002 - the same
    ) -> SamplingResult:
        """Sample."""
        self.seen[name] = dict(attributes or {})
        return ALWAYS_ON.should_sample(parent_context, trace_id, name, kind, attributes, links)

    def get_description(self) -> str:
        """Return the name."""
        return "noting"


@pytest.mark.parametrize("layer", ["fast", "stock"])
def test_the_span_of_a_request_starts_with_method_route_target_and_scheme(
    layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the names of both generations, in both layers."""
    monkeypatch.setenv("INSTRUMENTATION", layer)
    sampler = NotingSampler()
    Rig(sampler=sampler).client.get("/unicorn")
    expected = {
        "http.method": "GET",
        "http.request.method": "GET",
        "http.route": "/<beast>",
        "http.target": "/unicorn",
        "url.path": "/unicorn",
        "http.scheme": "http",
        "url.scheme": "http",
    }
    seen = sampler.seen["GET /<beast>"]
    assert {name: seen.get(name) for name in expected} == expected


def test_the_span_of_a_statement_starts_with_all_that_is_known_of_it() -> None:
    """The system, the operation, the table and the server."""
    sampler = NotingSampler()
    told = Recorded(sampler)
    spans = StatementTracer(told.tracer, told.meter, load(Env({})).database, BOTH)
    with spans.trace(Statements("unicorn").newest):
        pass
    seen = sampler.seen["SELECT unicorn"]
    assert seen == told.span.attributes
    assert (seen["db.system"], seen["db.system.name"], seen["db.collection.name"]) == (
        "postgresql",
        "postgresql",
        "unicorn",
    )
    assert {"server.address", "net.peer.name", "db.operation.name"} <= seen.keys()


def test_the_span_of_the_requester_starts_with_method_target_and_server() -> None:
    """Before anything is sent."""
    sampler = NotingSampler()
    told = Recorded(sampler)
    faults = Faults({}, random.Random(1))  # noqa: S311 - dice, not secrets
    client = Client(("127.0.0.1", 1), MYTHICAL, told.tracer, told.meter, connections=1, conventions=BOTH, faults=faults)
    with client.span("GET", "unicorn", None):
        pass
    client.close()
    seen = sampler.seen["requester"]
    assert (seen["http.request.method"], seen["http.target"], seen["server.address"]) == (
        "GET",
        "/unicorn",
        "127.0.0.1",
    )
