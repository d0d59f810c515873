"""The server: a REST API over Postgres, one table per beast."""
