"""Few requests at a time, some wait, the rest is rejected."""

import json
import logging
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from werkzeug.test import Client

from common.web.concurrency_limit import ConcurrencyLimiter, FairSemaphore
from tests.unit.waiting import eventually


class Slow:
    """An application whose requests last until they are let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.inside = 0
        self.most = 0
        self._lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Work until `go`."""
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.go.wait(60)
        with self._lock:
            self.inside -= 1
        if environ["PATH_INFO"] == "/broken":
            raise ValueError("planted")
        start_response("200 OK", [])
        return [b"served"]


@pytest.fixture
def slow() -> Iterator[Slow]:
    """Give one, and let all go at the end."""
    app = Slow()
    yield app
    app.go.set()


@pytest.fixture
def reader() -> InMemoryMetricReader:
    """Give a reader of what is counted."""
    return InMemoryMetricReader()


def limited(slow: Slow, reader: InMemoryMetricReader, timeout_s: float = 20) -> ConcurrencyLimiter:
    """The application behind a limit of two at a time, three waiting."""
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("test")
    return ConcurrencyLimiter(slow, meter, max_concurrency=2, max_queue=3, queue_timeout_s=timeout_s)


def rejected(reader: InMemoryMetricReader) -> dict[str, int]:
    """What was counted, by reason."""
    data = reader.get_metrics_data()
    return {
        str((point.attributes or {})["reason"]): int(getattr(point, "value", 0))
        for resource in (data.resource_metrics if data else [])
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }


def test_what_exceeds_limit_and_queue_is_rejected_at_once(slow: Slow, reader: InMemoryMetricReader) -> None:
    """Two are worked on and three wait; the sixth gets 503 with Retry-After, and never reaches the service."""
    limiter = limited(slow, reader)
    client = Client(limiter)
    with ThreadPoolExecutor(5) as callers:
        asking = [callers.submit(client.get, "/") for _ in range(5)]
        eventually(lambda: limiter.semaphore.waiting == 3, "full queue")
        rejection = client.get("/")
        slow.go.set()
        assert [each.result().status_code for each in asking] == [200] * 5
    assert slow.most == 2
    assert rejection.status_code == 503
    assert rejection.headers["Retry-After"] == "1"
    assert rejection.content_type == "application/problem+json"
    assert json.loads(rejection.data)["detail"] == "Too many requests in progress. Retry after 1 second."
    assert rejected(reader) == {"queue_full": 1}


def test_no_request_waits_longer_than_the_timeout(slow: Slow, reader: InMemoryMetricReader) -> None:
    """Those that time out make room in the queue, and hold no permit."""
    client = Client(limited(slow, reader, timeout_s=0.05))
    with ThreadPoolExecutor(2) as callers:
        asking = [callers.submit(client.get, "/") for _ in range(2)]
        eventually(lambda: slow.inside == 2, "full house")
        assert [client.get("/").status_code for _ in range(5)] == [503] * 5
        slow.go.set()
        assert [each.result().status_code for each in asking] == [200] * 2
    assert [client.get("/").status_code for _ in range(5)] == [200] * 5
    assert rejected(reader) == {"waited_too_long": 5}


def test_a_request_that_fails_releases_its_permit(slow: Slow, reader: InMemoryMetricReader) -> None:
    """More failures than there are permits, and the next one is served."""
    client = Client(limited(slow, reader, timeout_s=0.05))
    slow.go.set()
    for _ in range(3):
        with pytest.raises(ValueError, match="planted"):
            client.get("/broken")
    assert client.get("/").status_code == 200


def test_permits_are_granted_in_the_order_asked_for() -> None:
    """A caller that arrives as a permit is released does not overtake those that wait."""
    semaphore, served = FairSemaphore(1, 10), list[int]()
    assert semaphore.acquire(0) is None

    def ask(number: int) -> None:
        assert semaphore.acquire(20) is None
        served.append(number)
        semaphore.release()

    callers = [threading.Thread(target=ask, args=(number,)) for number in range(5)]
    for number, caller in enumerate(callers, start=1):
        caller.start()
        eventually(lambda number=number: semaphore.waiting == number, "caller that waits")  # type: ignore[misc]
    semaphore.release()
    for caller in callers:
        caller.join()
    assert served == [0, 1, 2, 3, 4]


def test_many_rejections_are_one_line_in_the_log(
    slow: Slow, reader: InMemoryMetricReader, caplog: pytest.LogCaptureFixture
) -> None:
    """A line for each would cost more than serving them."""
    client = Client(limited(slow, reader, timeout_s=0.001))
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(2) as callers:
        asking = [callers.submit(client.get, "/") for _ in range(2)]
        eventually(lambda: slow.inside == 2, "full house")
        assert {client.get("/").status_code for _ in range(50)} == {503}
        slow.go.set()
        assert [each.result().status_code for each in asking] == [200] * 2
    assert [record.message for record in caplog.records] == ["requests rejected, too many are in progress"]
