"""Continuous profiles, pushed to a Pyroscope server by pyroscope-io.

Samples that are taken while a span runs are labelled with its id, so that a trace leads to its flame graph.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from weakref import ref

import requests
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanKind

from common.telemetry.delivery import content_type, describe, with_headers

log = logging.getLogger(__name__)

SAMPLE_RATE_HZ = 100
# To connect and to read, in seconds.
CHECK_TIMEOUT_S = (2.0, 7.0)
PUSH_PATH = "/push.v1.PusherService/Push"
REJECTED = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405, 407, *range(500, 600)})

# The names that Pyroscope and Grafana look for. No trace_id: servers of the 1.16 line would index it, one series for
# each trace; they keep the span's id out of the index.
PROFILE_ID = "pyroscope.profile.id"
SPAN_ID = "span_id"
SPAN_NAME = "span_name"

# A span's name is an indexed label, with a series for each value, and may contain what a client sent.
MAX_NAMES = 100
OTHER_NAME = "other"

LabelCall = Callable[[str, str], object]


class Profiles:
    """The profiler of this process, running or not; the library allows one per process.

    While it runs, it checks at each interval whether the server responds and accepts pushes, and logs one line when
    that changes. At the root any response below 500 counts: what is there differs between Pyroscope and its receivers.
    A single push that is rejected shows in the library's own lines, with LOG_LEVEL=DEBUG.
    """

    def __init__(
        self,
        service: str,
        server_address: str,
        tags: Mapping[str, str],
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
        memory: bool = False,
        upload_interval_s: int = 10,
    ) -> None:
        """Start to sample and push under the service's name; with an empty address nothing is started.

        `server_address` is a URL, `tags` become labels of each profile, each push has the `headers`. Threads on the CPU
        that hold the interpreter lock are sampled, so an idle process pushes nothing at all. `memory` adds allocation
        profiles, which slow code that allocates much by about 30 %.

        A profile whose push fails is lost. Call it in the process that does the work, after any fork: the sampler is a
        thread and does not survive one.
        """
        self.running = False
        self._address = server_address
        self._headers = headers
        self._interval_s = upload_interval_s
        self._stop = threading.Event()
        if not server_address:
            return
        import pyroscope  # here, as its native library needs memory that a process without profiles can save

        # The library logs natively to standard error, one line for each push that failed: every ten seconds while the
        # server is unavailable. Those are for debugging; `_check_server` logs the changes of state.
        logging.getLogger("pyroscope").setLevel(logging.ERROR)
        self.running = pyroscope.configure(
            application_name=service,
            server_address=server_address,
            tags=dict(tags),
            http_headers=dict(headers),
            sample_rate=SAMPLE_RATE_HZ,
            upload_interval=upload_interval_s,
            mem_enabled=memory,
            enable_logging=log.isEnabledFor(logging.DEBUG),
        )
        if self.running:
            threading.Thread(target=self._check_server, name="profiles-health", daemon=True).start()
        else:
            log.warning("Profiles are not pushed: this process pushes profiles already.")

    def span_processor(self) -> "ProfileLabelProcessor | None":
        """Return the processor that labels samples with spans, or None if no profiles are taken."""
        if not self.running:
            return None
        import pyroscope

        return ProfileLabelProcessor(pyroscope.add_thread_tag, pyroscope.remove_thread_tag)

    def close(self, timeout_s: float) -> bool:
        """Push the last samples and stop; return False if that took longer than `timeout_s`.

        The library's own shutdown waits up to half a minute for a server that accepts the connection and never
        responds, hence a daemon thread that is left behind.
        """
        if not self.running:
            return True
        import pyroscope

        self.running = False
        self._stop.set()
        last_push = threading.Thread(target=pyroscope.shutdown, name="profiles-close", daemon=True)
        last_push.start()
        last_push.join(timeout_s)
        return not last_push.is_alive()

    def _check_server(self) -> None:
        failed = False
        while not self._stop.wait(self._interval_s):
            problem = self._problem()
            if self._stop.is_set() or failed == bool(problem):
                continue
            failed = bool(problem)
            if failed:
                log.warning(
                    "profile server unavailable", extra={"fields": {"profiles": self._address, "error": problem}}
                )
            else:
                log.info("profile server available again", extra={"fields": {"profiles": self._address}})

    def _problem(self) -> str:
        """Return why profiles are not delivered, or an empty string.

        The second request is a push of no profiles, which Pyroscope rejects and other receivers accept: a redirect, a
        page or a status about access or the path is not the answer of either.
        """
        request = partial(requests.request, timeout=CHECK_TIMEOUT_S, allow_redirects=False)
        push, kind = f"{self._address}{PUSH_PATH}", {"content-type": "application/proto"}
        try:
            with suppress_instrumentation():  # not part of any request: no span
                response = request("GET", self._address)
                if response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
                    response = request("POST", push, headers=kind, auth=with_headers(self._headers))
                    if response.status_code not in REJECTED and content_type(response) != "text/html":
                        return ""
        except requests.RequestException as error:
            return type(error).__name__
        return describe(response)


class ProfileLabelProcessor(SpanProcessor):
    """Labels the thread that starts a local root span, one without a parent in this process, until the span ends.

    Spans of servers, consumers, clients and internal work are used. A producer's span is not: it ends at the broker's
    confirm, long after its thread continued with other work. Neither is a span that is not sampled, because its profile
    cannot be found. Child spans count into their root's profile. Within a nested root only the inner one is used.

    A span that ends on another thread leaves its labels on the first one until that starts or ends its next root: a
    thread can remove only its own labels.
    """

    def __init__(self, add: LabelCall, remove: LabelCall) -> None:
        """Accept the two functions that add and remove a label, key and value, of the calling thread."""
        self._of_thread = _OfThread(add, remove)
        self._names: set[str] = set()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 - the SDK's signature
        """Mark the span as one with a profile and label the thread, if it is a root that runs here."""
        parent, context = span.parent, span.context
        if parent is not None and not parent.is_remote:
            return
        if span.kind is SpanKind.PRODUCER or not context.trace_flags.sampled:
            return
        span_id = format(context.span_id, "016x")
        span.set_attribute(PROFILE_ID, span_id)
        self._of_thread.labels.start((span_id, self._bounded(span.name), ref(span)))

    def on_end(self, span: ReadableSpan) -> None:
        """Remove the labels that were added at the start, even if the span was renamed since."""
        parent = span.parent
        if parent is None or parent.is_remote:
            self._of_thread.labels.end()

    def _bounded(self, name: str) -> str:
        if name not in self._names:
            if len(self._names) >= MAX_NAMES:
                return OTHER_NAME
            self._names.add(name)
        return name


# The id and the name of a root, and the root itself as long as something else references it.
_Root = tuple[str, str, ref[Span]]


class ThreadLabels:
    """The unfinished roots that were started on one thread, and the one whose labels the thread has."""

    def __init__(self, add: LabelCall, remove: LabelCall) -> None:
        self._add = add
        self._remove = remove
        self._roots: list[_Root] = []
        self._shown: _Root | None = None

    def start(self, root: _Root) -> None:
        """Label the thread with this root."""
        self._forget_ended()
        self._roots.append(root)
        self._show(root)

    def end(self) -> None:
        """Label the thread with the innermost root that still runs, if any."""
        self._forget_ended()
        self._show(self._roots[-1] if self._roots else None)

    def _forget_ended(self) -> None:
        """Remove the innermost roots that have ended, or are lost: one without references will never end."""
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
        """Remove the labels as the thread ends: they belong to a thread number, which the next thread gets."""
        self._show(None)


class _OfThread(threading.local):
    """The labels of the thread that reads it; Python calls `__init__` in each thread that does, once."""

    def __init__(self, add: LabelCall, remove: LabelCall) -> None:
        self.labels = ThreadLabels(add, remove)
