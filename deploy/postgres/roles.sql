-- The roles of a farm's database and what each may do. Run it as a superuser, again after every `benchfarm db upgrade`,
-- `benchfarm up` of a new version and `benchfarm restore`; it changes nothing that is as it should be:
--
--     psql -f deploy/postgres/roles.sql postgres            (-v database=NAME where it is not called benchfarm)
--
-- People get a login and one of the roles: CREATE ROLE ada LOGIN; GRANT benchfarm_submitter TO ada; \password ada
-- What the rights do not give is in docs/operations.md.

\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;
\if :{?database}
\else
  \set database benchfarm
\endif

SELECT format('CREATE ROLE %I %s', name, options)
FROM (VALUES
  ('benchfarm_farm', 'LOGIN'),         -- the head: `benchfarm up`, `benchfarm db upgrade`, `benchfarm restore`
  ('benchfarm_reader', 'NOLOGIN'),     -- lists, shows, compares, exports, reports, backs up
  ('benchfarm_submitter', 'NOLOGIN'),  -- also submits, cancels, retries
  ('benchfarm_operator', 'NOLOGIN'),   -- also drains, quarantines, releases and tags devices
  ('benchfarm_grafana', 'LOGIN')       -- a reader whose queries end by themselves
) AS role (name, options)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec

GRANT benchfarm_reader TO benchfarm_submitter;
GRANT benchfarm_submitter TO benchfarm_operator;
GRANT benchfarm_reader TO benchfarm_grafana;
ALTER ROLE benchfarm_grafana CONNECTION LIMIT 20;
ALTER ROLE benchfarm_grafana SET default_transaction_read_only = on;
ALTER ROLE benchfarm_grafana SET statement_timeout = '30s';
-- A migration drops the views and makes them anew: it would wait for whoever read one and went away.
ALTER ROLE benchfarm_grafana SET idle_in_transaction_session_timeout = '60s';
-- Compiling a panel's query takes longer than the query.
ALTER ROLE benchfarm_grafana SET jit = off;

SELECT format('CREATE DATABASE %I OWNER benchfarm_farm', :'database')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database')
\gexec
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO benchfarm_reader;

\connect :"database"
SET client_min_messages = warning;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO benchfarm_reader;
-- Views too; a picture of the whole (pg_dump) takes the sequences as well.
GRANT SELECT ON ALL TABLES IN SCHEMA public TO benchfarm_reader;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO benchfarm_reader;
-- And of what the farm makes from now on.
ALTER DEFAULT PRIVILEGES FOR ROLE benchfarm_farm IN SCHEMA public GRANT SELECT ON TABLES TO benchfarm_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE benchfarm_farm IN SCHEMA public GRANT SELECT ON SEQUENCES TO benchfarm_reader;

-- Tables by name, so that a new one is nobody's to write until it stands here. A database without them gets them from
-- the first `benchfarm up`: run this again then.
DO $$
DECLARE
  given record;
BEGIN
  FOR given IN
    SELECT *
    FROM (VALUES
      ('benchfarm_submitter', 'sweep_run', 'INSERT, UPDATE'),
      ('benchfarm_submitter', 'job', 'INSERT, UPDATE'),
      ('benchfarm_submitter', 'requirement', 'INSERT'),
      ('benchfarm_submitter', 'payload', 'INSERT'),
      ('benchfarm_submitter', 'event', 'INSERT'),
      -- What a submitted matrix contains that cannot be had.
      ('benchfarm_submitter', 'cell', 'INSERT, UPDATE'),
      -- A job that runs is cancelled by its attempt's state.
      ('benchfarm_submitter', 'attempt', 'UPDATE (state, finished_at, message)'),
      -- Schedules are sweeps that somebody submits by the clock; gates and noise measure trials.
      ('benchfarm_submitter', 'schedule', 'INSERT, UPDATE, DELETE'),
      ('benchfarm_submitter', 'trial', 'INSERT, UPDATE'),
      -- Whoever looks at an incident says so, and others are told; what it is made of only the farm writes.
      ('benchfarm_submitter', 'incident',
       'UPDATE (state, changed_at, acknowledged_by, resolved_at, resolved_by, note)'),
      ('benchfarm_submitter', 'incident_series', 'UPDATE (recovered_point_id)'),
      ('benchfarm_submitter', 'notification', 'INSERT, UPDATE (state, next_at, give_up_at)'),
      ('benchfarm_operator', 'device',
       'UPDATE (admin, admin_by, admin_why, failures_in_row, probes, probe_at, not_before, tags)')
    ) AS rights (role, table_name, privileges)
    WHERE to_regclass(format('public.%I', table_name)) IS NOT NULL
  LOOP
    EXECUTE format('GRANT %s ON public.%I TO %I', given.privileges, given.table_name, given.role);
  END LOOP;
  FOR given IN
    SELECT pg_get_serial_sequence(format('public.%I', table_name), 'id') AS sequence_name
    FROM unnest(ARRAY['sweep_run', 'job', 'requirement', 'payload', 'event', 'cell', 'schedule', 'trial', 'notification']) AS written (table_name)
    WHERE to_regclass(format('public.%I', table_name)) IS NOT NULL
  LOOP
    CONTINUE WHEN given.sequence_name IS NULL;
    EXECUTE format('GRANT USAGE ON SEQUENCE %s TO benchfarm_submitter', given.sequence_name);
  END LOOP;
END
$$;
