"""Continuous profiles are pushed with labels, and an unavailable server delays nothing."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from opentelemetry.sdk.trace import TracerProvider

from common.core.address import bypass_proxies
from common.telemetry.profiles import Profiles
from local.gateway.push_pb2 import PushRequest
from local.ports import free_port
from tests.unit.telemetry.pprof_reader import ReadProfile
from tests.unit.telemetry.push_sink import LOGIN_PAGE, LOOPBACK, REDIRECT, Reply, Sink
from tests.unit.waiting import eventually


@pytest.fixture
def sink() -> Iterator[Sink]:
    """Start a server that accepts pushes."""
    with _sink(200) as taking:
        yield taking


@contextmanager
def _sink(*statuses: int | None) -> Iterator[Sink]:
    sink = Sink(*statuses)
    try:
        yield sink
    finally:
        sink.close()


def _start(sink: Sink, *, memory: bool = False) -> Profiles:
    address = f"http://{LOOPBACK}:{sink.port}"
    return Profiles("mythical-test", address, {"namespace": "production"}, memory=memory, upload_interval_s=1)


def _pushed(sink: Sink) -> list[tuple[dict[str, str], ReadProfile]]:
    series = [each for push in sink.pushes for each in PushRequest.FromString(push.body).series]
    return [
        ({label.name: label.value for label in each.labels}, ReadProfile(sample.raw_profile))
        for each in series
        for sample in each.samples
    ]


def _burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(number * number for number in range(200))


def test_profiles_are_pushed_with_the_name_and_tags_of_the_service(sink: Sink) -> None:
    """The CPU profile of the service contains a busy function."""
    profiles = _start(sink)
    _burn(0.3)
    assert profiles.close(60)

    (push, *_) = sink.pushes
    assert (push.path, push.headers["content-type"]) == ("/push.v1.PusherService/Push", "application/proto")
    labels, profile = _pushed(sink)[0]
    assert (labels["service_name"], labels["namespace"], labels["__name__"]) == (
        "mythical-test",
        "production",
        "process_cpu",
    )
    assert profile.types == [("cpu", "nanoseconds")]
    assert profile.total("cpu", through="_burn") > 0


def test_samples_taken_within_a_span_have_its_id_and_name(sink: Sink) -> None:
    """A trace links to its flame graph by span IDs in the samples; the test uses the real library."""
    profiles = _start(sink)
    processor = profiles.span_processor()
    assert processor
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("first") as first, tracer.start_as_current_span("child"):
        _burn(0.3)
    with tracer.start_as_current_span("second") as second:
        _burn(0.3)
    _burn(0.3)
    assert profiles.close(60)

    seen = {tuple(sorted(s.labels.items())) for _, p in _pushed(sink) for s in p.samples if s.goes_through("_burn")}
    ids = {
        name: format(span.get_span_context().span_id, "016x") for name, span in (("first", first), ("second", second))
    }
    assert seen == {(), *((("span_id", each), ("span_name", name)) for name, each in ids.items())}


def test_allocations_are_profiled_if_enabled(sink: Sink) -> None:
    """They are expensive and therefore off by default."""
    profiles = _start(sink, memory=True)
    kept = [bytearray(1_000_000) for _ in range(20)]
    assert profiles.close(60)

    *_, profile = (profile for labels, profile in _pushed(sink) if labels["__name__"] == "memory")
    assert profile.types == [
        ("alloc_objects", "count"),
        ("alloc_space", "bytes"),
        ("inuse_objects", "count"),
        ("inuse_space", "bytes"),
    ]
    assert profile.total("inuse_space") > sum(map(len, kept)) / 2


def test_without_an_address_nothing_is_started() -> None:
    """A service works without a collector, and its spans have no profiles."""
    profiles = Profiles("mythical-test", "", {})
    assert not profiles.running
    assert profiles.span_processor() is None
    assert profiles.close(0)


def test_a_second_start_in_one_process_is_rejected_with_a_warning(sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    """The library has one sampler per process, and the service continues without a second one."""
    first = _start(sink)
    second = _start(sink)
    assert (first.running, second.running) == (True, False)
    assert "pushes profiles already" in caplog.text
    second.close(0)
    assert first.close(5)


def test_pushes_continue_when_the_server_recovers() -> None:
    """A server that rejected pushes for a while gets the next profiles without a restart."""
    with _sink(500, 200) as sink:
        profiles = _start(sink)

        def second_push() -> bool:
            _burn(0.05)
            return len(sink.pushes) > 1

        eventually(second_push, "push after one that was rejected")
        assert profiles.close(60)


def test_an_outage_of_the_server_is_two_lines_in_the_log(sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    """One is logged at the start and one at the end, for any duration."""
    caplog.set_level(logging.INFO, "common.telemetry.profiles")
    sink.healthy = False
    profiles = _start(sink)
    eventually(lambda: sink.checks > 2, "third check")
    sink.healthy = True
    eventually(lambda: len(caplog.messages) > 1, "line at the end of the outage")
    assert profiles.close(60)
    assert caplog.messages == ["profile server unavailable", "profile server available again"]


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (LOGIN_PAGE, "status 200 with an HTML page"),
        (REDIRECT, "status 302, a redirect to login.example:8443"),
        (Reply(401, b"no org id", (("Content-Type", "text/plain"),)), "status 401: no org id"),
        (Reply(404), "status 404"),
    ],
    ids=["login page", "redirect", "401", "404"],
)
def test_a_response_that_is_not_from_a_profile_server_is_reported(
    reply: Reply, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    """There are two lines, as for an outage: the library itself follows redirects and accepts any page as a success."""
    caplog.set_level(logging.INFO, "common.telemetry.profiles")
    with _sink() as sink:
        sink.respond = lambda _: reply
        profiles = _start(sink)
        eventually(lambda: caplog.messages, "line")
        sink.respond = lambda _: Reply(400, b"{}", (("Content-Type", "application/json"),))
        eventually(lambda: len(caplog.messages) > 1, "line at the end")
        assert profiles.close(5)
    assert caplog.messages == ["profile server unavailable", "profile server available again"]
    assert vars(caplog.records[0])["fields"]["error"] == message


def test_each_push_has_the_headers_of_the_settings(sink: Sink, capfd: pytest.CaptureFixture[str]) -> None:
    """The pushes of the library and the check have tenant and authorization; the library does not print them."""
    logging.getLogger("common.telemetry.profiles").setLevel(logging.DEBUG)
    headers = {"X-Scope-OrgID": "team", "Authorization": "Bearer s3cret"}
    address = f"http://{LOOPBACK}:{sink.port}"
    profiles = Profiles("mythical-test", address, {}, headers=headers, upload_interval_s=1)
    eventually(lambda: any(not push.body for push in sink.pushes), "check")
    _burn(0.3)
    assert profiles.close(5)
    assert any(push.body for push in sink.pushes)
    for push in sink.pushes:
        sent = {name.lower(): value for name, value in push.headers.items()}
        assert (sent["x-scope-orgid"], sent["authorization"]) == ("team", "Bearer s3cret")
    assert "s3cret" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(("level", "lines"), [("DEBUG", 1), ("INFO", 0)])
def test_the_library_reports_each_failed_push_only_while_debugging(level: str, lines: int) -> None:
    """It writes to standard error once per push; by default, the two lines about the outage are enough."""
    program = f"""
