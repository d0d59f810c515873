"""The page of the switches: what is no strength is refused there, before any service is asked."""

import pytest

from workshop.fault_client import FaultClient
from workshop.page import create_app


@pytest.mark.parametrize("strength", ["1", "true", '"1"', "null", "NaN", "Infinity", "-1e999", "1" + "0" * 400])
def test_what_is_no_strength_is_refused_with_a_sentence(strength: str) -> None:
    """Also a whole number that is longer than any float: a stack trace would call it a mistake of the page.

    No service is there, so that the one good strength among them gets as far as to be told so.
    """
    page = create_app(FaultClient({"server": "http://127.0.0.1:1"})).test_client()
    answer = page.put(
        "/api/faults/slow_query",
        data=f'{{"strength": {strength}}}',
        content_type="application/json",
        base_url="http://127.0.0.1:4003",
    )
    assert answer.status_code == (502 if strength == "1" else 400)
    assert ("strength" if answer.status_code == 400 else "does not answer") in answer.get_json(force=True)["detail"]
