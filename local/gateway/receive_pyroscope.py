"""Accepts profiles as Pyroscope's push service does (see push.proto); the response is an empty PushResponse."""

from collections.abc import Iterable

from google.protobuf.message import DecodeError

from local.gateway.http_error import HttpError
from local.gateway.pprof import LONGEST_TEXT, Pprof, PprofReader
from local.gateway.push_pb2 import LabelPair, PushRequest, RawSample
from local.gateway.records import LONGEST_NAME, ProfileRecord
from local.gateway.telemetry_store import TelemetryStore
from local.gateway.web import Answer, Request, Route

PATH = "/push.v1.PusherService/Push"


class PyroscopeReceiver:
    """Adds pushed profiles to the window."""

    def __init__(self, window: TelemetryStore, reader: PprofReader) -> None:
        self._window = window
        self._reader = reader

    def routes(self) -> list[Route]:
        """The one route of the port."""
        return [Route("POST", PATH, self._push)]

    def _push(self, request: Request) -> Answer:
        if request.content_type not in {"application/proto", "application/x-protobuf"}:
            raise HttpError(415, "profiles come as a push.v1.PushRequest with Content-Type application/proto")
        try:
            push = PushRequest.FromString(request.body)
        except DecodeError:
            raise HttpError(400, "the body is not a push.v1.PushRequest in protobuf") from None
        # All are read before the first is kept: a rejected push must not be accepted in part.
        records = [self._record(each.labels, sample) for each in push.series for sample in each.samples]
        for record in records:
            self._window.add_profile(record)
        return Answer(content_type="application/proto")

    def _record(self, label_pairs: Iterable[LabelPair], sample: RawSample) -> ProfileRecord:
        labels = {pair.name: pair.value for pair in label_pairs}
        profile = self._reader.read(sample.raw_profile)
        return ProfileRecord(
            service=(labels.get("service_name") or "unknown_service")[:LONGEST_NAME],
            labels=labels,
            types=profile_types(labels.get("__name__", "profile")[:LONGEST_TEXT], profile),
            samples=len(profile.stacks),
            duration_s=profile.duration_s,
            time_unix_nano=profile.time_unix_nano,
            span_ids=frozenset(stack.span_id for stack in profile.stacks if stack.span_id),
            raw=sample.raw_profile,
        )


def profile_types(name: str, profile: Pprof) -> tuple[str, ...]:
    """The names Pyroscope gives a profile's values, such as process_cpu:cpu:nanoseconds:cpu:nanoseconds."""
    return tuple(":".join((name, *each, *profile.period_type)) for each in profile.types)