import logging, time
from common.core.address import bypass_proxies
from common.telemetry.profiles import Profiles
logging.basicConfig(level="{level}", filename="/dev/null")
profiles = Profiles("mythical-test", "http://{LOOPBACK}:{free_port()}", {{}}, upload_interval_s=60)
end = time.thread_time() + 0.5
while time.thread_time() < end:
    sum(range(1000))
assert profiles.close(60)
"""
    run = subprocess.run([sys.executable, "-c", program], check=True, timeout=60, capture_output=True, text=True)  # noqa: S603
    assert run.stderr.count("Failed to send session") == lines


@pytest.mark.parametrize("before", ["", "example.org"])
def test_a_server_on_loopback_is_reached_without_the_proxy(
    sink: Sink, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """A proxy would connect to the address on another machine; hosts that bypass it already still do."""
    monkeypatch.setenv("http_proxy", f"http://{LOOPBACK}:{free_port()}")
    monkeypatch.setenv("NO_PROXY", before)
    monkeypatch.setenv("no_proxy", before)
    bypass_proxies(f"http://{LOOPBACK}:{sink.port}")
    profiles = _start(sink)
    _burn(0.3)
    assert profiles.close(60)
    assert sink.pushes
    assert before in os.environ["NO_PROXY"]


def test_a_server_that_never_responds_does_not_delay_the_shutdown() -> None:
    """Neither close() nor the end of the process waits for the library, which would wait for half a minute."""
    program = f"""
import sys, time
from common.core.address import bypass_proxies
from common.telemetry.profiles import Profiles
address = "http://{LOOPBACK}:" + sys.argv[1]
profiles = Profiles("mythical-test", address, {{}}, upload_interval_s=1)
end = time.thread_time() + 1.5
while time.thread_time() < end:
    sum(range(1000))
started = time.monotonic()
assert not profiles.close(0.5)
assert time.monotonic() - started < 20
"""
    with _sink(None) as sink:
        subprocess.run([sys.executable, "-c", program, str(sink.port)], check=True, timeout=60)  # noqa: S603 - a constant program
        assert sink.pushes
