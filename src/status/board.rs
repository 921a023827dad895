//! The board: every group's and stream's state in one place, and whether the process itself is
//! alive and ready.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::Utc;
use prometheus::proto::MetricFamily;

use super::group::Group;
use super::group_report::GroupReport;
use super::metrics::Metrics;
use super::queue::foresee;
use super::report::{ChannelReport, IncidentReport, MuteReport, Report};
use super::stream::{Stream, StreamNames};
use super::stream_report::StreamReport;
use super::verdict::judge;

/// What the configuration comes to, for people: names and values, no secrets.
pub type About = Vec<(&'static str, String)>;

/// What a group and its streams are called.
#[derive(Debug, Clone)]
pub struct GroupNames {
    pub name: String,
    /// In the order of configuration.
    pub streams: Vec<StreamNames>,
}

/// Shared by everything that happens and everything that shows it.
#[derive(Debug)]
pub struct Board {
    service: String,
    environment: String,
    metrics: Arc<Metrics>,
    groups: Vec<Group>,
    streams: Vec<Stream>,
    /// Numbers the changes of the streams' reports.
    changes: Arc<AtomicU64>,
    source_answers: AtomicBool,
    target_answers: AtomicBool,
    /// When the process's own loops last turned, in milliseconds since 1970.
    turned_at: AtomicI64,
    told: Mutex<Told>,
    about: About,
}

/// Incidents and channels, as last told.
#[derive(Debug, Clone, Default)]
struct Told {
    incidents: Vec<IncidentReport>,
    channels: Vec<ChannelReport>,
    mutes: Vec<MuteReport>,
}

/// How long the loops may stand still before the process counts as dead.
const STILL_MILLIS: i64 = 10_000;

impl Board {
    pub fn new(service: &str, environment: &str, groups: &[GroupNames], about: About) -> Arc<Self> {
        let names: Vec<Vec<String>> = groups
            .iter()
            .map(|group| group.streams.iter().map(|stream| stream.name.clone()).collect())
            .collect();
        let labels: Vec<(&str, &[String])> = groups
            .iter()
            .zip(&names)
            .map(|(group, names)| (group.name.as_str(), names.as_slice()))
            .collect();
        let metrics = Arc::new(Metrics::new(&labels));
        let changes = Arc::default();
        let mut streams = Vec::new();
        let groups = groups.iter().zip(&names).map(|(of, names)| {
            let group = Group::new(&of.name, names, &metrics);
            let of_group = of.streams.iter();
            streams.extend(of_group.map(|names| Stream::new(names, &group, &metrics, &changes)));
            group
        });
        let groups = groups.collect();
        Arc::new(Self {
            service: service.to_owned(),
            environment: environment.to_owned(),
            metrics,
            groups,
            streams,
            changes,
            source_answers: AtomicBool::new(false),
            target_answers: AtomicBool::new(false),
            turned_at: AtomicI64::new(Utc::now().timestamp_millis()),
            told: Mutex::default(),
            about,
        })
    }

    /// The handle of one group.
    pub fn group(&self, name: &str) -> Option<Group> {
        self.groups.iter().find(|group| group.name() == name).cloned()
    }

    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The handle of one stream.
    pub fn stream(&self, name: &str) -> Option<Stream> {
        self.streams.iter().find(|stream| stream.name() == name).cloned()
    }

    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// The process's loops turned; so many lines of its log have been dropped until now.
    pub fn turned(&self, log_lines_dropped: u64) {
        let told = &self.metrics.log_lines_dropped;
        told.inc_by(log_lines_dropped.saturating_sub(told.get()));
        self.turned_at.store(Utc::now().timestamp_millis(), Ordering::Relaxed);
    }

    pub fn source_answers(&self, answers: bool) {
        self.source_answers.store(answers, Ordering::Relaxed);
    }

    pub fn target_answers(&self, answers: bool) {
        self.target_answers.store(answers, Ordering::Relaxed);
    }

    /// The open incidents, the channels they are told to, and what is not told.
    pub fn incidents(
        &self,
        incidents: Vec<IncidentReport>,
        channels: Vec<ChannelReport>,
        mutes: Vec<MuteReport>,
    ) {
        let notices = &self.metrics.notices;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in &told.incidents {
            notices
                .incident_open
                .with_label_values(&[gone.code.as_str(), gone.severity.name()])
                .set(0);
        }
        for open in &incidents {
            notices
                .incident_open
                .with_label_values(&[open.code.as_str(), open.severity.name()])
                .inc();
        }
        let pending: u64 = channels.iter().map(|channel| channel.pending).sum();
        notices.outbox_pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
        *told = Told { incidents, channels, mutes };
    }

    /// An incident was written down, or was not.
    pub fn incident_written(&self, ok: bool) {
        self.metrics.notices.incident_writes.with_label_values(&[result(ok)]).inc();
    }

    /// A notice was sent, or was not.
    pub fn notice(&self, channel: &str, ok: bool) {
        self.metrics.notices.alerts_sent.with_label_values(&[channel, result(ok)]).inc();
    }

    pub fn is_alive(&self) -> bool {
        Utc::now().timestamp_millis() - self.turned_at.load(Ordering::Relaxed) < STILL_MILLIS
    }

    /// Why the process is not ready; empty if it is.
    pub fn unready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if !self.source_answers.load(Ordering::Relaxed) {
            reasons.push("the source does not answer".to_owned());
        }
        if !self.target_answers.load(Ordering::Relaxed) {
            reasons.push("the target does not answer".to_owned());
        }
        for group in self.groups.iter().filter(|group| !group.is_led()) {
            reasons.push(format!("{} is led by no one yet", group.subject()));
        }
        reasons
    }

    pub fn metrics_text(&self) -> String {
        let (groups, streams) = self.summaries();
        self.metrics.text(&groups, &streams)
    }

    /// The same, for who sends them.
    pub fn metric_families(&self) -> Vec<MetricFamily> {
        let (groups, streams) = self.summaries();
        self.metrics.families(&groups, &streams)
    }

    /// The reports of all groups and streams, without what is known of documents' fields.
    pub fn summaries(&self) -> (Vec<GroupReport>, Vec<StreamReport>) {
        self.reports(Stream::summary)
    }

    fn reports(
        &self,
        report: impl Fn(&Stream, &GroupReport) -> StreamReport,
    ) -> (Vec<GroupReport>, Vec<StreamReport>) {
        let mut groups = Vec::with_capacity(self.groups.len());
        let mut streams = Vec::with_capacity(self.streams.len());
        let mut left = self.streams.iter().peekable();
        for group in &self.groups {
            let mut of_group = group.report();
            let from = streams.len();
            while let Some(stream) = left.next_if(|stream| stream.group().is(group)) {
                streams.push(report(stream, &of_group));
            }
            of_group.exact = streams.iter().skip(from).all(|stream| stream.exact);
            groups.push(of_group);
        }
        foresee(&mut streams, Utc::now());
        (groups, streams)
    }

    /// What is their own of the streams that have changed since the change of this number, and the
    /// number of the last: with 0, all.
    pub fn changed_reports(&self, since: u64) -> (u64, Vec<StreamReport>) {
        let last = self.changes.load(Ordering::Relaxed);
        let changed = self.streams.iter().filter_map(|stream| stream.changed_since(since));
        (last, changed.collect())
    }

    /// What the configuration comes to.
    pub const fn about(&self) -> &About {
        &self.about
    }

    pub fn report(&self) -> Report {
        self.report_with(self.reports(Stream::report_of))
    }

    /// The same without what is known of documents' fields.
    pub fn overview(&self) -> Report {
        self.report_with(self.summaries())
    }

    /// The whole report of one stream, and the open incidents that are its own or its group's.
    pub fn detail(&self, name: &str) -> Option<(StreamReport, Vec<IncidentReport>)> {
        let stream = self.streams.iter().find(|stream| stream.name() == name)?;
        let mut report = stream.report();
        if let Some(walk) = report.resync.as_mut().filter(|walk| walk.queue_place.is_some()) {
            // When its turn comes depends on the others.
            let others = self.summaries().1;
            let same = others.into_iter().find(|other| other.name == name);
            walk.eta_at = same.and_then(|same| same.resync).and_then(|walk| walk.eta_at);
        }
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let about = [name, &report.group];
        let concerns = |open: &&IncidentReport| {
            open.stream.as_deref().is_some_and(|subject| about.contains(&subject))
        };
        let incidents = told.incidents.iter().filter(concerns).cloned().collect();
        Some((report, incidents))
    }

    fn report_with(&self, (groups, streams): (Vec<GroupReport>, Vec<StreamReport>)) -> Report {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let Told { incidents, channels, mutes } = told.clone();
        drop(told);
        let (verdict, action) = judge(&groups, &streams, &incidents, &self.unready());
        Report {
            service: self.service.clone(),
            version: crate::VERSION.to_owned(),
            environment: self.environment.clone(),
            verdict,
            action,
            groups,
            streams,
            incidents,
            mutes,
            channels,
        }
    }
}

const fn result(ok: bool) -> &'static str {
    if ok { "ok" } else { "failed" }
}

#[cfg(test)]
pub(super) mod tests;
