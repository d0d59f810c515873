"""Span profiles: a thread has the tags of its root span for as long as the span runs."""

import threading
from collections import defaultdict
from collections.abc import Callable

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, Tracer

from common.telemetry.profiles import MAX_NAMES, OTHER_NAME, PROFILE_ID, ProfileLabelProcessor


class Agent:
    """Keeps the tags of each thread by its ID, like the profiling library."""

    def __init__(self) -> None:
        self._tags: dict[int, list[tuple[str, str]]] = defaultdict(list)

    def add(self, key: str, value: str) -> None:
        """Tag the calling thread."""
        self._tags[threading.get_ident()].append((key, value))

    def remove(self, key: str, value: str) -> None:
        """Remove a tag of the calling thread, which must exist."""
        self._tags[threading.get_ident()].remove((key, value))

    @property
    def here(self) -> dict[str, str]:
        """Return the calling thread's tags; with equal keys, a sample would have both values."""
        tags = self._tags[threading.get_ident()]
        assert len(dict(tags)) == len(tags)
        return dict(tags)

    @property
    def left(self) -> list[tuple[str, str]]:
        """Return all tags of all threads."""
        return [tag for tags in self._tags.values() for tag in tags]


@pytest.fixture
def agent() -> Agent:
    """Return an agent without tags."""
    return Agent()


@pytest.fixture
def tracer(agent: Agent) -> Tracer:
    """Return a tracer whose spans tag threads of the agent."""
    return _tracer(agent, sampled=True)


