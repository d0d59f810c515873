"""A server in place of Loki that decodes Alloy's pushes: protobuf, compressed with Snappy."""

from collections.abc import Iterator
from contextlib import contextmanager

from local.gateway.compression import decompress
from local.gateway.receive_loki import read_protobuf
from local.gateway.records import LogLine
from local.gateway.web import Answer, HttpPort, Request, Route
from local.ports import LOOPBACK

LIMIT = 16 * 1024 * 1024


class Sink:
    """The lines pushed so far, and the port that receives them."""

    def __init__(self) -> None:
        self.lines: list[LogLine] = []
        self.port = 0

    def of(self, **labels: str) -> list[LogLine]:
        """Return the lines that have these labels."""
        return [line for line in self.lines if labels.items() <= line.labels.items()]


@contextmanager
def listening() -> Iterator[Sink]:
    """Listen on a free port until the end of the block."""
    sink = Sink()

    def push(request: Request) -> Answer:
        sink.lines.extend(read_protobuf(decompress("snappy", request.body, LIMIT)))
        return Answer(status=204)

    port = HttpPort((LOOPBACK, 0), [Route("POST", "/loki/api/v1/push", push)], LIMIT)
    sink.port = port.port
    port.start()
    try:
        yield sink
    finally:
        port.stop()
