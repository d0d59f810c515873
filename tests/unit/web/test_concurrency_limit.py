"""The limiter processes a few requests at a time, queues some, and rejects the rest."""

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
    """An application whose requests last until `release` is set."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.active = 0
        self.max_active = 0
        self._lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Wait for `release` and respond."""
        with self._lock:
            self.active += 1
            self.max_active = max(self.max_active, self.active)
        self.release.wait(60)
        with self._lock:
            self.active -= 1
        if environ["PATH_INFO"] == "/broken":
            raise ValueError("injected")
        start_response("200 OK", [])
        return [b"served"]


@pytest.fixture
def slow() -> Iterator[Slow]:
    """Return an application whose requests are released at the end."""
    app = Slow()
    yield app
    app.release.set()


@pytest.fixture
def reader() -> InMemoryMetricReader:
    """Return a reader of the metrics."""
    return InMemoryMetricReader()


def limited(slow: Slow, reader: InMemoryMetricReader, timeout_s: float = 20) -> ConcurrencyLimiter:
    """Return the application with a limit of two concurrent requests and a queue of three."""
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("test")
    return ConcurrencyLimiter(slow, meter, max_concurrency=2, max_queue=3, queue_timeout_s=timeout_s)


def rejected(reader: InMemoryMetricReader) -> dict[str, int]:
    """Return the numbers of rejected requests by reason."""
    data = reader.get_metrics_data()
    return {
        str((point.attributes or {})["reason"]): int(getattr(point, "value", 0))
        for resource in (data.resource_metrics if data else [])
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }


def test_requests_above_limit_and_queue_are_rejected_at_once(slow: Slow, reader: InMemoryMetricReader) -> None:
    """Two are processed and three wait; the sixth gets 503 with Retry-After and does not reach the service."""
    limiter = limited(slow, reader)
    client = Client(limiter)
    with ThreadPoolExecutor(5) as callers:
        requests = [callers.submit(client.get, "/") for _ in range(5)]
        eventually(lambda: limiter.semaphore.waiting == 3, "full queue")
        rejection = client.get("/")
        slow.release.set()
        assert [each.result().status_code for each in requests] == [200] * 5
    assert slow.max_active == 2
    assert rejection.status_code == 503
    assert rejection.headers["Retry-After"] == "1"
    assert rejection.content_type == "application/problem+json"
    assert json.loads(rejection.data)["detail"] == "Too many requests in progress. Retry after 1 second."
    assert rejected(reader) == {"queue_full": 1}


def test_no_request_waits_longer_than_the_timeout(slow: Slow, reader: InMemoryMetricReader) -> None:
    """Requests that time out leave the queue and hold no permit."""
    client = Client(limited(slow, reader, timeout_s=0.05))
    with ThreadPoolExecutor(2) as callers:
        requests = [callers.submit(client.get, "/") for _ in range(2)]
        eventually(lambda: slow.active == 2, "two active requests")
        assert [client.get("/").status_code for _ in range(5)] == [503] * 5
        slow.release.set()
        assert [each.result().status_code for each in requests] == [200] * 2
    assert [client.get("/").status_code for _ in range(5)] == [200] * 5
    assert rejected(reader) == {"waited_too_long": 5}


def test_a_request_that_fails_releases_its_permit(slow: Slow, reader: InMemoryMetricReader) -> None:
    """After more failures than permits, the next request is served."""
    client = Client(limited(slow, reader, timeout_s=0.05))
    slow.release.set()
    for _ in range(3):
        with pytest.raises(ValueError, match="injected"):
            client.get("/broken")
    assert client.get("/").status_code == 200


def test_permits_are_granted_in_the_order_of_requests() -> None:
    """A caller that arrives when a permit is released does not overtake those that wait."""
    semaphore, served = FairSemaphore(1, 10), list[int]()
    assert semaphore.acquire(0) is None

    def acquire(number: int) -> None:
        assert semaphore.acquire(20) is None
        served.append(number)
        semaphore.release()

    callers = [threading.Thread(target=acquire, args=(number,)) for number in range(5)]
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
        requests = [callers.submit(client.get, "/") for _ in range(2)]
        eventually(lambda: slow.active == 2, "two active requests")
        assert {client.get("/").status_code for _ in range(50)} == {503}
        slow.release.set()
        assert [each.result().status_code for each in requests] == [200] * 2
    assert [record.message for record in caplog.records] == ["requests rejected, too many are in progress"]
