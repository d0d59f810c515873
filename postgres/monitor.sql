-- The role with which Alloy monitors Postgres. Run when the database is created; it may be run again at any time.
\getenv password ALLOY_DATABASE_PASSWORD
SELECT 'CREATE ROLE alloy LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'alloy') \gexec
ALTER ROLE alloy NOSUPERUSER NOCREATEDB NOCREATEROLE CONNECTION LIMIT 5 PASSWORD :'password';
ALTER ROLE alloy SET default_transaction_read_only = on;
-- Queries end before the next scrape.
ALTER ROLE alloy SET statement_timeout = '8s';
-- Statistics of all sessions and databases, and the size of the write-ahead log, but no contents of tables.
GRANT pg_monitor TO alloy;
-- Statistics of statements. In a database that exists already, the server creates them.
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
