"""The statements of the store: composed once per beast from the catalogue, never from a request."""

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
        # A name that exists is an answer, not an error: no exception here and no line in the database's log.
        add=statement("INSERT", "INSERT INTO {table} (name) VALUES (%s) ON CONFLICT (name) DO NOTHING"),
        remove=statement("DELETE", "DELETE FROM {table} WHERE name = %s"),
        create=statement("CREATE TABLE", _create()),
        drop=statement("DROP TABLE", "DROP TABLE IF EXISTS {table}"),
        trim=statement(
            "DELETE", "DELETE FROM {table} WHERE id <= (SELECT id FROM {table} ORDER BY id DESC OFFSET %s LIMIT 1)"
        ),
    )


def _create() -> str:
    lines = files(__package__).joinpath("schema.sql").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("--"))
