"""Sends the log of the demo's Postgres to the gateway, as alloy/logs.alloy does with Docker: without values.

Errors, and the conditions of plans, contain values of statements. What leaves is a plan or the first line of a message;
quoted values and the numbers of conditions are replaced by `?`.
"""

import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

POLL_S = 1.0
LABELS = {"job": "postgres", "service_name": "postgres", "service": "postgres"}
LEVELS = {"LOG": "info", "INFO": "info", "NOTICE": "info", "WARNING": "warn", "ERROR": "error"}

# The patterns are those of alloy/logs.alloy; tests/stack/test_alloy_postgres_log.py compares the results.
FIRST = re.compile(
    r"^(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC) \[(?P<pid>\d+)\] query_id=(?P<query_id>-?\d+) "
    r"sqlstate=(?P<sqlstate>\w{5}) (?P<severity>LOG|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC):  ",
    re.MULTILINE,
)
PLAN = re.compile(r"\n([^\n]*\(cost=\d+\.\d\d\.\.\d+\.\d\d rows=\d+ width=\d+\).*)", re.DOTALL)
HOLDER = re.compile(r"\n[^\n]*DETAIL:  (Process[^\n]* holding the lock: [^\n]*)")
TRACE = re.compile(r"traceparent='00-(?P<trace_id>[0-9a-f]{32})-(?P<span_id>[0-9a-f]{16})-")
DURATION = re.compile(r"(?:^duration: |after )(?P<duration_ms>\d+\.\d+) ms")
STATEMENT = re.compile(r"\b(statement|(?:parse|bind|execute)[^:]*): .*")
TEXT = re.compile(r"'(?:[^']|'')*(?:'|$)")
QUOTED = re.compile(r'"[^"]*(?:"|$)')
NUMBER = re.compile(r"([<>=~!+*/%|-]\s+|[(,]\s*)-?\d+(?:\.\d+)?\b")


@dataclass(frozen=True)
class Entry:
    """A message as it is sent: its time in nanoseconds since 1970, its level, its text, and what it is about."""

    time_unix_nano: int
    level: str
    text: str
    metadata: dict[str, str]


def entries(log_text: str) -> Iterator[Entry]:
    """Return the messages of a log, without what precedes the first one."""
    starts = [*FIRST.finditer(log_text)]
    ends = [*(start.start() for start in starts[1:]), len(log_text)]
    for start, end in zip(starts, ends, strict=False):
        yield _entry(start, log_text[start.end() : end].rstrip("\n"))


def _entry(start: re.Match[str], message: str) -> Entry:
    head = STATEMENT.sub(r"\1", message.partition("\n")[0])
    if start["severity"] != "LOG":
        head = QUOTED.sub('"?"', head)
    text = TEXT.sub("?", head)
    if holder := HOLDER.search(message):
        text = f"{text} {holder[1]}"
    if head.endswith("plan:") and (plan := PLAN.search(message)):
        text += "\n" + NUMBER.sub(r"\1?", TEXT.sub("?", plan[1]))
    metadata = {name: start[name] for name in ("pid", "query_id", "sqlstate")}
    for found in (TRACE.search(message), DURATION.search(message)):
        metadata |= found.groupdict() if found else {}
    moment = datetime.strptime(start["time"].replace("UTC", "+0000"), "%Y-%m-%d %H:%M:%S.%f %z")
    return Entry(round(moment.timestamp() * 1000) * 10**6, LEVELS.get(start["severity"], "fatal"), text, metadata)


class PostgresLog:
    """A thread that follows the log in `file` and pushes each message to `url`, Loki's API."""

    def __init__(self, file: Path, url: str) -> None:
        self._file = file
        self._url = url
        self._read = 0
        self._waiting = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="postgres-log", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(POLL_S)

    def _run(self) -> None:
        while not self._stop.wait(POLL_S):
            self._follow()
        self._follow()

    def _follow(self) -> None:
        """Push what was logged since the last time; the last message waits, since it may be incomplete."""
        try:
            with self._file.open("rb") as file:
                file.seek(self._read)
                added = file.read()
        except FileNotFoundError:
            return  # not started yet
        text = self._waiting + added.decode(errors="replace")
        starts = [start.start() for start in FIRST.finditer(text)]
        complete = starts[-1] if added and starts else len(text)
        if self._push(text[:complete]):
            self._read += len(added)
            self._waiting = text[complete:]

    def _push(self, text: str) -> bool:
        """Return whether the gateway has the messages; if it is not there yet, they are read again."""
        streams = [
            {
                "stream": LABELS | {"level": entry.level},
                "values": [[str(entry.time_unix_nano), entry.text, entry.metadata]],
            }
            for entry in entries(text)
        ]
        body = json.dumps({"streams": streams}).encode()
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})  # noqa: S310 - our gateway
        try:
            if streams:
                urllib.request.urlopen(request, timeout=5).close()  # noqa: S310 - as above
        except OSError:
            return False
        return True
