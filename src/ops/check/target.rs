//! The target: whether it can be written to, tidemark's own tables, and the rights to both.

use sqlx::postgres::PgConnection;

use super::connections::connections;
use super::finding::Finding;
use super::rights::{Ends, Rights, rights, unauthorised};
use super::{table, wire};
use crate::error::{Class, Code, Fault};
use crate::postgres::{Target, close, with_deadline};
use crate::settings::Settings;
use crate::state::{Standing, StateTables, own_tables};

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
    let query = sqlx::query_scalar::<_, String>("select current_setting('server_version')");
    let version = with_deadline(target.deadline(), query.fetch_one(&mut connection)).await;
    let mut findings =
        vec![Finding::of(what, version.map(|version| format!("PostgreSQL {version}")))];
    findings.push(wire::target(&mut connection, &target, settings).await);
    match Rights::of(&mut connection, &target, role).await {
        Ok(rights) => {
            let limits = connections(&mut connection, &target, settings, &rights.role).await;
            findings.push(limits);
            let state =
                StateTables::new(target.clone(), target.pool(1), &settings.target.state_schema);
            let ends = Ends { settings, target: &target, state, rights, executes: role.is_none() };
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

/// tidemark's own tables: there, of a format this release knows, its streams' and nobody else's,
/// and the right to write them.
async fn own(connection: &mut PgConnection, ends: &Ends<'_>) -> Vec<Finding> {
    let (settings, state) = (ends.settings, &ends.state);
    let schema = &settings.target.state_schema;
    let what = format!("tables of schema {schema}");
    let own = match ends.rights.on_own_tables(connection, schema).await {
        Ok(own) => own,
        Err(fault) => return vec![Finding::failed(what, &fault)],
    };
    let granted =
        Finding::of(format!("rights on schema {schema}"), rights(&ends.rights, &own.lacking));
    let standing = match state.standing(connection).await {
        Ok(standing) => standing,
        Err(fault) if fault.code == Code::TargetUnauthorised && !granted.ok => {
            return vec![granted];
        }
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
        let ours = state.refuse_strangers(connection, &names).await;
        findings.push(Finding::of(
            "whose streams",
            ours.map(|()| format!("{}'s, or nobody's yet", settings.owner())),
        ));
    }
    findings
}

/// Who makes what is missing, if somebody can.
async fn pending(
    connection: &mut PgConnection,
    ends: &Ends<'_>,
    standing: &Standing,
) -> Result<String, Fault> {
    let (settings, rights) = (ends.settings, &ends.rights);
    let (schema, lacks) = (&settings.target.state_schema, standing.lacks());
    if !settings.migrate.automatic {
        let message = format!("not there yet: {lacks}; migrate.automatic is false");
        let hint = "run `tidemark migrate` as their owner";
        return Err(Fault::new(Class::Halt, Code::TargetSchemaMismatch, message, hint));
    }
    let cannot = rights.cannot_create_in(connection, schema, standing.schema_exists).await?;
    let cannot = match cannot {
        None if !rights.owns_all(connection, schema).await? => {
            Some("the tables' ownership".to_owned())
        }
        cannot => cannot,
    };
    match cannot {
        None => Ok(format!("{lacks}; `run` makes what is missing, or `tidemark migrate`")),
        Some(right) => {
            let message = format!(
                "not there yet: {lacks}; and {} may not make what is missing: it lacks {right}",
                rights.role
            );
            Err(unauthorised(
                message,
                "run `tidemark migrate` as a user who may (deploy/roles.sql), or grant it",
            ))
        }
    }
}

fn complete(standing: &Standing, gone: &[&str]) -> Result<String, Fault> {
    if gone.is_empty() {
        return Ok(standing.format());
    }
    let message = format!("gone, though they were made once: {}", gone.join(", "));
    let hint = "restore the schema and the followed tables from one backup, or give tidemark \
                another state_schema";
    Err(Fault::new(Class::Halt, Code::TargetSchemaMismatch, message, hint))
}
