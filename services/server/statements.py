"""The statements of the store: composed once per beast from the endpoints, never from a request."""

from dataclasses import dataclass
from importlib.resources import files

from psycopg import sql


@dataclass(frozen=True)
class Statement:
    """A statement with what its span says: the operation, the table, and the text with placeholders for values."""

    operation: str
    table: str
    text: str


@dataclass(frozen=True)
class Statements:
    """What is asked of one beast's table."""

    newest: Statement
    older: Statement
    slow_newest: Statement
    slow_older: Statement
    ids: Statement
    older_ids: Statement
    by_id: Statement
    add: Statement
    remove: Statement
    create: Statement
    drop: Statement
    trim: Statement


def statements(table: str) -> Statements:
    """Compose the statements for a table."""

    def statement(operation: str, text: str) -> Statement:
        composed = sql.SQL(text).format(table=sql.Identifier(table))
        return Statement(operation, table, composed.as_string(None).strip())

    return Statements(
        newest=statement("SELECT", "SELECT id, name FROM {table} ORDER BY id DESC LIMIT %s"),
        older=statement("SELECT", "SELECT id, name FROM {table} WHERE id < %s ORDER BY id DESC LIMIT %s"),
        # Simulated: the planted fault slow_query. Postgres sleeps once per statement, whatever the table holds.
        slow_newest=statement("SELECT", "SELECT id, name FROM pg_sleep(%s) AS slow, {table} ORDER BY id DESC LIMIT %s"),
        slow_older=statement(
            "SELECT", "SELECT id, name FROM pg_sleep(%s) AS slow, {table} WHERE id < %s ORDER BY id DESC LIMIT %s"
        ),
        # For the planted fault n_plus_one.
        ids=statement("SELECT", "SELECT id FROM {table} ORDER BY id DESC LIMIT %s"),
        older_ids=statement("SELECT", "SELECT id FROM {table} WHERE id < %s ORDER BY id DESC LIMIT %s"),
        by_id=statement("SELECT", "SELECT id, name FROM {table} WHERE id = %s"),
        # A name that exists is an answer, not an error: no exception here and no line in the database's log.
        add=statement("INSERT", "INSERT INTO {table} (name) VALUES (%s) ON CONFLICT (name) DO NOTHING"),
        remove=statement("DELETE", "DELETE FROM {table} WHERE name = %s"),
        create=statement("CREATE TABLE", _create()),
        drop=statement("DROP TABLE", "DROP TABLE IF EXISTS {table}"),
        trim=statement(
            # Ids below 0 are those of the planted fault missing_index, which clears up by itself.
            "DELETE",
            "DELETE FROM {table} WHERE id > 0 AND id <= (SELECT id FROM {table} ORDER BY id DESC OFFSET %s LIMIT 1)",
        ),
    )


def _create() -> str:
    lines = files(__package__).joinpath("schema.sql").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("--"))
