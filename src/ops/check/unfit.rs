//! What a configuration is refused for before it is taken: an end that does not answer under it,
//! and streams that could not be followed, in the words of the whole check. What `run` makes by
//! itself is no reason.

use super::finding::Finding;
use super::rights::{Ends, Rights};
use super::{source, table};
use crate::apply::{Wanted, read_live};
use crate::error::{Code, Fault};
use crate::postgres::{Target, close};
use crate::settings::{Settings, StreamSettings};
use crate::source::Source;
use crate::state::StateTables;

/// What is wrong with either end, or with one of these streams.
pub async fn unfit(settings: &Settings, streams: &[&StreamSettings]) -> Vec<Finding> {
    let mut findings = of_source(settings, streams)
        .await
        .unwrap_or_else(|fault| vec![Finding::failed("source", &fault)]);
    findings.extend(
        of_target(settings, streams)
            .await
            .unwrap_or_else(|fault| vec![Finding::failed("target", &fault)]),
    );
    findings
}

/// A collection that is not there yet is waited for.
async fn of_source(
    settings: &Settings,
    streams: &[&StreamSettings],
) -> Result<Vec<Finding>, Fault> {
    let source = Source::new(settings).await?;
    source.facts().await?;
    let mut findings = Vec::new();
    for stream in streams {
        let source = source.of_database(settings.database_of(stream));
        match source::read(&source, stream).await {
            Err(fault) if fault.code != Code::SourceDropped => {
                let what = format!("documents of {}", source.namespace(&stream.collection));
                findings.push(Finding::failed(what, &fault));
            }
            _ => {}
        }
    }
    Ok(findings)
}

async fn of_target(
    settings: &Settings,
    streams: &[&StreamSettings],
) -> Result<Vec<Finding>, Fault> {
    let target = Target::new(settings)?;
    let mut connection = target.connect().await?;
    let state = StateTables::new(target.clone(), target.pool(1), &settings.target.state_schema);
    let rights = Rights::of(&mut connection, &target, None).await?;
    let ends = Ends { settings, target: &target, state, rights, executes: true };
    let mut findings = Vec::new();
    for stream in streams {
        let followed = settings.table_of(stream);
        for wanted in Wanted::all(&followed, stream.rows()) {
            let live = read_live(&mut connection, &target, &wanted.table).await?;
            let found = table::of_one(&mut connection, &ends, &live, &wanted).await;
            findings.extend(found.err().into_iter().flatten().filter(|finding| !finding.ok));
        }
    }
    close(connection).await;
    Ok(findings)
}
