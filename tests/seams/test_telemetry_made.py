"""docs/reference/telemetry.md says of spans and metrics what they really bear when they are made."""

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
from psycopg import OperationalError
from psycopg_pool import ConnectionPool

from common.core.endpoints import MYTHICAL
from common.core.env import Env
from common.faults import LABEL_EXPLOSION, LONG_LABEL, Faults
from common.faults.metrics import mark
from common.messaging import Broker, BrokerUnavailable, Message, Poison, metrics
from common.messaging.spans import mark_failed, process_attributes, publish_attributes
from common.telemetry.exported import CountingSpanExporter
from common.telemetry.process_metrics import observe_process
from common.telemetry.semconv import Conventions, conventions
from common.web.concurrency_limit import ConcurrencyLimiter
from common.web.refusals import RejectedRequests
from services.recorder.message_handler import MessageHandler
from services.requester.client import Client
from services.requester.danger_gauge import Danger
from services.requester.request_round import RequestRound
from services.requester.traffic_plan import Round
from services.server.config import load
from services.server.faults.labels import label_explosion, long_label
from services.server.sql_telemetry import StatementTracer, observe_pool
from services.server.statements import statements
from tests.seams.tree import ROOT, rows, sections, words
from tests.unit.services.http_server import Server
from tests.unit.services.recorded import Recorded, attributes
from tests.unit.services.server_rig import Rig

SECTIONS = dict(sections((ROOT / "docs/reference/telemetry.md").read_text(encoding="utf-8")))
MODES = {"both": "http/dup,database/dup", "new": "http,database", "old": "none"}
NO_FAULTS = Faults({}, cast(Any, None))


@dataclass(frozen=True)
class Made:
    """A span that was made: its name on the page, its own name, and the names of its attributes."""

    page: str
    name: str
    attributes: frozenset[str]


def made_by(told: Recorded, page: str) -> Iterator[Made]:
    """The spans that were told of."""
    for span in told.spans:
        yield Made(page, span.name, frozenset(attributes(span)))


def requester(chosen: Conventions, told: Recorded) -> Iterator[Made]:
    """A request that succeeds and one that fails."""
    server = Server()
    client = Client(
        server.address, MYTHICAL, told.tracer, told.meter, connections=1, conventions=chosen, faults=NO_FAULTS
    )
    journey = RequestRound(MYTHICAL, client, cast(Any, Broken()), Danger(), NO_FAULTS, timeshift_min=0)
    for server.status in (200, 500):
        journey.make(Round("GET", "unicorn", "", wrong=False, then_delete=False, version=0, pause_s=0))
    client.close()
    server.close()
    return made_by(told, "requester")


class Broken:
    """A publisher that takes a message and lets it be forgotten."""

    def publish(self, *_: object, **__: object) -> SimpleNamespace:
        """Give something that looks like a future."""
        return SimpleNamespace(add_done_callback=lambda _: None)


def server(mode: str) -> tuple[list[Made], Recorded]:
    """Requests of every kind."""
    rig = Rig({"OTEL_SEMCONV_STABILITY_OPT_IN": mode})
    rig.client.get("/unicorn?limit=1")
    rig.client.get("/dragon")
    marks = "user_agent.synthetic.type=test,loadtest.user.kind=keeper,loadtest.shape=spike"
    rig.client.get("/unicorn", headers={"baggage": marks})
    rig.client.open("/unicorn", method="BREW")
    rig.store.away = True
    rig.client.get("/unicorn", environ_base={"REMOTE_PORT": "1234"})
    return list(made_by(rig.told, "<method> <route>")), rig.told


class Away(OperationalError):
    """What psycopg raises when the connection breaks."""


def sql(chosen: Conventions, told: Recorded) -> Iterator[Made]:
    """A statement that succeeds and one that fails."""
    spans = StatementTracer(told.tracer, told.meter, load(Env({})).database, chosen)
    statement = statements("unicorn").newest
    with spans.span(statement):
        pass
    with pytest.raises(Away), spans.span(statement):
        raise Away
    return made_by(told, "<operation> <table>")


def messages(told: Recorded) -> Iterator[Made]:
    """A message that is published and recorded, and one of each that fails."""
    broker, recording = Broker("mythical-queue"), MessageHandler(MYTHICAL, told.meter, NO_FAULTS, lambda _: None)
    for error in (None, BrokerUnavailable("x")):
        with told.tracer.start_as_current_span(
            "publish_to_queue", attributes=publish_attributes(broker, "messages", "id", 1)
        ) as span:
            if error:
                mark_failed(span, error)
        yield Made("publish_to_queue", "publish_to_queue", frozenset(attributes(told.spans[-1])))
    for text in ("GET /unicorn", "nothing"):
        with told.tracer.start_as_current_span(
            "process_message", attributes=process_attributes(broker, "messages", "id", 1, 1)
        ) as span:
            try:
                recording.record(Message(text, b"", "id", {}, redelivered=False, attempt=1))
            except Poison as poison:
                mark_failed(span, poison)
        yield Made("process_message", "process_message", frozenset(attributes(told.spans[-1])))


