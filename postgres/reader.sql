-- The role by which Grafana reads. Run when the database is made; it may be run again at any time.
\getenv password GRAFANA_DATABASE_PASSWORD
SELECT 'CREATE ROLE grafana LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'grafana') \gexec
ALTER ROLE grafana NOSUPERUSER NOCREATEDB NOCREATEROLE CONNECTION LIMIT 10 PASSWORD :'password';
-- A panel that reads a whole table must not hold up the services.
ALTER ROLE grafana SET statement_timeout = '5s';
ALTER ROLE grafana SET default_transaction_read_only = on;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO grafana;
-- The server drops its tables once a day and makes them anew: without this, they would be closed to Grafana from then on.
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO grafana;
-- One that waits in the midst of a transaction would hold up the wipe of the tables.
ALTER ROLE grafana SET idle_in_transaction_session_timeout = '10s';
-- What Postgres lets everyone do, and a session can leave its read-only mode: fill the disk with temporary tables and
-- large objects, and hold the lock without which the server cannot look after its tables. A superuser still may.
SELECT format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()) \gexec
SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', oid::regprocedure) FROM pg_proc
  WHERE pronamespace = 'pg_catalog'::regnamespace AND (proname ~ '^lo_' OR proname ~ '^pg_.*advisory') \gexec
