-- The gate's own user in Postgres: it reads the names of things, the format of tidemark's own tables
-- and whose streams they are. No document, no document's id, and nothing can be written.
-- Run it as a superuser, after `tidemark migrate`; it can be run any number of times.
--
--   psql -v ON_ERROR_STOP=1 -f deploy/gate/users.sql DATABASE
--
-- It logs in, and has no password until you give it one (\password tidemark_gate).

\if :{?gate}
\else
  \set gate tidemark_gate
\endif
\if :{?state_schema}
\else
  \set state_schema tidemark
\endif
\if :{?schema}
\else
  \set schema public
\endif

select format('create role %I login connection limit 4', :'gate')
where not exists (select from pg_roles where rolname = :'gate')
\gexec
grant connect on database :"DBNAME" to :"gate";
grant usage on schema :"state_schema", :"schema" to :"gate";
select format('grant select on %I.%I to %I', schemaname, tablename, :'gate')
from pg_tables
where schemaname = :'state_schema' and tablename in ('_sqlx_migrations', 'release', 'stream')
\gexec
grant select (stream, verb, done_at, arguments) on :"state_schema".command to :"gate";
