//! The target: whether it can be written to, tidemark's own tables, and the rights to both.

use sqlx::postgres::PgConnection;

use super::rights::{Rights, unauthorised};
use super::{Finding, table, tls};
use crate::checkpoint::{Checkpoints, Standing, own_tables};
use crate::error::{Class, Code, Fault};
use crate::postgres::{Target, close, within};
use crate::settings::Settings;

/// Everything that is asked on one connection.
pub(super) struct Ends<'a> {
    pub settings: &'a Settings,
    pub target: &'a Target,
    pub checkpoints: Checkpoints,
    pub rights: Rights<'a>,
    /// Statements may be executed: the session is not read-only, and it is this user's rights that are asked about.
    pub executes: bool,
}

pub(super) async fn target(settings: &Settings, role: Option<&str>) -> Vec<Finding> {
    let target = match Target::new(settings) {
        Ok(target) => target,
        Err(fault) => return vec![Finding::failed("target", &fault)],
    };
    let what = format!("target {}", target.shown());
    let mut connection = match target.connect().await {
        Ok(connection) => connection,
        Err(fault) => return vec![Finding::failed(what, &fault)],
    };
    let mut findings = Vec::new();
    match server(&mut connection, &target).await {
        Ok(server) => findings.push(Finding::of(what, server.judged())),
        Err(fault) => return vec![Finding::failed(what, &fault)],
    }
    let writes = findings.iter().all(|finding| finding.ok && !finding.detail.contains(READ_ONLY));
    findings.push(tls::target(&mut connection, &target, settings).await);
    match Rights::of(&mut connection, &target, role).await {
        Ok(rights) => {
            let checkpoints = Checkpoints::new(target.clone(), target.pool(1), &settings.target.state_schema);
            let ends = Ends { settings, target: &target, checkpoints, rights, executes: writes && role.is_none() };
            findings.extend(own(&mut connection, &ends).await);
            for stream in &settings.streams {
                findings.extend(table::table(&mut connection, &ends, stream).await);
            }
        }
        Err(fault) => findings.push(Finding::failed("role", &fault)),
    }
    close(connection).await;
    findings
}

#[derive(Debug, sqlx::FromRow)]
struct Server {
    version: String,
    standby: bool,
    read_only: bool,
    /// Where that it is read-only was said: `client` by whoever asks.
    said_by: Option<String>,
}

/// Said where whoever asks wants nothing to be written, as the gate before a release does.
const READ_ONLY: &str = "read-only by target.url's own options";

impl Server {
    fn judged(&self) -> Result<String, Fault> {
        let refused = |message: &str, hint| Err(unauthorised(message.to_owned(), hint));
        let version = &self.version;
        match self {
            Self { standby: true, .. } => refused(
                "the server is a standby: it takes no writes",
                "point target.url at the primary, or promote this one",
            ),
            Self { read_only: false, .. } => Ok(format!("PostgreSQL {version}")),
            Self { said_by: Some(said_by), .. } if said_by == "client" => {
                Ok(format!("PostgreSQL {version}; {READ_ONLY}: statements are prepared, not executed"))
            }
            _ => refused(
                "sessions here are read-only: default_transaction_read_only is on",
                "alter role, alter database or postgresql.conf says so: reset it there",
            ),
        }
    }
}

async fn server(connection: &mut PgConnection, target: &Target) -> Result<Server, Fault> {
    let sql = "select current_setting('server_version') as version, pg_is_in_recovery() as standby, \
               current_setting('transaction_read_only') = 'on' as read_only, \
               (select source from pg_settings where name = 'default_transaction_read_only') as said_by";
    within(target.deadline(), sqlx::query_as(sql).fetch_one(connection)).await
}

