"""Span profiles: the samples taken while a span runs carry its id, so that a trace leads to its flame graph."""

import threading
from collections.abc import Callable
from weakref import ref

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanKind

# The names that Pyroscope and Grafana look for. No trace_id: servers of the 1.16 line would index it, a series for
# each trace; the span's id they keep out of the index.
PROFILE_ID = "pyroscope.profile.id"
SPAN_ID = "span_id"
SPAN_NAME = "span_name"

# A span's name is a label of the server's, with a series for each value, and may hold what a client sent.
MOST_NAMES = 100
OTHER_NAME = "other"

TagCall = Callable[[str, str], object]


class ProfileLabelProcessor(SpanProcessor):
    """Tags the thread that starts a local root span, one without a parent in this process, until the span ends.

    Servers, consumers, clients and internal work are tagged. A producer's span is not: it ends at the broker's
    confirm, long after its thread went on to other work. Neither is a span that is not sampled, for nobody will look
    for its profile. Child spans count into their root's profile. Within a nested root only the inner one is tagged.

    A span that ends on another thread leaves its tags on the first one until that starts or ends its next root: tags
    can be taken off by their own thread only.
    """

    def __init__(self, add: TagCall, remove: TagCall) -> None:
        """Take the two calls that add and remove a tag, key and value, of the calling thread."""
        self._add = add
        self._remove = remove
        self._threads = threading.local()
        self._names: set[str] = set()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 - the SDK's signature
        """Mark the span as one with a profile and tag the thread, if it is a root that runs here."""
        parent, context = span.parent, span.context
        if parent is not None and not parent.is_remote:
            return
        if span.kind is SpanKind.PRODUCER or not context.trace_flags.sampled:
            return
        span_id = format(context.span_id, "016x")
        span.set_attribute(PROFILE_ID, span_id)
        try:
            tags: _ThreadTags = self._threads.tags
        except AttributeError:
            tags = self._threads.tags = _ThreadTags(self._add, self._remove)
        tags.start((span_id, self._bounded(span.name), ref(span)))

    def on_end(self, span: ReadableSpan) -> None:
        """Take off what was tagged at the start, whatever the span is called by now."""
        parent = span.parent
        if parent is None or parent.is_remote:
            tags: _ThreadTags | None = getattr(self._threads, "tags", None)
            if tags is not None:
                tags.end()

    def shutdown(self) -> None:
        """Nothing is held."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the SDK's signature
        """Nothing is held."""
        return True

    def _bounded(self, name: str) -> str:
        if name not in self._names:
            if len(self._names) >= MOST_NAMES:
                return OTHER_NAME
            self._names.add(name)
        return name


# The id and the name that a root is tagged with, and the root itself as long as anyone else holds it.
_Root = tuple[str, str, ref[Span]]


class _ThreadTags:
    """The roots that were started on one thread and are not over, and the one whose tags it has."""

    def __init__(self, add: TagCall, remove: TagCall) -> None:
        self._add = add
        self._remove = remove
        self._roots: list[_Root] = []
        self._shown: _Root | None = None

    def start(self, root: _Root) -> None:
        """Let the root have the thread's tags."""
        self._forget_ended()
        self._roots.append(root)
        self._show(root)

    def end(self) -> None:
        """Give the tags to the innermost root that still runs."""
        self._forget_ended()
        self._show(self._roots[-1] if self._roots else None)

    def _forget_ended(self) -> None:
        """Drop the innermost roots that are over, or lost: one that nobody holds any more will never end."""
        while self._roots and ((span := self._roots[-1][2]()) is None or span.end_time is not None):
            self._roots.pop()

    def _show(self, root: _Root | None) -> None:
        shown, self._shown = self._shown, root
        if shown is root:
            return
        if shown is not None:
            self._remove(SPAN_ID, shown[0])
            self._remove(SPAN_NAME, shown[1])
        if root is not None:
            self._add(SPAN_ID, root[0])
            self._add(SPAN_NAME, root[1])

    def __del__(self) -> None:
        """Leave the thread clean as it ends: tags go by thread number, and the next thread gets the same one."""
        self._show(None)