@dataclass(frozen=True)
class Played:
    """Everything that was made in one mode."""

    spans: list[Made]
    told: list[Recorded]


@pytest.fixture(scope="module", params=MODES)
def played(request: pytest.FixtureRequest) -> Iterator[tuple[str, Played]]:
    """All of it once for each mode."""
    mode = MODES[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stability, "_initialized", False)
        patch.delenv("OTEL_SEMCONV_STABILITY_OPT_IN", raising=False)
        chosen = conventions(Env({"OTEL_SEMCONV_STABILITY_OPT_IN": mode}))
        told = [Recorded() for _ in range(3)]
        spans = [*requester(chosen, told[0]), *sql(chosen, told[1]), *messages(told[2])]
        of_server, server_told = server(mode)
        yield request.param, Played([*spans, *of_server], [*told, server_told])


def of_page(page: str, *when: str) -> set[str]:
    """The documented attributes of a span that are there then."""
    return {
        word
        for row in rows(SECTIONS[f"`{page}`"])
        if not when or row["When"] in when
        for word in words(row["Attribute"])
        if word != "endpoint"
    }


def test_each_span_bears_what_is_documented_and_nothing_else(played: tuple[str, Played]) -> None:
    """In the mode that is set: the attributes of the one convention, of the other, or of both."""
    mode, made = played
    sure = {"both": ("always", "old", "new"), "old": ("always", "old"), "new": ("always", "new")}[mode]
    never = {"both": ("old alone",), "old": ("new",), "new": ("old", "old alone")}[mode]
    for page in {span.page for span in made.spans}:
        bearing = [span.attributes for span in made.spans if span.page == page]
        union = frozenset[str]().union(*bearing)
        assert union <= of_page(page), page
        assert of_page(page, *sure) <= union, page
        assert not union & (of_page(page, *never) - of_page(page, *sure)), page


def test_a_failure_is_marked_with_its_error_type_in_every_span(played: tuple[str, Played]) -> None:
    """So `error.type` is on each page, and on some span of each kind; the old conventions of servers had none."""
    mode, made = played
    for page in {span.page for span in made.spans}:
        marked = any("error.type" in span.attributes for span in made.spans if span.page == page)
        assert marked or (mode == "old" and page == "<method> <route>")


def test_composed_names_are_of_the_documented_form(played: tuple[str, Played]) -> None:
    """`GET /<beast>` and `SELECT unicorn`."""
    forms = {"<method> <route>": r"(GET|HTTP) /<[a-z:]+>", "<operation> <table>": r"[A-Z]+ unicorn"}
    for span in played[1].spans:
        assert re.fullmatch(forms.get(span.page, re.escape(span.page)), span.name)


def all_metrics(told: Recorded) -> None:
    """Have each remaining instrument measure something."""
    observe_process(told.meter)
    Danger().observe(told.meter)
    stats: Callable[[], dict[str, int]] = dict
    observe_pool(told.meter, cast(ConnectionPool, SimpleNamespace(get_stats=stats)), "postgres")
    publishing = metrics.publishing(told.meter, "messages", lambda: 0, lambda: False)
    publishing.record(1, BrokerUnavailable("x"), context.get_current())
    ended = InMemorySpanExporter()
    ended.shutdown()  # from now on it takes no spans
    CountingSpanExporter(ended, cast(MeterProvider, SimpleNamespace(get_meter=lambda _: told.meter))).export([])
    metrics.processing(told.meter, "messages").record(1, Poison("x"), context.get_current())
    metrics.ages(told.meter, "messages")(1, context.get_current())
    metrics.depths(told.meter, lambda: {"messages": 1})
    full = ConcurrencyLimiter(cast(Any, None), RejectedRequests(told.meter), working=0, waiting=0)
    full({}, cast(Any, lambda *_: None))
    on = Faults({LABEL_EXPLOSION.name: 1, LONG_LABEL.name: 1}, cast(Any, None))
    mark(on, told.meter)
    label_explosion(on, told.meter)
    long_label(on, told.meter)


def test_each_metric_has_the_documented_labels(played: tuple[str, Played]) -> None:
    """No more, for every one is a dimension; and no fewer."""
    rest = Recorded()
    all_metrics(rest)
    # Counted where a broker or a collector is, and tested there.
    elsewhere = {
        "mythical_messages_retried",
        "mythical_messages_dead_lettered",
        "mythical_log_lines_dropped",
    }
    for row in rows(SECTIONS["Metrics"]):
        (name,) = words(row["Metric"])
        points = [labels for told in (*played[1].told, rest) for labels, _ in told.points(name)]
        assert points or name in elsewhere, name
        if points:
            assert {label for labels in points for label in labels} == set(words(row["Labels"])) - {"endpoint"}, name
