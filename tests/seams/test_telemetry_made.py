"""Spans and metrics of a running rig have the attributes that docs/reference/telemetry.md documents."""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
from opentelemetry import context
from opentelemetry.instrumentation._semconv import _OpenTelemetrySemanticConventionStability as Stability
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pika import BasicProperties  # type: ignore[import-untyped]  # pika ships no py.typed
from psycopg import OperationalError
from psycopg_pool import ConnectionPool

from common.core.endpoints import MYTHICAL
from common.core.env import Env
from common.faults import LABEL_EXPLOSION, LONG_LABEL, Faults, register_fault_telemetry
from common.messaging.errors import BrokerUnavailable
from common.messaging.handler import Delivery, InstrumentedHandler
from common.messaging.publisher import publish_metrics
from common.messaging.telemetry import (
    mark_failed,
    observe_depths,
    observe_unacknowledged,
    span_attributes,
)
from common.messaging.topology import Broker
from common.telemetry.process import observe_process
from common.telemetry.settings import Conventions, conventions
from common.telemetry.traces import CountingSpanExporter
from common.web.concurrency_limit import ConcurrencyLimiter
from services.recorder.message_handler import MessageHandler
from services.requester.client import Client
from services.requester.danger_gauge import DangerGauge
from services.requester.request_round import RequestRound
from services.requester.traffic_plan import Round
from services.server.config import load
from services.server.faults import register_label_faults
from services.server.sql_telemetry import StatementTracer, observe_pool
from services.server.statements import Statements
from tests.seams.tree import ROOT, rows, sections, words
from tests.unit.services.http_server import Server
from tests.unit.services.recorded import Recorded, attributes
from tests.unit.services.server_rig import Rig

SECTIONS = dict(sections((ROOT / "docs/reference/telemetry.md").read_text(encoding="utf-8")))
MODES = {"both": "http/dup,database/dup", "new": "http,database", "old": "none"}
NO_FAULTS = Faults({}, cast(Any, None))


@dataclass(frozen=True)
class Made:
    """A span that was emitted: its name on the page, its real name, and the names of its attributes."""

    page: str
    name: str
    attributes: frozenset[str]


def made_by(telemetry: Recorded, page: str) -> Iterator[Made]:
    """Yield the recorded spans."""
    for span in telemetry.spans:
        yield Made(page, span.name, frozenset(attributes(span)))


def requester(chosen: Conventions, telemetry: Recorded) -> Iterator[Made]:
    """Send a request that succeeds and one that fails."""
    server = Server()
    client = Client(
        server.address, MYTHICAL, telemetry.tracer, telemetry.meter, connections=1, conventions=chosen, faults=NO_FAULTS
    )
    request_round = RequestRound(MYTHICAL, client, cast(Any, Broken()), DangerGauge(), NO_FAULTS, timeshift_min=0)
    for server.status in (200, 500):
        request_round.run(Round("GET", "unicorn", "", malformed=False, then_delete=False, version=0, pause_s=0))
    client.close()
    server.close()
    return made_by(telemetry, "requester")


class Broken:
    """A publisher that accepts a message and discards it."""

    def publish(self, *_: object, **__: object) -> SimpleNamespace:
        """Return an object with the interface of a future."""
        return SimpleNamespace(add_done_callback=lambda _: None)


def server(mode: str) -> tuple[list[Made], Recorded]:
    """Send requests of every kind."""
    rig = Rig({"OTEL_SEMCONV_STABILITY_OPT_IN": mode})
    rig.client.get("/unicorn?limit=1")
    rig.client.get("/dragon")
    marks = "user_agent.synthetic.type=test,loadtest.user.kind=keeper,loadtest.shape=spike"
    rig.client.get("/unicorn", headers={"baggage": marks})
    rig.client.open("/unicorn", method="BREW")
    rig.store.is_down = True
    rig.client.get("/unicorn", environ_base={"REMOTE_PORT": "1234"})
    return list(made_by(rig.telemetry, "<method> <route>")), rig.telemetry


class ConnectionBroken(OperationalError):
    """The class of error that psycopg raises when the connection breaks."""


def sql(chosen: Conventions, telemetry: Recorded) -> Iterator[Made]:
    """Trace a statement that succeeds and one that fails."""
    spans = StatementTracer(telemetry.tracer, telemetry.meter, load(Env({})).database, chosen)
    statement = Statements("unicorn").newest
    with spans.trace(statement):
        pass
    with pytest.raises(ConnectionBroken), spans.trace(statement):
        raise ConnectionBroken
    return made_by(telemetry, "<operation> <table>")


def messages(telemetry: Recorded) -> Iterator[Made]:
    """Publish and handle a message, and one of each that fails."""
    broker, recording = Broker("mythical-queue"), MessageHandler(MYTHICAL, telemetry.meter, NO_FAULTS, lambda _: None)
    for error in (None, BrokerUnavailable("x")):
        with telemetry.tracer.start_as_current_span(
            "publish_to_queue", attributes=span_attributes(broker, "messages", "publish", "id", 1)
        ) as span:
            if error:
                mark_failed(span, error)
        yield Made("publish_to_queue", "publish_to_queue", frozenset(attributes(telemetry.spans[-1])))
    handler = InstrumentedHandler(
        broker,
        "messages",
        recording.handle,
        tracer=telemetry.tracer,
        meter=telemetry.meter,
        attempts=1,
        max_redeliveries=1,
        max_body_bytes=100,
    )
    marks = {"baggage": "user_agent.synthetic.type=test,loadtest.user.kind=keeper,loadtest.shape=spike"}
    sent = BasicProperties(message_id="id", timestamp=1, headers=marks)
    for text in (b"GET /unicorn", b"nothing"):
        handler.process(Delivery(None, 1, False, sent, text))
        yield Made("process_message", telemetry.spans[-1].name, frozenset(attributes(telemetry.spans[-1])))