def _tracer(agent: Agent, *, sampled: bool) -> Tracer:
    provider = TracerProvider(sampler=ALWAYS_ON if sampled else ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(ProfileLabelProcessor(agent.add, agent.remove))
    return provider.get_tracer("test")


def _id(span: trace.Span) -> str:
    return format(span.get_span_context().span_id, "016x")


def _tags(span: trace.Span) -> dict[str, str]:
    assert isinstance(span, ReadableSpan)
    return {"span_id": _id(span), "span_name": span.name}


def _profile_id(span: trace.Span) -> object:
    assert isinstance(span, ReadableSpan)
    return (span.attributes or {}).get(PROFILE_ID)


def _in_a_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@pytest.mark.parametrize("kind", [SpanKind.SERVER, SpanKind.CONSUMER, SpanKind.CLIENT, SpanKind.INTERNAL])
def test_a_root_span_tags_its_thread_while_it_runs(agent: Agent, tracer: Tracer, kind: SpanKind) -> None:
    """Samples taken in the span have its ID and name, and the span has the attribute that links to them."""
    with tracer.start_as_current_span("GET /<beast>", kind=kind) as span:
        assert agent.here == _tags(span)
    assert _profile_id(span) == _id(span)
    assert agent.left == []


def test_there_is_no_trace_id_among_the_tags(agent: Agent, tracer: Tracer) -> None:
    """Pyroscope 1.16 would create a series for each trace."""
    with tracer.start_as_current_span("root"):
        assert agent.here.keys() == {"span_id", "span_name"}


def test_a_child_span_keeps_the_tags_of_its_root(agent: Agent, tracer: Tracer) -> None:
    """The profile of a request includes all its parts; a child has no separate profile."""
    with tracer.start_as_current_span("root") as root, tracer.start_as_current_span("child") as child:
        assert agent.here == _tags(root)
    assert _profile_id(child) is None


def test_a_span_with_a_parent_in_another_process_is_a_root_here(agent: Agent, tracer: Tracer) -> None:
    """The caller's process has the caller's profile; the profile here starts with the span of the request."""
    caller = SpanContext(trace_id=1, span_id=2, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    context = trace.set_span_in_context(NonRecordingSpan(caller))
    with tracer.start_as_current_span("process_message", context=context, kind=SpanKind.CONSUMER) as span:
        assert agent.here == _tags(span)
    assert agent.left == []


def test_a_span_that_is_not_sampled_is_not_tagged(agent: Agent) -> None:
    """The span is not stored, so its profile cannot be queried."""
    with _tracer(agent, sampled=False).start_as_current_span("root"):
        assert agent.here == {}


def test_a_producer_span_is_not_tagged(agent: Agent, tracer: Tracer) -> None:
    """It ends with the broker's confirm, when its thread already does other work."""
    span = tracer.start_span("publish_to_queue", kind=SpanKind.PRODUCER)
    assert agent.here == {}
    _in_a_thread(span.end)
    assert _profile_id(span) is None


def test_a_span_that_is_renamed_removes_its_tags(agent: Agent, tracer: Tracer) -> None:
    """The tags added at the start must be removed at the end, even if the name has changed."""
    with tracer.start_as_current_span("GET") as span:
        span.update_name("GET /<beast>")
    assert agent.left == []


def test_a_nested_root_has_the_tags_until_it_ends(agent: Agent, tracer: Tracer) -> None:
    """A sample belongs to one span: first the inner one, then the outer one again."""
    with tracer.start_as_current_span("outer") as outer:
        with tracer.start_as_current_span("inner", context=Context()) as inner:
            assert agent.here == _tags(inner)
        assert agent.here == _tags(outer)
    assert agent.left == []


def test_nested_roots_may_end_in_any_order(agent: Agent, tracer: Tracer) -> None:
    """If the outer one ends first, the inner one keeps its tags, and no tag is left."""
    outer = tracer.start_span("outer", context=Context())
    inner = tracer.start_span("inner", context=Context())
    outer.end()
    assert agent.here == _tags(inner)
    inner.end()
    assert agent.left == []


def test_threads_have_their_own_tags(agent: Agent, tracer: Tracer) -> None:
    """Two concurrent requests do not mix."""
    with tracer.start_as_current_span("one") as one:
        _in_a_thread(lambda: _check_alone(agent, tracer))
        assert agent.here == _tags(one)


def _check_alone(agent: Agent, tracer: Tracer) -> None:
    with tracer.start_as_current_span("two") as two:
        assert agent.here == _tags(two)


def test_a_span_that_ends_on_another_thread_does_not_change_that_thread(agent: Agent, tracer: Tracer) -> None:
    """A streamed response may be closed by a thread that processes another request."""
    streamed = tracer.start_span("streamed")

    def other() -> None:
        with tracer.start_as_current_span("other") as span:
            streamed.end()
            assert agent.here == _tags(span)

    _in_a_thread(other)


def test_leftover_tags_of_a_span_that_ended_elsewhere_are_removed(agent: Agent, tracer: Tracer) -> None:
    """Only the thread itself can remove its tags, so it does so when it next starts or ends a root span."""
    _in_a_thread(tracer.start_span("streamed").end)
    with tracer.start_as_current_span("next") as span:
        assert agent.here == _tags(span)
    assert agent.left == []


def test_a_thread_that_ends_leaves_no_tags(agent: Agent, tracer: Tracer) -> None:
    """The library identifies threads by an ID that the system reuses at once."""
    spans: list[trace.Span] = []
    _in_a_thread(lambda: spans.append(tracer.start_span("never ended")))
    assert agent.left == []


def test_a_span_without_references_does_not_keep_its_tags(agent: Agent, tracer: Tracer) -> None:
    """It will never end, and its tags must not return when the next span has ended."""
    lost = tracer.start_span("lost")
    del lost
    with tracer.start_as_current_span("next"):
        pass
    assert agent.left == []


def test_the_number_of_names_is_limited(agent: Agent, tracer: Tracer) -> None:
    """Span names may contain data of a client, such as the path of an unknown page, and each name creates a series."""
    seen = set()
    for number in range(MAX_NAMES + 50):
        with tracer.start_as_current_span(f"GET /{number}"):
            seen.add(agent.here["span_name"])
    assert len(seen) == MAX_NAMES + 1
    assert OTHER_NAME in seen


def test_there_is_nothing_to_flush() -> None:
    """The processor must not delay the end of the process."""
    assert ProfileLabelProcessor(lambda *_: None, lambda *_: None).force_flush()
