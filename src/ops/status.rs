//! What every stream is doing, read from Postgres, so that it works when the daemon is down.

use chrono::{DateTime, Utc};

use super::mute::mutes;
use crate::alert::{self, Store};
use crate::error::Fault;
use crate::model::phase::Phase;
use crate::settings::{Settings, StreamSettings};
use crate::state::{self, LedStream, StateTables, StreamRow};
use crate::status::{GroupReport, PositionReport, Report, StreamReport, Verdict, foresee, judge};

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
    let mutes = mutes(settings, state).await?;
    let incidents = latest
        .iter()
        .filter(|i| !i.is_resolved())
        .map(|i| alert::report(i, &mutes, now))
        .collect::<Vec<_>>();
    let known = Stored {
        groups: state.all().await?,
        rows: state.streams().await?,
        led: state.led().await?,
        exact: state.exact_streams().await?,
    };
    let mut streams: Vec<StreamReport> =
        settings.streams.iter().map(|config| known.stream(settings, config)).collect();
    foresee(&mut streams, now);
    let groups: Vec<GroupReport> =
        settings.groups.iter().map(|group| known.group(&group.name, &streams)).collect();
    let (mut verdict, mut action) = judge(&groups, &streams, &incidents, &[]);
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
        groups,
        streams,
        incidents,
        mutes: mutes.in_force(now),
        channels: Vec::new(),
    })
}

/// What the tables hold.
struct Stored {
    groups: Vec<state::Stored>,
    rows: Vec<StreamRow>,
    led: Vec<LedStream>,
    /// Those that the view `position` says are exact, whatever their holder said last.
    exact: Vec<String>,
}

impl Stored {
    /// The same of a group, with what its streams have come to.
    fn group(&self, name: &str, streams: &[StreamReport]) -> GroupReport {
        let led = self.led.iter().find(|led| led.group.as_deref() == Some(name));
        let told = led.and_then(|led| serde_json::from_value(led.group_report.clone()?).ok());
        let mut report = told.unwrap_or_else(|| GroupReport::new(name));
        report.leader = led.is_some_and(|led| led.live);
        report.holder = led.and_then(|led| led.holder.clone());
        let of_group = |stream: &&StreamReport| stream.group == name;
        report.exact = streams.iter().filter(of_group).all(|stream| stream.exact);
        // What is written down may be from before the lease was granted, or from just then.
        let is_old =
            led.is_none_or(|led| report.epoch != led.epoch) || report.phase == Phase::Standby;
        report.phase = match report.leader {
            true if is_old => begun(&mut streams.iter().filter(of_group)),
            true => report.phase,
            false => Phase::Standby,
        };
        let Some(group) = self.groups.iter().find(|group| group.group == name) else {
            return report;
        };
        report.epoch = group.epoch;
        if let (true, Some(code)) = (report.leader, &group.halt_code) {
            report.phase = Phase::Halted;
            report.halt_code = Some(code.clone());
            report.reason.clone_from(&group.halt_reason);
        }
        report.position = position(group);
        report.last_commit_at = Some(latest(report.last_commit_at, group.updated_at));
        report
    }

    /// What the holder last reported of a stream, put right by what the tables say now.
    fn stream(&self, settings: &Settings, config: &StreamSettings) -> StreamReport {
        let source = settings.namespace_of(config).to_string();
        let table = settings.table_of(config).to_string();
        let led = self.led.iter().find(|led| led.stream == config.name);
        let told =
            led.and_then(|led| StreamReport::told(led.report.as_ref(), led.group_report.as_ref()));
        let mut report = told.unwrap_or_else(|| StreamReport::new(&config.name, &source, &table));
        (report.source, report.table) = (source, table);
        report.group.clone_from(&config.group);
        report.leader = led.is_some_and(|led| led.live);
        report.holder = led.and_then(|led| led.holder.clone());
        let group = self.groups.iter().find(|group| group.group == config.group);
        let row = self.rows.iter().find(|row| row.stream == config.name);
        let (Some(group), Some(row)) = (group, row) else { return report };
        report.epoch = group.epoch;
        report.exact = self.exact.contains(&config.name);
        let parked = row.parked_code.clone().zip(row.parked_reason.clone());
        let halted = group.halt_code.clone().zip(group.halt_reason.clone());
        let is_halted = halted.is_some();
        let (code, reason) = halted.or(parked).unzip();
        let paused = row.pause().filter(|_| !is_halted).map(|pause| pause.to_string());
        report.halt_code = code.filter(|_| paused.is_none());
        let reason = paused.or(reason);
        report.phase = match (report.leader, is_halted) {
            (false, _) => Phase::Standby,
            (true, true) => Phase::Halted,
            (true, false) => Phase::stored(&row.phase),
        };
        report.phase_since = row.phase_since;
        if reason.is_some() {
            report.reason = reason;
        }
        report.position = position(group);
        report.last_commit_at = Some(latest(report.last_commit_at, group.updated_at));
        report
    }
}

/// The phase of a group that is led, and of which its holder has said nothing yet.
fn begun<'s>(streams: &mut impl Iterator<Item = &'s StreamReport>) -> Phase {
    let is_led = |stream: &StreamReport| {
        !matches!(stream.phase, Phase::Standby | Phase::Resuming | Phase::Halted)
    };
    if streams.any(is_led) { Phase::Streaming } else { Phase::Resuming }
}

fn position(group: &state::Stored) -> Option<PositionReport> {
    let known = group.token.as_deref().zip(group.time());
    known.map(|(token, at)| PositionReport::new(token, at))
}

fn latest(told: Option<DateTime<Utc>>, stored: DateTime<Utc>) -> DateTime<Utc> {
    told.map_or(stored, |told| told.max(stored))
}