@dataclass(frozen=True)
class Played:
    """The telemetry that was emitted in one mode and layer."""

    layer: str
    spans: list[Made]
    telemetry: list[Recorded]


@pytest.fixture(scope="module", params=itertools.product(MODES, ("fast", "stock")), ids="-".join)
def played(request: pytest.FixtureRequest) -> Iterator[tuple[str, Played]]:
    """Emit all telemetry once for each mode and layer."""
    name, layer = request.param
    mode = MODES[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stability, "_initialized", False)
        patch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", mode)
        patch.setenv("INSTRUMENTATION", layer)
        chosen = conventions(Env({"OTEL_SEMCONV_STABILITY_OPT_IN": mode}))
        telemetry = [Recorded() for _ in range(3)]
        spans = [*requester(chosen, telemetry[0]), *sql(chosen, telemetry[1]), *messages(telemetry[2])]
        of_server, server_telemetry = server(mode)
        yield name, Played(layer, [*spans, *of_server], [*telemetry, server_telemetry])


def of_page(page: str, *when: str) -> set[str]:
    """Return the documented attributes of a span, all or those that are present in some cases."""
    return {
        word
        for row in rows(SECTIONS[f"`{page}`"])
        if not when or row["When"] in when
        for word in words(row["Attribute"])
        if word != "endpoint"
    }


def test_each_span_has_the_documented_attributes_and_no_others(played: tuple[str, Played]) -> None:
    """The attributes are those of the old convention, the new one, or both, depending on the mode."""
    mode, made = played
    sure = {"both": ("always", "old", "new"), "old": ("always", "old"), "new": ("always", "new")}[mode]
    # The stock instrumentation sets those of "old alone" in both modes that have old names.
    extra = "nothing" if made.layer == "stock" else "old alone"
    never = {"both": (extra,), "old": ("new",), "new": ("old", "old alone")}[mode]
    for page in {span.page for span in made.spans}:
        present = [span.attributes for span in made.spans if span.page == page]
        union = frozenset[str]().union(*present)
        assert union <= of_page(page), page
        assert of_page(page, *sure) <= union, page
        assert not union & (of_page(page, *never) - of_page(page, *sure)), page


def test_a_failed_span_of_each_kind_has_an_error_type(played: tuple[str, Played]) -> None:
    """`error.type` is on each page. Old conventions of servers do not have it."""
    mode, made = played
    for page in {span.page for span in made.spans}:
        marked = any("error.type" in span.attributes for span in made.spans if span.page == page)
        assert marked or (mode == "old" and page == "<method> <route>")


def test_composed_span_names_have_the_documented_form(played: tuple[str, Played]) -> None:
    """`GET /<beast>` and `SELECT unicorn`."""
    forms = {"<method> <route>": r"(GET|HTTP) /<[a-z:]+>", "<operation> <table>": r"[A-Z]+ unicorn"}
    for span in played[1].spans:
        assert re.fullmatch(forms.get(span.page, re.escape(span.page)), span.name)


def all_metrics(telemetry: Recorded) -> None:
    """Make each remaining instrument measure something."""
    observe_process(telemetry.meter)
    DangerGauge().observe(telemetry.meter)
    stats: Callable[[], dict[str, int]] = dict
    observe_pool(telemetry.meter, cast(ConnectionPool, SimpleNamespace(get_stats=stats)), "postgres")
    publishing = publish_metrics(telemetry.meter, "messages", lambda: 0, lambda: False)
    publishing.record(1, BrokerUnavailable("x"), context.get_current())
    ended = InMemorySpanExporter()
    ended.shutdown()  # from now on it rejects spans
    CountingSpanExporter(ended, cast(MeterProvider, SimpleNamespace(get_meter=lambda _: telemetry.meter))).export([])
    observe_depths(telemetry.meter, lambda: {"messages": 1})
    observe_unacknowledged(telemetry.meter, "messages", lambda: 1, lambda: 1.0)
    full = ConcurrencyLimiter(cast(Any, None), telemetry.meter, max_concurrency=0, max_queue=0)
    full({}, cast(Any, lambda *_: None))
    on = Faults({LABEL_EXPLOSION.name: 1, LONG_LABEL.name: 1}, cast(Any, None))
    register_fault_telemetry(on, telemetry.meter)
    register_label_faults(on, telemetry.meter)


def test_each_metric_has_the_documented_labels(played: tuple[str, Played]) -> None:
    """An undocumented label would be an unexpected dimension."""
    rest = Recorded()
    all_metrics(rest)
    # Tests with a broker or a collector cover these.
    elsewhere = {
        "mythical_messages_retried",
        "mythical_messages_redelivered",
        "mythical_messages_dead_lettered",
        "mythical_log_lines_dropped",
        "otel.sdk.exporter.metric_data_point.exported",
    }
    for row in rows(SECTIONS["Metrics"]):
        (name,) = words(row["Metric"])
        points = [labels for one in (*played[1].telemetry, rest) for labels, _ in one.points(name)]
        assert points or name in elsewhere, name
        if points:
            assert {label for labels in points for label in labels} == set(words(row["Labels"])) - {"endpoint"}, name
