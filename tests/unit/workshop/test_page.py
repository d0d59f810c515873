"""The fault page rejects an invalid value before it calls a service."""

import pytest

from workshop.fault_client import FaultClient
from workshop.page import create_app


@pytest.mark.parametrize("strength", ["1", "true", '"1"', "null", "NaN", "Infinity", "-1e999", "1" + "0" * 400])
def test_an_invalid_fault_value_is_rejected_with_a_sentence(strength: str) -> None:
    """This includes a whole number above the range of floats, which must not cause a stack trace.

    No service is running, so the response to the only valid value is that the service does not respond.
    """
    page = create_app(FaultClient({"server": "http://127.0.0.1:1"})).test_client()
    response = page.put(
        "/api/faults/slow_query",
        data=f'{{"strength": {strength}}}',
        content_type="application/json",
        base_url="http://127.0.0.1:4003",
    )
    assert response.status_code == (502 if strength == "1" else 400)
    detail = response.get_json(force=True)["detail"]
    assert ("strength" if response.status_code == 400 else "does not answer") in detail
