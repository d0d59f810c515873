"""How much the gateway stores and accepts."""

from dataclasses import dataclass, field, fields

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of the store and of one request; when one is reached, the oldest entries are evicted.

    Bytes are those of the encoded telemetry; what the process uses is about three times as much.
    """

    spans: int = field(default=20_000, metadata={"help": "spans held"})
    span_bytes: int = field(default=24 * MEBIBYTE, metadata={"help": "bytes of spans held"})
    lines: int = field(default=20_000, metadata={"help": "log lines held"})
    line_bytes: int = field(default=16 * MEBIBYTE, metadata={"help": "bytes of log lines held"})
    series: int = field(default=5_000, metadata={"help": "metric series held, the latest point of each"})
    series_bytes: int = field(default=8 * MEBIBYTE, metadata={"help": "bytes of metric points held"})
    # Three services push one each ten seconds: as many as these come while the spans and lines above come in.
    profiles: int = field(default=100, metadata={"help": "profiles held"})
    profile_bytes: int = field(default=16 * MEBIBYTE, metadata={"help": "bytes of profiles held"})
    names: int = field(default=200, metadata={"help": "services and hops counted by name; the rest counts as (other)"})
    body_bytes: int = field(default=16 * MEBIBYTE, metadata={"help": "bytes of one request, after decompression"})
    forward_items: int = field(default=50_000, metadata={"help": "spans, points and lines waiting to be forwarded"})
    forward_bytes: int = field(default=32 * MEBIBYTE, metadata={"help": "bytes waiting to be forwarded"})

    def __post_init__(self) -> None:
        for each in fields(self):
            if getattr(self, each.name) < 1:
                raise ValueError(f"{each.name} must be 1 or more")
