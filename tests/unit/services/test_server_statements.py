"""The statements: from the endpoints, never from a request."""

import re

import pytest
from flask import Flask

from common.core.endpoints import BORING, MYTHICAL
from services.server.sql_telemetry import comment
from services.server.statements import Statement, Statements
from tests.unit.services.recorded import Recorded


def all_of(table: str) -> list[Statement]:
    """Every statement about a table."""
    return list(vars(Statements(table)).values())


@pytest.mark.parametrize("table", MYTHICAL.names + BORING.names)
def test_the_table_is_a_quoted_identifier_in_each_statement(table: str) -> None:
    """Also where it is a word of SQL's own."""
    for statement in all_of(table):
        assert f'"{table}"' in statement.text
        assert not re.search(rf'(?<!")\b{table}\b(?!")', statement.text)
        assert statement.table == table
        assert statement.text.startswith(statement.operation)


def test_an_identifier_cannot_end_itself() -> None:
    """The names come from the code; this is a second barrier."""
    assert '"a""; DROP TABLE x; --"' in Statements('a"; DROP TABLE x; --').drop.text


def test_values_are_placeholders() -> None:
    """No statement has a place where a value could be pasted in."""
    made = Statements("unicorn")
    placeholders = {statement.text: statement.text.count("%s") for statement in all_of("unicorn")}
    assert placeholders[made.newest.text] == placeholders[made.add.text] == placeholders[made.remove.text] == 1
    assert placeholders[made.older.text] == 2
    assert all("{" not in text and "'" not in text for text in placeholders)


def test_the_table_is_that_of_the_interface() -> None:
    """Saved queries ask for `id` and `name`."""
    create = " ".join(Statements("unicorn").create.text.split())
    assert create == (
        'CREATE TABLE IF NOT EXISTS "unicorn" ( id serial PRIMARY KEY, name varchar(50) UNIQUE NOT NULL )'
    )


def test_the_newest_names_come_first() -> None:
    """And a page is stable: by id, not by time."""
    made = Statements("unicorn")
    for statement in (made.newest, made.older):
        assert "ORDER BY id DESC LIMIT %s" in statement.text


def test_the_comment_names_application_route_and_trace() -> None:
    """By the sqlcommenter specification: keys in order, percent-encoded, in quotes; nothing can end the comment."""
    told, app = Recorded(), Flask("test")
    app.add_url_rule("/<beast>", "page", lambda beast: beast)
    assert comment() == "/*application='mythical-server'*/"
    with app.test_request_context("/unicorn"), told.tracer.start_as_current_span("x") as span:
        ids = span.get_span_context()
        assert comment() == (
            "/*application='mythical-server',route='%2F%3Cbeast%3E',"
            f"traceparent='00-{ids.trace_id:032x}-{ids.span_id:016x}-{ids.trace_flags:02x}'*/"
        )
