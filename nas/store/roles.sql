-- Roles of a study database on a PostgreSQL server that several people share. Run once by the owner
-- of the database, in it, after it has made the tables:
--
--   nas studies --create --storage postgresql+psycopg://OWNER@HOST/nas
--   psql -d nas -f roles.sql
--   psql -d nas -c "CREATE ROLE ada LOGIN IN ROLE nas_searches"   -- and a password: \password ada
--
-- nas_searches adds to the record and cannot rewrite it: what happened (event) and what was proposed
-- (architecture) can be added and read, never changed or removed. nas_reads looks. Neither can change
-- the tables: a release with new ones is first run by the owner. Workers of a cluster are given
-- neither role, nor the address of the database; but Ray shows all its nodes the command that was
-- typed, so there the address belongs into NAS_STORAGE.

DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'nas_reads') THEN
    CREATE ROLE nas_reads NOLOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'nas_searches') THEN
    CREATE ROLE nas_searches NOLOGIN;
  END IF;
END $$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC;

GRANT USAGE ON SCHEMA public TO nas_reads;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO nas_reads;

GRANT nas_reads TO nas_searches;
GRANT INSERT ON study, event, architecture, trial, evaluation, measurement, front, front_member
  TO nas_searches;
GRANT UPDATE ON study, trial, evaluation, measurement, front TO nas_searches;
GRANT DELETE ON front_member TO nas_searches;
