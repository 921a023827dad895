//! What every stream is doing, read from Postgres, so that it works when the daemon is down.

use chrono::{DateTime, Utc};

use crate::alert::{self, Store};
use crate::error::Fault;
use crate::model::phase::Phase;
use crate::model::position::ClusterTime;
use crate::settings::Settings;
use crate::state::{LeaseRow, StateTables, Stored};
use crate::status::{PositionReport, Report, StreamReport, Verdict, judge};

/// The report of `GET /status`, as the database knows it.
///
/// # Errors
/// Postgres cannot be asked, or has no tables of tidemark; a stream is another service's or
/// environment's.
pub async fn status(
    settings: &Settings,
    state: &StateTables,
    store: &Store,
) -> Result<Report, Fault> {
    let now = Utc::now();
    let names: Vec<&str> = settings.streams.iter().map(|stream| stream.name.as_str()).collect();
    state.refuse_anothers(&names).await?;
    let latest = store.latest(100).await?;
    let incidents = latest
        .iter()
        .filter(|i| !i.is_resolved())
        .map(|i| alert::report(i, now))
        .collect::<Vec<_>>();
    let (stored, held) = (state.all().await?, state.leases().await?);
    let streams: Vec<StreamReport> = settings
        .streams
        .iter()
        .map(|config| {
            let source = format!("{}.{}", settings.source.database, config.collection);
            let table = format!("{}.{}", settings.target.schema, config.table);
            let row = stored.iter().find(|row| row.stream == config.name);
            let lease = held.iter().find(|held| held.stream == config.name);
            stream(&config.name, source, table, row, lease)
        })
        .collect();
    let (mut verdict, mut action) = judge(&streams, &incidents, &[]);
    let nobody = streams.iter().find(|stream| !stream.leader);
    if let (Some(stream), true) = (nobody, verdict < Verdict::Critical) {
        verdict = Verdict::Critical;
        action = Some(format!("nobody follows stream {}: start tidemark", stream.name));
    }
    Ok(Report {
        service: settings.service.clone(),
        version: crate::VERSION.to_owned(),
        environment: settings.environment.clone(),
        verdict,
        action,
        streams,
        incidents,
        channels: Vec::new(),
    })
}

/// What the holder last reported, put right by what the tables say now.
fn stream(
    name: &str,
    source: String,
    table: String,
    row: Option<&Stored>,
    held: Option<&LeaseRow>,
) -> StreamReport {
    let told: Option<StreamReport> =
        held.and_then(|held| serde_json::from_value(held.report.clone()?).ok());
    let mut report = told.unwrap_or_else(|| StreamReport::new(name, &source, &table));
    (report.source, report.table) = (source, table);
    report.leader = held.is_some_and(|held| held.live);
    report.holder = held.and_then(|held| held.holder.clone());
    let Some(row) = row else { return report };
    report.epoch = row.epoch;
    report.halt_code.clone_from(&row.halt_code);
    report.phase = if report.leader { Phase::stored(&row.phase) } else { Phase::Standby };
    report.phase_since = row.phase_since;
    if row.halt_reason.is_some() {
        report.reason.clone_from(&row.halt_reason);
    }
    let known = row.token.clone().zip(row.cluster_time.map(ClusterTime::from_sql));
    report.position = known.map(|(token, at)| PositionReport::new(&token, at));
    report.last_commit_at = Some(latest(report.last_commit_at, row.updated_at));
    report
}

fn latest(told: Option<DateTime<Utc>>, stored: DateTime<Utc>) -> DateTime<Utc> {
    told.map_or(stored, |told| told.max(stored))
}
