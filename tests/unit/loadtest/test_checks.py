"""Checks report what was expected and distinguish an injected fault from a broken server."""

import json

import pytest

from loadtest.checks import PLANTED_TEXT, Answer, Expectation, Tally, is_planted

POST = Expectation("POST", 201, 300)
GET = Expectation("GET", 200, 300, names=True)
PLANTED = Answer(500, 5, json.dumps({"status": 500, "detail": PLANTED_TEXT}).encode())


def test_an_expected_response_fails_no_check() -> None:
    """Status, time, and for GET a list of names are checked."""
    assert POST.judge(Answer(201, 299.9)) == {"POST status": None, "POST time": None}
    good = GET.judge(Answer(200, 1, b'[{"name": "Amber Fern"}]'))
    assert good == {"GET status": None, "GET time": None, "GET names": None}


def test_a_failed_check_reports_what_was_expected() -> None:
    """The message has the actual status but no time, because different texts would not be counted together."""
    assert POST.judge(Answer(409, 301)) == {
        "POST status": "expected status 201, got 409",
        "POST time": "expected a response within 300 ms",
    }
    assert POST.judge(Answer(0, 1, error="ConnectionRefusedError"))["POST status"] == (
        "expected status 201, got no response (ConnectionRefusedError)"
    )


@pytest.mark.parametrize("body", [b"", b"[1]", b'{"name": "x"}', b'[{"name": 1}]', b"\xff", b"[" * 100_000])
def test_a_response_that_is_not_a_list_of_names_fails_its_check(body: bytes) -> None:
    """This holds for any body."""
    assert GET.judge(Answer(200, 1, body))["GET names"] == 'expected a list of {"name": …}'


def test_the_injected_fault_is_recognized_by_its_text() -> None:
    """Only a POST with status 500 and the sentence of the server counts."""
    assert is_planted("POST", PLANTED)
    assert not is_planted("GET", PLANTED)
    assert not is_planted("POST", Answer(503, 5, PLANTED.body))
    assert not is_planted("POST", Answer(500, 5, b'{"detail": "Something went wrong."}'))
    assert not is_planted("POST", Answer(500, 5, b"<html>"))
    assert not is_planted("POST", Answer(500, 5, b"[]"))


def test_the_tally_distinguishes_errors_slow_responses_and_injected_faults() -> None:
    """A slow response is a failed check and not an error; an injected fault is neither."""
    tally = Tally()
    tally.record(POST.judge(Answer(201, 1)))
    tally.record(POST.judge(Answer(201, 999)))
    tally.record(POST.judge(Answer(500, 1)))
    tally.record_planted()
    assert (tally.requests, tally.errors, tally.planted) == (4, 1, 1)
    assert tally.error_share == pytest.approx(1 / 3)
    assert tally.check_share == pytest.approx(4 / 6)
    assert tally.planted_share == 0.25


def test_a_tally_without_requests_has_no_failures() -> None:
    """It does not divide by zero."""
    assert (Tally().error_share, Tally().check_share, Tally().planted_share) == (0, 1, 0)


def test_tallies_of_workers_add_up_in_the_master() -> None:
    """A worker resets its tally after sending it, so nothing counts twice."""
    worker, master = Tally(), Tally()
    for _ in range(2):
        worker.record(POST.judge(Answer(201, 999)))
        worker.record_planted()
        master.add(**json.loads(json.dumps(worker.drain())))
    assert (master.requests, master.errors, master.planted) == (4, 0, 2)
    assert master.passed == {"POST status": 2}
    assert master.failed == {"POST time": 2}
    assert worker.requests == 0
