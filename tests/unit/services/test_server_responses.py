"""The server responds to valid requests and rejects invalid ones, with a store in memory."""

import pytest

from tests.unit.services.server_rig import Rig

PROBLEM = "application/problem+json"


def test_a_name_is_added_found_and_removed() -> None:
    """The statuses are 201, 200 with the list, 204, and 204 again, because removing is idempotent."""
    rig = Rig()
    assert rig.client.post("/owlbear", json={"name": "sly_otter"}).status_code == 201
    found = rig.client.get("/owlbear")
    assert (found.status_code, found.get_json()) == (200, [{"name": "sly_otter"}])
    for _ in range(2):
        assert rig.client.delete("/owlbear", json={"name": "sly_otter"}).status_code == 204
    assert rig.client.get("/owlbear").get_json() == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/dragon", 404),
        ("GET", "/", 404),
        ("GET", "/unicorn/1", 404),
        ("PUT", "/unicorn", 405),
        ("PATCH", "/unicorn", 405),
        ("POST", "/unicorn", 415),
        ("DELETE", "/unicorn", 415),
        ("GET", "/unicorn?limit=1001", 400),
    ],
)
def test_a_rejection_is_a_problem_with_a_sentence(method: str, path: str, status: int) -> None:
    """The original responded with 204 and 500 to some invalid requests."""
    response = Rig().client.open(path, method=method)
    assert (response.status_code, response.content_type) == (status, PROBLEM)
    assert response.get_json(force=True)["status"] == status
    assert response.get_json(force=True)["detail"]
    assert ("Allow" in response.headers) is (status == 405)


def test_a_name_that_exists_is_a_conflict() -> None:
    """The status is 409; in the original it was a 500 with the database's message."""
    rig = Rig()
    rig.client.post("/unicorn", json={"name": "x"})
    assert rig.client.post("/unicorn", json={"name": "x"}).status_code == 409


def test_a_body_that_is_too_large_is_not_read() -> None:
    """The status is 413 above 16 KiB."""
    assert Rig().client.post("/unicorn", json={"name": "x" * 20_000}).status_code == 413


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_while_the_database_is_unavailable_responses_have_retry_after(method: str) -> None:
    """The status is 503 with Retry-After, also while tables are recreated."""
    rig = Rig()
    rig.store.is_down = True
    unavailable = rig.client.open("/unicorn", method=method, json={"name": "x"})
    rig.store.is_down, rig.maintenance.is_recreating = False, True
    recreating = rig.client.open("/unicorn", method=method, json={"name": "x"})
    for response in (unavailable, recreating):
        assert (response.status_code, response.content_type) == (503, PROBLEM)
        assert int(response.headers["Retry-After"]) >= 1


@pytest.mark.parametrize(("strength", "status"), [(0, 201), (1, 500)])
def test_the_fault_null_name_loses_names(strength: float, status: int) -> None:
    """It is off at 0 and always triggers at 1; the response is a 500 that says nothing about the database."""
    response = Rig(null_name=strength).client.post("/unicorn", json={"name": "x"})
    assert response.status_code == status
    assert "column" not in response.text


def test_a_page_links_to_the_next_one() -> None:
    """Names are ordered from new to old; names added in between do not shift pages."""
    rig = Rig()
    rig.store.names["unicorn"] = [f"n{number}" for number in range(5)]
    first = rig.client.get("/unicorn?limit=2")
    assert [row["name"] for row in first.get_json()] == ["n4", "n3"]
    rig.store.names["unicorn"].append("new")
    link = first.headers["Link"]
    assert link.endswith('>; rel="next"')
    second = rig.client.get(link[1 : link.index(">")])
    assert [row["name"] for row in second.get_json()] == ["n2", "n1"]
    assert "Link" not in rig.client.get("/unicorn?limit=1000").headers
