//! Rights in Postgres, each asked for by its name: of whoever asks, or of the role that a daemon
//! will be.

use std::collections::BTreeMap;

use sqlx::postgres::PgConnection;

use crate::error::{Class, Code, Fault};
use crate::model::namespace::Table;
use crate::postgres::{Target, with_deadline};
use crate::settings::Settings;
use crate::state::StateTables;

/// What is done to every table but those that only `migrate` writes.
const DML: [&str; 4] = ["select", "insert", "update", "delete"];

/// Of tidemark's own tables, those that a daemon only reads.
const READ: [&str; 2] = ["_sqlx_migrations", "release"];

/// Everything that is asked on one connection.
pub(super) struct Ends<'a> {
    pub settings: &'a Settings,
    pub target: &'a Target,
    pub state: StateTables,
    pub rights: Rights<'a>,
    /// Statements are executed, not only prepared: it is this user's rights that are asked about.
    pub executes: bool,
}

/// Who is asked about, and where.
#[derive(Debug, Clone)]
pub(super) struct Rights<'a> {
    pub target: &'a Target,
    pub role: String,
}

/// What there is of tidemark's own tables: their names, and what the role may not do to which.
#[derive(Debug)]
pub(super) struct Own {
    pub tables: Vec<String>,
    pub lacking: Vec<String>,
}

impl<'a> Rights<'a> {
    /// # Errors
    /// There is no such role; or whatever Postgres answers.
    pub async fn of(
        connection: &mut PgConnection,
        target: &'a Target,
        role: Option<&str>,
    ) -> Result<Self, Fault> {
        let sql = "select coalesce((select rolname::text from pg_roles where rolname = \
                   coalesce($1, current_user)), '')";
        let query = sqlx::query_scalar::<_, String>(sql).bind(role);
        let found = with_deadline(target.deadline(), query.fetch_one(connection)).await?;
        if found.is_empty() {
            let message = format!("there is no role {} in Postgres", role.unwrap_or_default());
            return Err(unauthorised(
                message,
                "name the role that the daemon logs in as; deploy/roles.sql makes it",
            ));
        }
        Ok(Self { target, role: found })
    }

    /// On tidemark's own tables.
    pub async fn on_own_tables(
        &self,
        connection: &mut PgConnection,
        schema: &str,
    ) -> Result<Own, Fault> {
        let query = sqlx::query_as::<_, (String, Vec<String>)>(
            "select c.relname::text, coalesce(array_agg(p.privilege order by p.place) \
             filter (where not has_table_privilege($1, c.oid, p.privilege)), '{}') \
             from pg_class as c join pg_namespace as n on n.oid = c.relnamespace \
             cross join unnest($3::text[]) with ordinality as p (privilege, place) \
             where n.nspname = $2 and c.relkind in ('r', 'p') \
             and (p.privilege = 'select' or c.relname <> all($4)) group by c.relname order by \
             c.relname",
        )
        .bind(&self.role)
        .bind(schema)
        .bind(&DML[..])
        .bind(&READ[..]);
        let tables =
            with_deadline(self.target.deadline(), query.fetch_all(&mut *connection)).await?;
        let mut lacking = self.usage(connection, schema).await?;
        // Tables of which the same is lacking are named together.
        let mut by_privilege: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (name, privileges) in tables.iter().filter(|(_, privileges)| !privileges.is_empty()) {
            by_privilege.entry(privileges.join(", ")).or_default().push(name);
        }
        lacking.extend(
            by_privilege
                .iter()
                .map(|(privileges, names)| format!("{privileges} on {}", names.join(", "))),
        );
        Ok(Own { tables: tables.into_iter().map(|(name, _)| name).collect(), lacking })
    }

    /// On a followed table that is there: what the role may not do.
    pub async fn on_table(
        &self,
        connection: &mut PgConnection,
        table: &Table,
    ) -> Result<Vec<String>, Fault> {
        let query = sqlx::query_scalar::<_, String>(
            "select p.privilege from pg_class as c join pg_namespace as n on n.oid = \
             c.relnamespace, unnest($4::text[]) with ordinality as p (privilege, place) where \
             n.nspname = $2 and c.relname = $3 and not has_table_privilege($1, c.oid, p.privilege) \
             order by p.place",
        )
        .bind(&self.role)
        .bind(&table.schema)
        .bind(&table.name)
        .bind(&DML[..]);
        let privileges =
            with_deadline(self.target.deadline(), query.fetch_all(&mut *connection)).await?;
        let mut lacking = self.usage(connection, &table.schema).await?;
        if !privileges.is_empty() {
            lacking.push(format!("{} on {table}", privileges.join(", ")));
        }
        Ok(lacking)
    }

    /// Whether a schema can be looked into, if it is there.
    async fn usage(
        &self,
        connection: &mut PgConnection,
        schema: &str,
    ) -> Result<Vec<String>, Fault> {
        let sql = "select coalesce(bool_and(has_schema_privilege($1, oid, 'usage')), true) from \
                   pg_namespace where nspname = $2";
        let may = self.ask(connection, sql, schema).await?;
        Ok(Vec::from_iter((!may).then(|| format!("usage on schema {schema}"))))
    }

    /// Whether tables can be made in a schema, which may have to be made first. What is missing, if
    /// not.
    pub async fn cannot_create_in(
        &self,
        connection: &mut PgConnection,
        schema: &str,
        exists: bool,
    ) -> Result<Option<String>, Fault> {
        if exists {
            let may = self
                .ask(connection, "select has_schema_privilege($1, $2, 'create')", schema)
                .await?;
            return Ok((!may).then(|| format!("create on schema {schema}")));
        }
        let sql = "select has_database_privilege($1, current_database(), 'create') and $2 <> ''";
        let may = self.ask(connection, sql, schema).await?;
        Ok((!may).then(|| "create on the database".to_owned()))
    }

    /// Whether every table of a schema can be altered.
    pub async fn owns_all(
        &self,
        connection: &mut PgConnection,
        schema: &str,
    ) -> Result<bool, Fault> {
        let sql = "select coalesce(bool_and(pg_has_role($1, c.relowner, 'usage')), true) from \
                   pg_class as c join pg_namespace as n on n.oid = c.relnamespace where n.nspname \
                   = $2 and c.relkind in ('r', 'p')";
        self.ask(connection, sql, schema).await
    }

    /// Whether one table can.
    pub async fn owns(&self, connection: &mut PgConnection, table: &Table) -> Result<bool, Fault> {
        let sql =
            "select pg_has_role($1, relowner, 'usage') from pg_class where oid = to_regclass($2)";
        self.ask(connection, sql, &table.sql()).await
    }

    async fn ask(
        &self,
        connection: &mut PgConnection,
        sql: &'static str,
        about: &str,
    ) -> Result<bool, Fault> {
        let query = sqlx::query_scalar::<_, bool>(sql).bind(&self.role).bind(about);
        with_deadline(self.target.deadline(), query.fetch_one(connection)).await
    }
}

pub(super) fn unauthorised(message: String, hint: &'static str) -> Fault {
    Fault::new(Class::Halt, Code::TargetUnauthorised, message, hint)
}

/// What a role may not do and must, as a finding.
pub(super) fn rights(rights: &Rights<'_>, lacking: &[String]) -> Result<String, Fault> {
    if lacking.is_empty() {
        return Ok(format!("{} has each that `run` needs", rights.role));
    }
    let message =
        format!("{} may not write as it must: it lacks {}", rights.role, lacking.join("; "));
    Err(unauthorised(message, "grant it, or run deploy/roles.sql"))
}
