-- Four roles for one tidemark, each with what it needs and no more. Run it as a superuser in the target
-- database, then `tidemark migrate` as the owner, then this again: it can be run any number of times.
--
--   psql -v ON_ERROR_STOP=1 -f deploy/roles.sql DATABASE
--   psql -v ON_ERROR_STOP=1 -v daemon=follower -v tables=order,customer -f deploy/roles.sql DATABASE
--
--   owner     makes and alters tables: `tidemark migrate`
--   daemon    reads and writes rows: `tidemark run`, with migrate.automatic = false
--   viewer    reads: `status`, `compare`, the lists
--   operator  reads, and asks: `resync`, `checkpoint rewind`, `dead-letter`, `incident ack`, …
--
-- They log in, and have no password until you give them one (\password tidemark_daemon). Who inherits
-- from them is yours to grant. PostgreSQL 14 and before: revoke create on schema public from public.

\if :{?owner}
\else
  \set owner tidemark_owner
\endif
\if :{?daemon}
\else
  \set daemon tidemark_daemon
\endif
\if :{?viewer}
\else
  \set viewer tidemark_viewer
\endif
\if :{?operator}
\else
  \set operator tidemark_operator
\endif
\if :{?state_schema}
\else
  \set state_schema tidemark
\endif
\if :{?schema}
\else
  \set schema public
\endif
\if :{?tables}
\else
  \set tables doctor,recommendation
\endif

select format('create role %I login', name)
from unnest(array[:'owner', :'daemon', :'viewer', :'operator']) as name
where not exists (select from pg_roles where rolname = name)
\gexec

grant connect, temporary on database :"DBNAME" to :"owner", :"daemon", :"viewer", :"operator";

-- tidemark's own tables. What an earlier user made there becomes the owner's.
create schema if not exists :"state_schema";
alter schema :"state_schema" owner to :"owner";
select format('alter table %I.%I owner to %I', n.nspname, c.relname, :'owner')
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where n.nspname = :'state_schema' and c.relkind = 'r' and pg_get_userbyid(c.relowner) <> :'owner'
\gexec
select format('alter function %s owner to %I', p.oid::regprocedure, :'owner')
from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
where n.nspname = :'state_schema' and pg_get_userbyid(p.proowner) <> :'owner'
\gexec
grant usage on schema :"state_schema" to :"daemon", :"viewer", :"operator";
grant select on all tables in schema :"state_schema" to :"daemon", :"viewer", :"operator";
grant insert, update, delete on all tables in schema :"state_schema" to :"daemon";
alter default privileges for role :"owner" in schema :"state_schema"
  grant select, insert, update, delete on tables to :"daemon";
alter default privileges for role :"owner" in schema :"state_schema"
  grant select on tables to :"viewer", :"operator";

-- What only `migrate` writes.
select format('revoke insert, update, delete on %I.%I from %I', :'state_schema', c.relname, :'daemon')
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where n.nspname = :'state_schema' and c.relname in ('_sqlx_migrations', 'release')
\gexec

-- An operator asks, and takes incidents on. By column, so that who asked, as Postgres knows it, and
-- what came of it cannot be made up afterwards.
select format('grant insert (verb, stream, arguments, actor, reason, service, environment, done_at, outcome, result) on %I.%I to %I',
              :'state_schema', c.relname, :'operator')
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where n.nspname = :'state_schema' and c.relname = 'command'
\gexec
select format('grant update (acked_by, acked_until) on %I.%I to %I', :'state_schema', c.relname, :'operator')
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where n.nspname = :'state_schema' and c.relname = 'incident'
\gexec

-- The followed tables: those that the owner makes, and those named that are there already. One that
-- belongs to somebody else is not altered by `migrate`: alter table … owner to the owner, if it should be.
create schema if not exists :"schema";
grant usage, create on schema :"schema" to :"owner";
grant usage on schema :"schema" to :"daemon", :"viewer", :"operator";
alter default privileges for role :"owner" in schema :"schema"
  grant select, insert, update, delete on tables to :"daemon";
alter default privileges for role :"owner" in schema :"schema"
  grant select on tables to :"viewer", :"operator";
select format('grant select, insert, update, delete on %1$I.%2$I to %3$I; grant select on %1$I.%2$I to %4$I, %5$I',
              n.nspname, c.relname, :'daemon', :'viewer', :'operator')
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where n.nspname = :'schema' and c.relkind in ('r', 'p') and c.relname = any(string_to_array(:'tables', ','))
\gexec
