-- The role with which Grafana reads tables. Run when the database is created; it may be run again at any time.
\getenv password GRAFANA_DATABASE_PASSWORD
SELECT 'CREATE ROLE grafana LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'grafana') \gexec
ALTER ROLE grafana NOSUPERUSER NOCREATEDB NOCREATEROLE CONNECTION LIMIT 10 PASSWORD :'password';
-- A panel that reads a whole table must not delay the services.
ALTER ROLE grafana SET statement_timeout = '5s';
ALTER ROLE grafana SET default_transaction_read_only = on;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO grafana;
-- The server drops and re-creates its tables once a day. Without this, Grafana couldn't read the new ones.
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO grafana;
-- A session that is idle within a transaction would block the wipe of the tables.
ALTER ROLE grafana SET idle_in_transaction_session_timeout = '10s';
-- A session can leave its read-only mode. Postgres lets every role fill the disk with temporary tables and large
-- objects, and hold the lock that the server needs to maintain its tables. After this, only a superuser may.
SELECT format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()) \gexec
SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', oid::regprocedure) FROM pg_proc
  WHERE pronamespace = 'pg_catalog'::regnamespace AND (proname ~ '^lo_' OR proname ~ '^pg_.*advisory') \gexec
