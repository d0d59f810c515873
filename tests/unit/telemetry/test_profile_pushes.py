"""The loopback port through which profiles leave: what goes on, what is counted, and what is not taken."""

import http.client
from collections.abc import Iterator

import pytest

from common.telemetry import profile_pushes
from common.telemetry.profile_pushes import LARGEST_BYTES, ProfilePushes
from tests.unit.telemetry.push_sink import LOOPBACK, Sink

PATH = "/push.v1.PusherService/Push"
HEADERS = {"Content-Type": "application/proto"}


class Rig:
    """The port in front of a sink, and what was lost on the way."""

    def __init__(self) -> None:
        self.lost: list[tuple[int, str]] = []
        self.sink = Sink(200)
        self._pushes: list[ProfilePushes] = []

    def push(self, body: bytes, headers: dict[str, str], sink: Sink | None = None) -> int:
        """Give the status that a push is answered with."""
        to = f"http://{LOOPBACK}:{(sink or self.sink).port}"
        pushes = ProfilePushes(to, lambda number, reason: self.lost.append((number, reason)))
        self._pushes.append(pushes)
        connection = http.client.HTTPConnection(pushes.address.removeprefix("http://"), timeout=5)
        connection.putrequest("POST", PATH)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        status = connection.getresponse().status
        connection.close()
        return status

    def close(self) -> None:
        """Stop everything."""
        for each in self._pushes:
            each.close()
        self.sink.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Give a rig."""
    rig = Rig()
    yield rig
    rig.close()


def test_a_push_goes_on_as_it_came(rig: Rig) -> None:
    """Path, body and what says how to read it; nothing is lost."""
    assert rig.push(b"abc", HEADERS | {"Content-Length": "3"}) == 200
    (push,) = rig.sink.pushes
    assert (push.path, push.body, push.headers["Content-Type"]) == (PATH, b"abc", "application/proto")
    assert rig.lost == []


def test_the_profiler_hears_what_the_server_said(rig: Rig) -> None:
    """It writes a line for each push that failed, with the status."""
    refusing = Sink(429)
    assert rig.push(b"abc", {"Content-Length": "3"}, refusing) == 429
    refusing.close()
    assert rig.lost == [(1, "rejected")]


def test_a_server_that_does_not_answer_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the profiler gives up itself: else it would go away, and the push would be counted only by chance."""
    assert sum(profile_pushes.TIMEOUT_S) < 10
    monkeypatch.setattr(profile_pushes, "TIMEOUT_S", (0.1, 0.1))
    hanging = Sink(None)
    assert rig.push(b"abc", {"Content-Length": "3"}, hanging) == 502
    hanging.close()
    assert rig.lost == [(1, "unreachable")]


@pytest.mark.parametrize("length", [None, "x", "-1", str(LARGEST_BYTES + 1), "9" * 40, "²"])
def test_a_body_of_unknown_or_huge_length_is_not_read(rig: Rig, length: str | None) -> None:
    """Any program of this machine can find the port; it must not fill the service's memory."""
    assert rig.push(b"", {} if length is None else {"Content-Length": length}) == 413
    assert rig.sink.pushes == []
    assert rig.lost == []