/// tidemark's own tables: there, of a format this release knows, its streams' and nobody else's, and the right to
/// write them.
async fn own(connection: &mut PgConnection, ends: &Ends<'_>) -> Vec<Finding> {
    let (settings, checkpoints) = (ends.settings, &ends.checkpoints);
    let schema = &settings.target.state_schema;
    let what = format!("tables of schema {schema}");
    let own = match ends.rights.on_own_tables(connection, schema).await {
        Ok(own) => own,
        Err(fault) => return vec![Finding::failed(what, &fault)],
    };
    let granted = Finding::of(format!("rights on schema {schema}"), rights(&ends.rights, &own.lacking));
    let standing = match checkpoints.standing(connection).await {
        Ok(standing) => standing,
        Err(fault) if fault.code == Code::TargetUnauthorised && !granted.ok => return vec![granted],
        Err(fault) => return vec![Finding::failed(what, &fault)],
    };
    let mut findings = Vec::new();
    if !standing.missing.is_empty() {
        let made = pending(connection, ends, &standing).await;
        findings.push(match made {
            Ok(detail) => Finding::pending(&what, &detail),
            Err(fault) => Finding::failed(&what, &fault),
        });
        if standing.is_fresh() {
            return findings;
        }
    }
    let is_there = |name: &&str| own.tables.iter().any(|table| table == name);
    let gone: Vec<&str> = own_tables().into_iter().filter(|name| !is_there(name)).collect();
    if standing.missing.is_empty() {
        findings.push(Finding::of(&what, complete(&standing, &gone)));
    }
    let whole = granted.ok && gone.is_empty();
    findings.push(granted);
    if whole {
        let names: Vec<&str> = settings.streams.iter().map(|stream| stream.name.as_str()).collect();
        let ours = checkpoints.refuse_strangers(connection, &names).await;
        findings.push(Finding::of("whose streams", ours.map(|()| format!("{}'s, or nobody's yet", settings.owner()))));
    }
    findings
}

/// Who makes what is missing, if somebody can.
async fn pending(connection: &mut PgConnection, ends: &Ends<'_>, standing: &Standing) -> Result<String, Fault> {
    let (settings, rights) = (ends.settings, &ends.rights);
    let (schema, lacks) = (&settings.target.state_schema, standing.lacks());
    if !settings.migrate.automatic {
        let message = format!("not there yet: {lacks}; migrate.automatic is false");
        let hint = "run `tidemark migrate` as their owner";
        return Err(Fault::new(Class::Halt, Code::TargetSchemaMismatch, message, hint));
    }
    let cannot = rights.cannot_create_in(connection, schema, standing.schema_exists).await?;
    let cannot = match cannot {
        None if !rights.owns_all(connection, schema).await? => Some("the tables' ownership".to_owned()),
        cannot => cannot,
    };
    match cannot {
        None => Ok(format!("{lacks}; `run` makes what is missing, or `tidemark migrate`")),
        Some(right) => {
            let message =
                format!("not there yet: {lacks}; and {} may not make what is missing: it lacks {right}", rights.role);
            Err(unauthorised(message, "run `tidemark migrate` as a user who may (deploy/roles.sql), or grant it"))
        }
    }
}

fn complete(standing: &Standing, gone: &[&str]) -> Result<String, Fault> {
    if gone.is_empty() {
        return Ok(standing.format());
    }
    let message = format!("gone, though they were made once: {}", gone.join(", "));
    let hint = "restore the schema and the followed tables from one backup, or give tidemark another state_schema";
    Err(Fault::new(Class::Halt, Code::TargetSchemaMismatch, message, hint))
}

/// What a role may not do and must, as a finding.
pub(super) fn rights(rights: &Rights<'_>, lacking: &[String]) -> Result<String, Fault> {
    if lacking.is_empty() {
        return Ok(format!("{} has each that `run` needs", rights.role));
    }
    let message = format!("{} may not write as it must: it lacks {}", rights.role, lacking.join("; "));
    Err(unauthorised(message, "grant it, or run deploy/roles.sql"))
}
