"""The server's API for names, on a real Postgres."""

import json
import re
import select
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from common.core.endpoints import BORING, MYTHICAL
from common.web.problems import MAX_BODY_BYTES
from local.ports import free_port
from local.servers.postgres import Postgres
from tests.integration.conftest import Service, eventually
from tests.integration.service_support import (
    JSON,
    SILENT,
    Fleet,
    Response,
    ask,
    database_settings,
    fleet,
    own_database,
    run,
)

# No response may contain these: words of the database, of Python and of the frameworks, and the password.
INTERNALS = re.compile(
    r"psycopg|postgres|sqlstate|traceback|constraint|null value|column|relation|insert into|werkzeug|flask|granian"
    r"|errno|\.py\b|mythical\b|line \d",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[str]:
    """A separate database."""
    with own_database(postgres) as name:
        yield name


@pytest.fixture(scope="module")
def started(postgres: Postgres, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The servers of this module, all started together."""
    with fleet(tmp_path_factory.mktemp("servers"), SILENT, database_settings(postgres, database)) as servers:
        yield servers


@pytest.fixture(scope="module")
def server(started: Fleet) -> Service:
    """A server with its injected fault disabled."""
    return started.start("server", FAULT_NULL_NAME="0")


@pytest.fixture
def beast(postgres: Postgres, database: str, server: Service) -> str:
    """A beast without names."""
    assert ask(server.base_url, "/readyz").status == 200
    run(postgres, "TRUNCATE manticore RESTART IDENTITY", database)
    return "manticore"


def add(server: Service, beast: str, name: object) -> Response:
    """Add a name with POST."""
    return ask(server.base_url, f"/{beast}", "POST", body=json.dumps({"name": name}), headers=JSON)


def remove(server: Service, beast: str, name: object) -> Response:
    """Remove a name with DELETE."""
    return ask(server.base_url, f"/{beast}", "DELETE", body=json.dumps({"name": name}), headers=JSON)


def names(server: Service, path: str) -> list[str]:
    """Return the names at a path."""
    response = ask(server.base_url, path)
    assert response.status == 200, response.text
    return [row["name"] for row in json.loads(response.body)]


def next_page(response: Response) -> str | None:
    """Return the path in the Link of a page, None without a Link."""
    found = re.fullmatch(r'<([^>]+)>; rel="next"', response.headers["Link"] or "")
    return found[1] if found else None


def test_names_are_read_newest_first(server: Service, beast: str) -> None:
    """A client that adds a name sees it first."""
    for name in ("first", "second", "third"):
        assert add(server, beast, name).status == 201
    assert names(server, f"/{beast}") == ["third", "second", "first"]
    assert names(server, f"/{beast}?limit=2") == ["third", "second"]


def test_the_size_of_a_page_is_limited(server: Service, postgres: Postgres, database: str) -> None:
    """A table of any size is served in pages of 100 names, or at most 1,000."""
    run(postgres, "INSERT INTO illithid (name) SELECT 'many ' || i FROM generate_series(1, 1100) AS i", database)
    assert len(names(server, "/illithid")) == 100
    assert len(names(server, "/illithid?limit=1000")) == 1000
    assert ask(server.base_url, "/illithid?limit=1001").status == 400


def test_links_list_every_name_once_while_names_are_added(server: Service, beast: str) -> None:
    """A page starts after an id, so that names added meanwhile don't shift it: none is repeated or missed."""
    old = [f"old {number}" for number in range(25)]
    for name in old:
        assert add(server, beast, name).status == 201
    seen: list[str] = []
    path: str | None = f"/{beast}?limit=10"
    while path:
        page = ask(server.base_url, path)
        seen += [row["name"] for row in json.loads(page.body)]
        assert add(server, beast, f"new {path}"[:50]).status == 201
        path = next_page(page)
    assert seen == old[::-1]


def test_the_last_page_has_no_link(server: Service, beast: str) -> None:
    """A page that is not full is the last one."""
    assert ask(server.base_url, f"/{beast}").headers["Link"] is None
    assert add(server, beast, "only one").status == 201
    assert ask(server.base_url, f"/{beast}?limit=2").headers["Link"] is None
    full = next_page(ask(server.base_url, f"/{beast}?limit=1"))
    assert full
    assert names(server, full) == []


def test_a_name_exists_once(server: Service, beast: str) -> None:
    """A second POST of a name is rejected; of many concurrent ones, only one succeeds."""
    assert add(server, beast, "twin").status == 201
    assert add(server, beast, "twin").status == 409
    with ThreadPoolExecutor(8) as callers:
        statuses = [response.status for response in callers.map(lambda _: add(server, beast, "octuplet"), range(8))]
    assert sorted(statuses) == [201] + 7 * [409]
    assert names(server, f"/{beast}") == ["octuplet", "twin"]


def test_two_beasts_can_have_the_same_name(server: Service, beast: str) -> None:
    """A name is unique only within its beast."""
    assert add(server, beast, "shared").status == 201
    assert add(server, "owlbear", "shared").status == 201
    assert names(server, "/owlbear?limit=1") == ["shared"]


def test_delete_is_idempotent(server: Service, beast: str) -> None:
    """Deleting a missing name succeeds: a client that retries after losing the response gets no error."""
    assert add(server, beast, "gone soon").status == 201
    assert [remove(server, beast, "gone soon").status for _ in range(2)] == [204, 204]
    assert names(server, f"/{beast}") == []


@pytest.mark.parametrize(
    "name",
    [
        "Ünïcörn",
        "独角兽",
        "🦄👩‍🚀",
        "نیم‌فاصله",  # with a zero-width non-joiner, which is used in Persian
        "e\u0301",  # not the same as é
        " leading and trailing ",
        "a  b",
        "x" * 50,
        "🦄" * 50,
        "'; DROP TABLE manticore; --",
        '" OR ""="',
        "%s %(name)s {table}",
        "\\'; SELECT pg_sleep(10)--",
        "null",
        "NULL",
        "../../etc/passwd",
        "</script><script>alert(1)</script>",
        "${jndi:ldap://x}",
    ],
)
def test_a_name_is_stored_unchanged(name: str, server: Service, beast: str) -> None:
    """A name is returned and can be deleted as it was sent; in SQL it is always a value."""
    assert add(server, beast, name).status == 201
    assert names(server, f"/{beast}") == [name]
    assert add(server, beast, name).status == 409
    assert remove(server, beast, name).status == 204
    assert names(server, f"/{beast}") == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", "not valid JSON"),
        ("name=x", "not valid JSON"),
        ('{"name": "x"', "not valid JSON"),
        ("[" * 8000, "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        ("{}", "no usable name"),
        ("[]", "no usable name"),
        ("null", "no usable name"),
        ('"name"', "no usable name"),
        ('{"name": null}', "no usable name"),
        ('{"name": 1}', "no usable name"),
        ('{"name": true}', "no usable name"),
        ('{"name": ["x"]}', "no usable name"),
        ('{"name": {"$ne": 1}}', "no usable name"),
        ('{"name": ""}', "no usable name"),
        ('{"name": " \\t\\u3000"}', "no usable name"),
        ('{"Name": "x"}', "no usable name"),
        (json.dumps({"name": "x" * 51}), "longer than 50"),
        ('{"name": "a\\nb"}', "control characters"),
        ('{"name": "a\\u0000b"}', "control characters"),
        ('{"name": "a\\u001b[31mb"}', "control characters"),
        ('{"name": "a\\u2028b"}', "control characters"),
        ('{"name": "\\ud83e"}', "control characters"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_body_without_a_usable_name_is_rejected(
    method: str, body: str | bytes, expected: str, server: Service, beast: str
) -> None:
    """The response is 400 with the reason, and nothing is stored or deleted."""
    response = ask(server.base_url, f"/{beast}", method, body=body, headers=JSON)
    assert response.status == 400
    assert expected in json.loads(response.body)["detail"]
    assert names(server, f"/{beast}") == []


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=1001", "limit=-1", "limit=", "limit=x", "limit=1.5", "limit=1e2", "limit=%D9%A1"),
        *("limit=99999999999999999999", "before=0", "before=-1", "before=2147483648", "before=x", "before="),
        *("limit=10;DROP%20TABLE%20manticore", "before=1%20OR%201=1", "limit=0x10", "limit=%00"),
    ],
)
def test_invalid_page_parameters_are_rejected(query: str, server: Service, beast: str) -> None:
    """The response is 400 with the allowed range."""
    response = ask(server.base_url, f"/{beast}?{query}")
    assert response.status == 400
    assert "must be a whole number from 1 to" in json.loads(response.body)["detail"]


@pytest.mark.parametrize("path", ["/", "/hydra", "/Unicorn", "/unicorn/", "/unicorn/1", "/mythical_wipes", "/%00"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_path_without_a_beast_is_not_found(method: str, path: str, server: Service) -> None:
    """No other table can be accessed."""
    assert ask(server.base_url, path, method, body='{"name": "x"}', headers=JSON).status == 404


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
def test_a_body_of_another_type_is_rejected(content_type: str, server: Service, beast: str) -> None:
    """The response is 415, and the body is not parsed."""
    headers = {"Content-Type": content_type} if content_type else {}
    assert ask(server.base_url, f"/{beast}", "POST", body='{"name": "x"}', headers=headers).status == 415


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/merge-patch+json"])
def test_other_content_types_of_json_are_accepted(content_type: str, server: Service, beast: str) -> None:
    """A charset and a type that is based on JSON are accepted."""
    headers = {"Content-Type": content_type}
    assert ask(server.base_url, f"/{beast}", "POST", body='{"name": "x"}', headers=headers).status == 201


def test_a_rejected_body_does_not_close_the_connection(server: Service, beast: str) -> None:
    """A response before the body is read would close the connection, and a client that still sends would not get it."""
    caller = HTTPConnection(urlsplit(server.base_url).netloc, timeout=60)
    caller.connect()
    connection = caller.sock
    for path, status in (("/phoenix", 404), (f"/{beast}", 415), ("/", 404), (f"/{beast}", 415)):
        caller.putrequest("POST", path)
        caller.putheader("Content-Type", "text/plain")
        caller.putheader("Content-Length", "500")
        caller.endheaders()
        readable, _, _ = select.select([connection], [], [], 0.3)
        assert not readable, "the response was sent before the body was received"
        caller.send(b"x" * 500)
        response = caller.getresponse()
        assert (response.status, len(response.read()) > 0) == (status, True)
        assert caller.sock is connection
    caller.close()


def test_a_body_is_read_up_to_its_limit(server: Service, beast: str) -> None:
    """A body of 16 KiB is accepted, and one byte more is rejected."""
    name = '{"name": "x"}'
    assert ask(server.base_url, f"/{beast}", "POST", body=name.ljust(MAX_BODY_BYTES), headers=JSON).status == 201
    assert ask(server.base_url, f"/{beast}", "POST", body=name.ljust(MAX_BODY_BYTES + 1), headers=JSON).status == 413


def test_a_body_without_a_length_is_limited_too(server: Service, beast: str) -> None:
    """A chunked body has no length in its header."""
    status = chunked(server, f"/{beast}", [b'{"name": ', b'"in chunks"}'])
    assert status == 201
    assert names(server, f"/{beast}") == ["in chunks"]
    assert chunked(server, f"/{beast}", [b'{"name": "x"}', b" " * MAX_BODY_BYTES]) == 413


def test_head_is_get_without_the_body(server: Service, beast: str) -> None:
    """HEAD has the same status and headers."""
    assert add(server, beast, "x").status == 201
    head, get = (ask(server.base_url, f"/{beast}?limit=1", method) for method in ("HEAD", "GET"))
    assert head.body == b""
    for name in ("Content-Type", "Link", "Content-Length"):
        assert head.headers[name] == get.headers[name]


def test_no_response_shows_internals(started: Fleet, server: Service, beast: str) -> None:
    """A rejection has a remedy, and nothing about the implementation or the database."""
    faulty = started.launch("server", FAULT_NULL_NAME="1")
    disconnected = started.launch("server", until="/healthz", MYTHICAL_DATABASE_HOST_PORT=str(free_port()))
    started.ready()
    assert add(server, beast, "there").status == 201
    rejections = [
        add(server, beast, "there"),
        add(server, "hydra", "there"),
        add(faulty, beast, "lost"),
        add(disconnected, beast, "late"),
        ask(disconnected.base_url, f"/{beast}"),
        ask(disconnected.base_url, "/readyz"),
        ask(server.base_url, f"/{beast}", "POST", body="{", headers=JSON),
        ask(server.base_url, f"/{beast}?limit='"),
        ask(server.base_url, f"/{beast}", "PUT"),
        ask(server.base_url, "/debug/pprof/profile?seconds=x"),
    ]
    assert [response.status for response in rejections] == [409, 404, 500, 503, 503, 503, 400, 400, 405, 400]
    for response in rejections:
        assert not INTERNALS.search(response.text), response.text
        assert "python" not in (response.headers["Server"] or "").lower()


def test_the_boring_endpoints_are_served(started: Fleet, postgres: Postgres) -> None:
    """ENDPOINT_TYPE=BORING serves the tables of a shop, and no beasts."""
    with own_database(postgres) as name:
        shop = started.start("server", MYTHICAL_DATABASE_NAME=name, ENDPOINT_TYPE="BORING", FAULT_NULL_NAME="0")
        for endpoint in BORING.names:
            assert add(shop, endpoint, "x").status == 201
            assert names(shop, f"/{endpoint}") == ["x"]
        assert {ask(shop.base_url, f"/{beast}").status for beast in MYTHICAL.names} == {404}
        assert shop.stop() == 0


def test_slow_callers_do_not_block_others(server: Service, beast: str) -> None:
    """Many callers that never finish their request occupy no thread, so that others are served."""
    url = urlsplit(server.base_url)
    assert url.hostname
    assert url.port
    slow = [socket.create_connection((url.hostname, url.port)) for _ in range(50)]
    try:
        for each in slow:
            head = (
                f"POST /{beast} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
            )
            each.sendall(head.encode())
        eventually(lambda: ask(server.base_url, f"/{beast}").status == 200)
    finally:
        for each in slow:
            each.close()


def chunked(server: Service, path: str, chunks: list[bytes]) -> int:
    """Send a chunked body with POST, and return the status."""
    url = urlsplit(server.base_url)
    assert url.hostname
    with socket.create_connection((url.hostname, url.port or 80), timeout=60) as connection:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        # In one piece, because a server that rejects the body closes the connection, and sending the rest would fail.
        body = b"".join(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in [*chunks, b""])
        connection.sendall(head.encode() + body)
        with connection.makefile("rb") as response:
            return int(response.readline().split()[1])
