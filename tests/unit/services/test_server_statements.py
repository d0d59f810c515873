"""SQL statements contain names of endpoints only, and values are parameters."""

import re

import pytest
from flask import Flask

from common.core.endpoints import BORING, MYTHICAL
from services.server.sql_telemetry import comment
from services.server.statements import Statement, Statements
from tests.unit.services.recorded import Recorded


def all_of(table: str) -> list[Statement]:
    """Return every statement about a table."""
    return list(vars(Statements(table)).values())


@pytest.mark.parametrize("table", MYTHICAL.names + BORING.names)
def test_the_table_is_a_quoted_identifier_in_each_statement(table: str) -> None:
    """This holds for keywords of SQL too."""
    for statement in all_of(table):
        assert f'"{table}"' in statement.text
        assert not re.search(rf'(?<!")\b{table}\b(?!")', statement.text)
        assert statement.table == table
        assert statement.text.startswith(statement.operation)


def test_quotes_in_an_identifier_are_escaped() -> None:
    """Names come from the code, so this is a second defense."""
    assert '"a""; DROP TABLE x; --"' in Statements('a"; DROP TABLE x; --').drop.text


def test_values_are_placeholders() -> None:
    """No statement contains values as text."""
    made = Statements("unicorn")
    placeholders = {statement.text: statement.text.count("%s") for statement in all_of("unicorn")}
    assert placeholders[made.newest.text] == placeholders[made.add.text] == placeholders[made.remove.text] == 1
    assert placeholders[made.older.text] == 2
    assert all("{" not in text and "'" not in text for text in placeholders)


def test_the_table_is_that_of_the_interface() -> None:
    """Saved queries use `id` and `name`."""
    create = " ".join(Statements("unicorn").create.text.split())
    assert create == (
        'CREATE TABLE IF NOT EXISTS "unicorn" ( id serial PRIMARY KEY, name varchar(50) UNIQUE NOT NULL )'
    )


def test_the_newest_names_come_first() -> None:
    """A page is ordered by ID and not by time, so it is stable."""
    made = Statements("unicorn")
    for statement in (made.newest, made.older):
        assert "ORDER BY id DESC LIMIT %s" in statement.text


def test_the_comment_names_application_route_and_trace() -> None:
    """The sqlcommenter specification requires sorted keys and percent-encoded values, which cannot end the comment."""
    telemetry, app = Recorded(), Flask("test")
    app.add_url_rule("/<beast>", "page", lambda beast: beast)
    assert comment() == "/*application='mythical-server'*/"
    with app.test_request_context("/unicorn"), telemetry.tracer.start_as_current_span("x") as span:
        ids = span.get_span_context()
        assert comment() == (
            "/*application='mythical-server',route='%2F%3Cbeast%3E',"
            f"traceparent='00-{ids.trace_id:032x}-{ids.span_id:016x}-{ids.trace_flags:02x}'*/"
        )
