"""Queries on the stored profiles: a list of them, merged flame graphs, and the profiled spans."""

import time
from collections.abc import Iterator
from typing import Any

from local.gateway.http_error import HttpError
from local.gateway.pprof import Flame, PprofReader
from local.gateway.telemetry_store import TelemetryStore


def profiles_json(store: TelemetryStore, service: str | None) -> Iterator[dict[str, Any]]:
    """The profiles held, newest first, one entry for each type of value in them."""
    for profile in store.profiles():
        if not service or profile.service == service:
            for kind in profile.types:
                yield {
                    "service": profile.service,
                    "labels": profile.labels,
                    "type": kind,
                    "samples": profile.samples,
                    "duration_s": profile.duration_s,
                    "time_unix_nano": profile.time_unix_nano,
                    "span_ids": len(profile.span_ids),
                }


def flame_json(
    store: TelemetryStore,
    reader: PprofReader,
    service: str,
    kind: str | None,
    span_id: str | None,
    *,
    since_s: float = float("inf"),
) -> dict[str, Any]:
    """The profiles of the last `since_s` seconds of a service and type (its newest one's if None) as one tree.

    With a span's id, of that span's samples only.
    """
    flame, found, oldest = Flame(), False, (time.time() - since_s) * 1e9
    for profile in store.profiles():
        if profile.time_unix_nano < oldest:
            continue
        if profile.service != service or (span_id and span_id not in profile.span_ids):
            continue
        kind = kind or next(iter(profile.types), None)
        if kind not in profile.types:
            continue
        index = profile.types.index(kind)
        for stack in reader.read(profile.raw).stacks:
            if index < len(stack.values) and (not span_id or stack.span_id == span_id):
                found = True  # also without a frame, as samplers record a thread that starts or ends
                flame.add(stack.frames, stack.values[index])
    if not found:
        raise HttpError(404, "no profile of this service, type and span is stored")
    return flame.json()


def profiled_spans_json(store: TelemetryStore, service: str) -> Iterator[dict[str, str]]:
    """The spans that a service's profiles have samples of, newest profile first; name and trace if these are held."""
    known = {span.span_id.hex(): span for span in store.spans() if span.service == service}
    seen: set[str] = set()
    for profile in store.profiles():
        if profile.service != service:
            continue
        for span_id in sorted(profile.span_ids - seen):
            span = known.get(span_id)
            yield {
                "span_id": span_id,
                "name": span.name if span else "",
                "trace_id": span.trace_id.hex() if span else "",
            }
        seen |= profile.span_ids
