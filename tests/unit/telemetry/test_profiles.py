"""Continuous profiles: what is pushed, with which labels, and that a server that is away holds nothing up."""

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
    """Give a server that takes pushes."""
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


def test_profiles_are_pushed_under_the_service_s_name_and_tags(sink: Sink) -> None:
    """A busy function shows up in the CPU profile of its service."""
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


def test_samples_taken_within_a_span_carry_its_id_and_name(sink: Sink) -> None:
    """The way from a trace to its flame graph: span ids in the samples, by the real library."""
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


def test_allocations_are_profiled_when_asked_for(sink: Sink) -> None:
    """They cost much, so they are off unless switched on."""
    profiles = _start(sink, memory=True)
    kept = [bytearray(1_000_000) for _ in range(20)]
    assert profiles.close(60)

    (profile,) = (profile for labels, profile in _pushed(sink) if labels["__name__"] == "memory")
    assert profile.types == [
        ("alloc_objects", "count"),
        ("alloc_space", "bytes"),
        ("inuse_objects", "count"),
        ("inuse_space", "bytes"),
    ]
    assert profile.total("inuse_space") > sum(map(len, kept)) / 2


def test_without_an_address_nothing_is_begun() -> None:
    """A service without a collector runs all the same, with nothing to tie its spans to."""
    profiles = Profiles("mythical-test", "", {})
    assert not profiles.running
    assert profiles.span_processor() is None
    assert profiles.close(0)


def test_a_second_start_in_one_process_is_refused_with_a_warning(sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    """The library has one sampler for a process; the service goes on without a second."""
    first = _start(sink)
    second = _start(sink)
    assert (first.running, second.running) == (True, False)
    assert "pushes profiles already" in caplog.text
    second.close(0)
    assert first.close(5)


def test_pushes_go_on_when_the_server_is_back() -> None:
    """A server that refused for a while gets the next profiles without a restart."""
    with _sink(500, 200) as sink:
        profiles = _start(sink)

        def second_push() -> bool:
            _burn(0.05)
            return len(sink.pushes) > 1

        eventually(second_push, "push after one that was refused")
        assert profiles.close(60)


def test_an_outage_of_the_server_is_two_lines_in_the_log(sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    """One when it begins and one when it is over, however long it lasts."""
    caplog.set_level(logging.INFO, "common.telemetry.profiles")
    sink.healthy = False
    profiles = _start(sink)
    eventually(lambda: sink.checks > 2, "third check")
    sink.healthy = True
    eventually(lambda: len(caplog.messages) > 1, "line at the end of the outage")
    assert profiles.close(60)
    assert caplog.messages == ["profile server unavailable", "profile server available again"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (LOGIN_PAGE, "status 200 with an HTML page"),
        (REDIRECT, "status 302, a redirect to login.example:8443"),
        (Reply(401, b"no org id", (("Content-Type", "text/plain"),)), "status 401: no org id"),
        (Reply(404), "status 404"),
    ],
    ids=["login page", "redirect", "401", "404"],
)
def test_what_answers_pushes_and_is_no_profile_server_is_reported(
    answer: Reply, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By two lines, as an outage: the library itself follows redirects, and takes a page for a success."""
    caplog.set_level(logging.INFO, "common.telemetry.profiles")
    with _sink() as sink:
        sink.judge = lambda _: answer
        profiles = _start(sink)
        eventually(lambda: caplog.messages, "line")
        sink.judge = lambda _: Reply(400, b"{}", (("Content-Type", "application/json"),))
        eventually(lambda: len(caplog.messages) > 1, "line at the end")
        assert profiles.close(5)
    assert caplog.messages == ["profile server unavailable", "profile server available again"]
    assert vars(caplog.records[0])["fields"]["error"] == said


def test_each_push_has_the_headers_of_the_settings(sink: Sink, capfd: pytest.CaptureFixture[str]) -> None:
    """Tenant and authorization, in the pushes of the library and in the check; the library does not print them."""
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
    """It writes to standard error by itself, once for each push: with the default settings the state is enough."""
    program = f"""
import logging, time
from common.core.address import bypass_proxies
from common.telemetry.profiles import Profiles
logging.basicConfig(level="{level}", filename="/dev/null")
profiles = Profiles("mythical-test", "http://{LOOPBACK}:{free_port()}", {{}}, upload_interval_s=60)
end = time.monotonic() + 0.5
while time.monotonic() < end:
    sum(range(1000))
assert profiles.close(60)
"""
    run = subprocess.run([sys.executable, "-c", program], check=True, timeout=60, capture_output=True, text=True)  # noqa: S603 - our own
    assert run.stderr.count("Failed to send session") == lines


@pytest.mark.parametrize("before", ["", "example.org"])
def test_a_server_on_loopback_is_reached_without_the_proxy(
    sink: Sink, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """A proxy would look for the address on its own machine; hosts that bypass it already still do."""
    monkeypatch.setenv("http_proxy", f"http://{LOOPBACK}:{free_port()}")
    monkeypatch.setenv("NO_PROXY", before)
    monkeypatch.setenv("no_proxy", before)
    bypass_proxies(f"http://{LOOPBACK}:{sink.port}")
    profiles = _start(sink)
    _burn(0.3)
    assert profiles.close(60)
    assert sink.pushes
    assert before in os.environ["NO_PROXY"]


def test_a_server_that_never_answers_does_not_hold_up_the_end() -> None:
    """Neither close() nor the end of the process waits for the library, which would wait for half a minute."""
    program = f"""
import sys, time
from common.core.address import bypass_proxies
from common.telemetry.profiles import Profiles
address = "http://{LOOPBACK}:" + sys.argv[1]
profiles = Profiles("mythical-test", address, {{}}, upload_interval_s=1)
end = time.monotonic() + 1.5
while time.monotonic() < end:
    sum(range(1000))
begun = time.monotonic()
assert not profiles.close(0.5)
assert time.monotonic() - begun < 20
"""
    with _sink(None) as sink:
        subprocess.run([sys.executable, "-c", program, str(sink.port)], check=True, timeout=60)  # noqa: S603 - our own
        assert sink.pushes
