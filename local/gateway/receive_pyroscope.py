"""Accepts profiles as Pyroscope does: by its push service (see push.proto) and by the SDKs' `POST /ingest`.

The push service is one unary method of the Connect protocol, in protobuf or JSON (connectrpc.com/docs/protocol).
"""

from collections.abc import Iterable
from dataclasses import replace

from google.protobuf.message import DecodeError

from local.gateway.http_error import HttpError
from local.gateway.ingest import metric_of, read_ingest
from local.gateway.pprof import LONGEST_TEXT, Pprof, PprofReader
from local.gateway.push_pb2 import LabelPair, PushRequest
from local.gateway.receive_otlp import from_json
from local.gateway.records import LONGEST_NAME, ProfileRecord
from local.gateway.telemetry_store import TelemetryStore
from local.gateway.web import READY, Answer, Request, Route

PATH = "/push.v1.PusherService/Push"
JSON = "application/json"


class PyroscopeReceiver:
    """Stores pushed profiles."""

    def __init__(self, store: TelemetryStore, reader: PprofReader) -> None:
        self._store = store
        self._reader = reader

    def routes(self) -> list[Route]:
        """The routes of the port."""
        return [Route("POST", PATH, self._push), Route("POST", "/ingest", self._ingest), READY]

    def _push(self, request: Request) -> Answer:
        push = read_push(request)
        # All are read before the first is kept: a rejected push must not be accepted in part.
        records = [
            self._record(_texts(each.labels), sample.raw_profile) for each in push.series for sample in each.samples
        ]
        for record in records:
            self._store.add_profile(record)
        # An empty PushResponse, in the encoding of the request, as clients of Connect check.
        return Answer(b"{}" if request.content_type == JSON else b"", request.content_type)

    def _ingest(self, request: Request) -> Answer:
        sent = read_ingest(request)
        record = self._record(sent.labels, sent.raw)
        # The time is that of the query, as in Pyroscope: some SDKs leave it out of the profile.
        record = replace(
            record,
            types=(sent.opaque,) if sent.opaque else record.types,
            time_unix_nano=sent.start_unix_nano,
            duration_s=record.duration_s or sent.duration_s,
        )
        self._store.add_profile(record)
        return Answer()

    def _record(self, labels: dict[str, str], raw: bytes) -> ProfileRecord:
        profile = self._reader.read(raw)
        name = labels.get("__name__") or metric_of(tuple(kind for kind, _ in profile.types))
        return ProfileRecord(
            service=(labels.get("service_name") or "unknown_service")[:LONGEST_NAME],
            labels=labels,
            types=profile_types(name[:LONGEST_TEXT], profile),
            samples=len(profile.stacks),
            duration_s=profile.duration_s,
            time_unix_nano=profile.time_unix_nano,
            span_ids=frozenset(stack.span_id for stack in profile.stacks if stack.span_id),
            raw=raw,
        )


def read_push(request: Request) -> PushRequest:
    """Return the body as a PushRequest. Raises HttpError 415 for a type that is not accepted, 400 if it is invalid."""
    if request.content_type not in {"application/proto", "application/x-protobuf", JSON}:
        raise HttpError(415, f"profiles come as a push.v1.PushRequest with Content-Type application/proto or {JSON}")
    if request.content_type == JSON:
        return from_json(PushRequest(), request.body)
    try:
        return PushRequest.FromString(request.body)
    except DecodeError:
        raise HttpError(400, "the body is not a push.v1.PushRequest in protobuf") from None


def _texts(pairs: Iterable[LabelPair]) -> dict[str, str]:
    return {pair.name: pair.value for pair in pairs}


def profile_types(name: str, profile: Pprof) -> tuple[str, ...]:
    """The names Pyroscope gives a profile's values, such as process_cpu:cpu:nanoseconds:cpu:nanoseconds."""
    return tuple(":".join((name, *each, *profile.period_type)) for each in profile.types)
