"""Reads what Pyroscope's SDKs for Go, Node, Ruby and others send to `POST /ingest`.

Source of the format: the page "Server HTTP API" of Pyroscope's documentation. The query has `name` (application and
labels, `app{key=value}`), `from` and `until` (time since 1970, or relative such as `now-10s`), `format`, `sampleRate`
in Hz and `spyName`; the body is a pprof profile, a form with the part `profile`, or text with one stack a line.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email import message_from_bytes

from common.telemetry.pprof.profile_pb2 import Profile
from local.gateway.http_error import HttpError
from local.gateway.pprof import DEPTH, LONGEST_TEXT
from local.gateway.web import Request

# Formats that Pyroscope reads and this gateway does not: such a profile is counted and listed, without its stacks.
OPAQUE = ("jfr", "trie", "tree", "speedscope")
NAME = re.compile(r"([^{}]+)(?:\{([^{}]*)\})?")
# The unit of a time is known by its number of digits, as in Pyroscope.
NANOSECONDS_PER_UNIT = {10: 10**9, 13: 10**6, 16: 10**3, 19: 1}
# A time relative to now; Pyroscope took these from Graphite. A plus sign in a query is a blank.
RELATIVE_TIME = re.compile(r"(?:now)?(?:([-+ ])((?:[0-9]{1,9}[a-zA-Z]+)+))?")
SECONDS_PER_UNIT = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800, "mon": 2592000, "y": 31536000}
MOST_PARTS = 10
LARGEST_VALUE = 2**63 - 1
# What Pyroscope calls a profile, by a part of the name of one of its values.
METRICS = {
    "inuse_": "memory",
    "alloc_": "memory",
    "mutex": "mutex",
    "block": "block",
    "goroutine": "goroutines",
    "wall": "wall",
    "cpu": "process_cpu",
    "samples": "process_cpu",
}


@dataclass(frozen=True, slots=True)
class Ingested:
    """A profile that was sent: pprof in `raw`, or empty where `opaque` names a format that is not read."""

    labels: dict[str, str]
    start_unix_nano: int
    duration_s: float
    raw: bytes = b""
    opaque: str = ""


def read_ingest(request: Request) -> Ingested:
    """Return the profile of a request. Raises HttpError 400 if it is invalid."""
    query = request.query
    labels = _labels(query.get("name", "")) | {"pyroscope_spy": query.get("spyName", "unknown")[:LONGEST_TEXT]}
    now = time.time_ns()
    start, end = _time(query, "from", now), _time(query, "until", now)
    duration_s = max(0, end - start) / 1e9
    form = dict(_parts(request)) if request.content_type == "multipart/form-data" else {}
    kind = query.get("format") or request.content_type.partition("+")[2]
    opaque = kind if kind in OPAQUE else "jfr" if "jfr" in form else ""
    if opaque:
        return Ingested(labels, start, duration_s, opaque=opaque)
    if form or kind == "pprof" or request.content_type == "multipart/form-data":
        raw = form.get("profile", b"") if form else request.body
        if not raw:
            raise HttpError(400, "the form has no part named profile")
        return Ingested(labels | _renamed(form), start, duration_s, raw)
    application, _, suffix = labels["service_name"].rpartition(".")
    if application and suffix in {"cpu", "wall", "itimer", "samples"}:
        labels["service_name"] = application
    rate = _sample_rate(query.get("sampleRate", "100"))
    raw = _pprof(request.body, 10**9 // rate, one_each=kind == "lines")
    return Ingested(labels | {"__name__": "process_cpu"}, start, duration_s, raw)


def metric_of(names: tuple[str, ...]) -> str:
    """Return what Pyroscope calls a profile with values of these names: process_cpu, memory, … (`__name__`)."""
    return next((metric for part, metric in METRICS.items() if any(part in name for name in names)), "profile")


def _labels(name: str) -> dict[str, str]:
    found = NAME.fullmatch(name.strip())
    if not found:
        raise HttpError(400, "the query needs name=application or name=application{label=value,…}")
    pairs = [pair.partition("=") for pair in (found[2] or "").split(",") if pair.strip()]
    if not all(key.strip() and equals for key, equals, _ in pairs):
        raise HttpError(400, "the labels in name must be {label=value,…}")
    return {"service_name": found[1].strip()} | {key.strip(): value.strip(' "') for key, _, value in pairs}


def _time(query: Mapping[str, str], field: str, now: int) -> int:
    """Return a time in ns since 1970."""
    text = query.get(field, "").strip()
    if text.isascii() and text.isdigit() and len(text) in NANOSECONDS_PER_UNIT:
        return min(int(text) * NANOSECONDS_PER_UNIT[len(text)], LARGEST_VALUE)
    relative = RELATIVE_TIME.fullmatch(text)
    parts = re.findall("([0-9]+)([a-zA-Z]+)", relative[2] or "") if relative else []
    if not relative or not all(unit in SECONDS_PER_UNIT for _, unit in parts):
        raise HttpError(400, f"{field} must be a time since 1970 in s, ms, µs or ns, or relative such as now-10s")
    distance = sum(int(number) * SECONDS_PER_UNIT[unit] for number, unit in parts) * 10**9
    return min(max(0, now - distance if relative[1] == "-" else now + distance), LARGEST_VALUE)


def _sample_rate(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):  # noqa: PLR2004 - up to 1 GHz
        raise HttpError(400, "sampleRate must be a whole number of samples per second")
    return int(text)


def _parts(request: Request) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each part of a form. Source of the format: RFC 2046, section 5.1.1, and RFC 7578."""
    boundary = str(request.headers.get_param("boundary") or "").encode("latin-1", "replace")
    first, *parts = (b"\r\n" + request.body).split(b"\r\n--" + boundary, MOST_PARTS)
    if not boundary or first or not parts or not parts[-1].startswith(b"--"):
        raise HttpError(400, f"the body is not a form of at most {MOST_PARTS - 1} parts with the boundary of its head")
    for part in parts[:-1]:
        head, _, content = part.lstrip(b" \t").removeprefix(b"\r\n").partition(b"\r\n\r\n")
        yield str(message_from_bytes(head).get_param("name", "", "Content-Disposition")), content


