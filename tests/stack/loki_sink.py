"""A server in place of Loki that decodes Alloy's pushes: protobuf, compressed with snappy."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from local.ports import LOOPBACK

LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Line:
    """A pushed log line."""

    labels: dict[str, str]
    time_unix_nano: int
    text: str
    metadata: dict[str, str]


class Sink:
    """The lines pushed so far, and the port that receives them."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.port = 0

    def of(self, **labels: str) -> list[Line]:
        """Return the lines that have these labels."""
        return [line for line in self.lines if labels.items() <= line.labels.items()]


@contextmanager
def listening() -> Iterator[Sink]:
    """Listen on a free port until the end of the block."""
    sink = Sink()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sink.lines.extend(lines(decompress(body)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
            """Log nothing."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    sink.port = server.server_address[1]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield sink
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def lines(body: bytes) -> Iterator[Line]:
    """Read a push. Source: Loki's pkg/push/push.proto, PushRequest."""
    for _, stream in fields(body):
        parts = list(fields(_bytes(stream)))
        labels = dict(LABEL.findall(_bytes(parts[0][1]).decode()))
        for number, entry in parts[1:]:
            if number == 2:
                yield _line(labels, _bytes(entry))


def _line(labels: dict[str, str], entry: bytes) -> Line:
    nanoseconds, text, metadata = 0, "", {}
    for number, value in fields(entry):
        if number == 1:
            time = dict(fields(_bytes(value)))
            nanoseconds = _number(time.get(1, 0)) * 10**9 + _number(time.get(2, 0))
        elif number == 2:
            text = _bytes(value).decode()
        elif number == 3:
            pair = dict(fields(_bytes(value)))
            metadata[_bytes(pair[1]).decode()] = _bytes(pair[2]).decode()
    return Line(labels, nanoseconds, text, metadata)


def _bytes(value: int | bytes) -> bytes:
    assert isinstance(value, bytes)
    return value


def _number(value: int | bytes) -> int:
    assert isinstance(value, int)
    return value


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field. Source: the encoding of Protocol Buffers, wire types 0 and 2."""
    position = 0
    while position < len(message):
        key, position = varint(message, position)
        value, position = varint(message, position)
        if key & 7 == 0:
            yield key >> 3, value
        else:
            assert key & 7 == 2, "a push has only numbers and texts"
            yield key >> 3, message[position : position + value]
            position += value


def varint(data: bytes, position: int) -> tuple[int, int]:
    """Decode a number of seven bits a byte; return it and the position after it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def decompress(compressed: bytes) -> bytes:
    """Decompress a block of snappy. Source: google/snappy, format_description.txt."""
    length, position = varint(compressed, 0)
    out = bytearray()
    while position < len(compressed):
        tag = compressed[position]
        position += 1
        if tag & 3 == 0:
            size, extra = tag >> 2, max(0, (tag >> 2) - 59)
            if extra:
                size = int.from_bytes(compressed[position : position + extra], "little")
                position += extra
            out += compressed[position : position + size + 1]
            position += size + 1
            continue
        if tag & 3 == 1:
            size, offset, position = (tag >> 2 & 7) + 4, (tag >> 5 << 8) | compressed[position], position + 1
        else:
            wide = 2 if tag & 3 == 2 else 4
            size, offset = (tag >> 2) + 1, int.from_bytes(compressed[position : position + wide], "little")
            position += wide
        for _ in range(size):  # byte by byte, because a copy may overlap its own output
            out.append(out[-offset])
    assert len(out) == length
    return bytes(out)
