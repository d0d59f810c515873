"""The SQL statements of the store: composed once per beast, never from a request."""

from dataclasses import dataclass
from importlib.resources import files

from psycopg import sql

# Sightings of a beast that has not left. With statistics from before there were any, Postgres expects one row of each
# kind, and compares each with each; with current ones, it uses a hash table.
UNSEEN = (
    "SELECT count(*) FROM mythical_sightings AS seen WHERE seen.state = 1 AND NOT EXISTS "
    "(SELECT FROM mythical_sightings AS gone WHERE gone.state = 2 AND gone.beast = seen.beast)"
)


@dataclass(frozen=True)
class Statement:
    """A statement and what its span reports: the operation, the table, and the text with placeholders for values."""

    operation: str
    table: str
    text: str


class Statements:
    """The statements about one beast's table."""

    def __init__(self, table: str) -> None:
        def statement(operation: str, text: str) -> Statement:
            composed = sql.SQL(text).format(table=sql.Identifier(table), unseen=sql.SQL(UNSEEN))
            return Statement(operation, table, composed.as_string(None).strip())

        self.newest = statement("SELECT", "SELECT id, name FROM {table} ORDER BY id DESC LIMIT %s")
        self.older = statement("SELECT", "SELECT id, name FROM {table} WHERE id < %s ORDER BY id DESC LIMIT %s")
        # Simulated: the injected fault slow_query. Postgres sleeps once per statement, however many rows there are.
        self.slow_newest = statement(
            "SELECT", "SELECT id, name FROM pg_sleep(%s) AS slow, {table} ORDER BY id DESC LIMIT %s"
        )
        self.slow_older = statement(
            "SELECT", "SELECT id, name FROM pg_sleep(%s) AS slow, {table} WHERE id < %s ORDER BY id DESC LIMIT %s"
        )
        # For the injected fault stale_statistics. Postgres counts the sightings once per statement.
        self.counted_newest = statement(
            "SELECT", "SELECT id, name FROM {table} WHERE ({unseen}) >= 0 ORDER BY id DESC LIMIT %s"
        )
        self.counted_older = statement(
            "SELECT", "SELECT id, name FROM {table} WHERE ({unseen}) >= 0 AND id < %s ORDER BY id DESC LIMIT %s"
        )
        # For the injected fault n_plus_one.
        self.ids = statement("SELECT", "SELECT id FROM {table} ORDER BY id DESC LIMIT %s")
        self.older_ids = statement("SELECT", "SELECT id FROM {table} WHERE id < %s ORDER BY id DESC LIMIT %s")
        self.by_id = statement("SELECT", "SELECT id, name FROM {table} WHERE id = %s")
        # A duplicate name is not an error here: it raises no exception and writes no line to the database's log.
        self.add = statement("INSERT", "INSERT INTO {table} (name) VALUES (%s) ON CONFLICT (name) DO NOTHING")
        self.remove = statement("DELETE", "DELETE FROM {table} WHERE name = %s")
        self.create = statement("CREATE TABLE", _create())
        self.drop = statement("DROP TABLE", "DROP TABLE IF EXISTS {table}")
        self.trim = statement(
            # Ids below 0 belong to the injected fault missing_index, which deletes them itself.
            "DELETE",
            "DELETE FROM {table} WHERE id > 0 AND id <= (SELECT id FROM {table} ORDER BY id DESC OFFSET %s LIMIT 1)",
        )


def _create() -> str:
    lines = files(__package__).joinpath("schema.sql").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("--"))