def _renamed(form: Mapping[str, bytes]) -> dict[str, str]:
    """Return the label `__name__` if the form says what its values are called: contentions may be mutex or block."""
    try:
        config = json.loads(form.get("sample_type_config", b"{}"))
        names = tuple(str(each.get("display-name", "")) for each in config.values())
    except (ValueError, RecursionError, AttributeError):
        raise HttpError(400, "the part sample_type_config is not a JSON object of objects") from None
    metric = metric_of(names)
    return {} if metric == "profile" else {"__name__": metric}


def _pprof(text: bytes, period_ns: int, *, one_each: bool) -> bytes:
    """Return text of lines `outer;inner count`, or `outer;inner` if `one_each`, as a pprof profile of CPU time."""
    profile, texts, locations = Profile(period=period_ns), {"": 0, "cpu": 1, "nanoseconds": 2}, dict[str, int]()
    profile.sample_type.add(type=1, unit=2)
    profile.period_type.type, profile.period_type.unit = 1, 2
    for line in text.decode("utf-8", "replace").splitlines():
        frames, _, count = (line.strip(), "", "1") if one_each else line.strip().rpartition(" ")
        if not line.strip():
            continue
        if not (frames and count.isascii() and count.isdigit() and len(count) < 20):  # noqa: PLR2004 - digits of 2**63
            raise HttpError(400, "the body must have lines such as main;work 12, or be sent with format=pprof")
        sample = profile.sample.add(value=[min(int(count) * period_ns, LARGEST_VALUE)])
        for frame in reversed([each[:LONGEST_TEXT] for each in frames.split(";", DEPTH)[:DEPTH]]):
            if frame not in locations:
                number = locations[frame] = len(locations) + 1
                profile.function.add(id=number, name=texts.setdefault(frame, len(texts)))
                profile.location.add(id=number).line.add(function_id=number)
            sample.location_id.append(locations[frame])
    profile.string_table.extend(each.encode() for each in texts)
    encoded: bytes = profile.SerializeToString()
    return encoded
