"""Checks say what was expected, and tell a planted fault from a broken server."""

import json

import pytest

from loadtest.checks import PLANTED_TEXT, Answer, Expectation, Tally, is_planted

POST = Expectation("POST", 201, 300)
GET = Expectation("GET", 200, 300, names=True)
PLANTED = Answer(500, 5, json.dumps({"status": 500, "detail": PLANTED_TEXT}).encode())


def test_what_is_as_expected_fails_no_check() -> None:
    """Status, time, and for GET a list of names."""
    assert POST.judge(Answer(201, 299.9)) == {"POST status": None, "POST time": None}
    good = GET.judge(Answer(200, 1, b'[{"name": "Amber Fern"}]'))
    assert good == {"GET status": None, "GET time": None, "GET names": None}


def test_a_failed_check_says_what_was_expected() -> None:
    """And for a status what came instead, without numbers that would make each failure one of its own kind."""
    assert POST.judge(Answer(409, 301)) == {
        "POST status": "expected status 201, got 409",
        "POST time": "expected a response within 300 ms",
    }
    assert POST.judge(Answer(0, 1, error="ConnectionRefusedError"))["POST status"] == (
        "expected status 201, got no response (ConnectionRefusedError)"
    )


@pytest.mark.parametrize("body", [b"", b"[1]", b'{"name": "x"}', b'[{"name": 1}]', b"\xff", b"[" * 100_000])
def test_an_answer_that_is_no_list_of_names_fails_its_check(body: bytes) -> None:
    """Whatever else the server may have sent."""
    assert GET.judge(Answer(200, 1, body))["GET names"] == 'expected a list of {"name": …}'


def test_the_planted_fault_is_known_by_its_words() -> None:
    """Only a POST, only 500, only with the sentence that the server has for it."""
    assert is_planted("POST", PLANTED)
    assert not is_planted("GET", PLANTED)
    assert not is_planted("POST", Answer(503, 5, PLANTED.body))
    assert not is_planted("POST", Answer(500, 5, b'{"detail": "Something went wrong."}'))
    assert not is_planted("POST", Answer(500, 5, b"<html>"))
    assert not is_planted("POST", Answer(500, 5, b"[]"))


def test_the_tally_knows_errors_slow_answers_and_planted_faults_apart() -> None:
    """Slow is a failed check and no error; planted is neither."""
    tally = Tally()
    tally.record(POST.judge(Answer(201, 1)))
    tally.record(POST.judge(Answer(201, 999)))
    tally.record(POST.judge(Answer(500, 1)))
    tally.record_planted()
    assert (tally.requests, tally.errors, tally.planted) == (4, 1, 1)
    assert tally.error_share == pytest.approx(1 / 3)
    assert tally.check_share == pytest.approx(4 / 6)
    assert tally.planted_share == 0.25


def test_a_tally_without_requests_has_no_failed_share() -> None:
    """And no division by zero."""
    assert (Tally().error_share, Tally().check_share, Tally().planted_share) == (0, 1, 0)


def test_what_workers_drain_adds_up_at_the_master() -> None:
    """Each counts anew after it has told, so nothing counts twice."""
    worker, master = Tally(), Tally()
    for _ in range(2):
        worker.record(POST.judge(Answer(201, 999)))
        worker.record_planted()
        master.add(**json.loads(json.dumps(worker.drain())))
    assert (master.requests, master.errors, master.planted) == (4, 0, 2)
    assert master.passed == {"POST status": 2}
    assert master.failed == {"POST time": 2}
    assert worker.requests == 0
