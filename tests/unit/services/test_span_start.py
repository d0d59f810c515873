"""Spans have the attributes at their start that samplers and span processors need for decisions."""

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


class RecordingSampler(Sampler):
    """Samples everything and records the attributes that it received."""

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
        """Record the attributes and sample."""
        self.seen[name] = dict(attributes or {})
        return ALWAYS_ON.should_sample(parent_context, trace_id, name, kind, attributes, links)

    def get_description(self) -> str:
        """Return the name."""
        return "recording"


@pytest.mark.parametrize("layer", ["fast", "stock"])
def test_the_span_of_a_request_starts_with_method_route_target_and_scheme(
    layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attributes have the names of both conventions, in both layers."""
    monkeypatch.setenv("INSTRUMENTATION", layer)
    sampler = RecordingSampler()
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


def test_the_span_of_a_statement_starts_with_all_its_attributes() -> None:
    """The system, the operation, the table, and the server are known at the start."""
    sampler = RecordingSampler()
    telemetry = Recorded(sampler)
    spans = StatementTracer(telemetry.tracer, telemetry.meter, load(Env({})).database, BOTH)
    with spans.trace(Statements("unicorn").newest):
        pass
    seen = sampler.seen["SELECT unicorn"]
    assert seen == telemetry.span.attributes
    assert (seen["db.system"], seen["db.system.name"], seen["db.collection.name"]) == (
        "postgresql",
        "postgresql",
        "unicorn",
    )
    assert {"server.address", "net.peer.name", "db.operation.name"} <= seen.keys()


def test_the_span_of_the_requester_starts_with_method_target_and_server() -> None:
    """They are set before anything is sent."""
    sampler = RecordingSampler()
    telemetry = Recorded(sampler)
    faults = Faults({}, random.Random(1))  # noqa: S311 - not for secrets
    client = Client(
        ("127.0.0.1", 1), MYTHICAL, telemetry.tracer, telemetry.meter, connections=1, conventions=BOTH, faults=faults
    )
    with client.span("GET", "unicorn", None):
        pass
    client.close()
    seen = sampler.seen["requester"]
    assert (seen["http.request.method"], seen["http.target"], seen["server.address"]) == (
        "GET",
        "/unicorn",
        "127.0.0.1",
    )
