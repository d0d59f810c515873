-- One table per beast. `{table}` is replaced by a quoted identifier from common/core/endpoints.py, never from a request.
CREATE TABLE IF NOT EXISTS {table} (
    id serial PRIMARY KEY,
    name varchar(50) UNIQUE NOT NULL
)
