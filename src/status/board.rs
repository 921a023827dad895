//! The board: every stream's state in one place, and whether the process itself is alive and ready.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::Utc;

use super::metrics::Metrics;
use super::report::{ChannelReport, IncidentReport, Report, StreamReport};
use super::stream::{Stream, StreamNames};
use super::verdict::judge;

/// What the configuration comes to, for people: names and values, no secrets.
pub type About = Vec<(&'static str, String)>;

/// Shared by everything that happens and everything that shows it.
#[derive(Debug)]
pub struct Board {
    service: String,
    environment: String,
    metrics: Arc<Metrics>,
    streams: Vec<Stream>,
    source_answers: AtomicBool,
    target_answers: AtomicBool,
    /// When the process's own loops last turned, in milliseconds since 1970.
    turned_at: AtomicI64,
    /// Streams another process leads.
    elsewhere: Mutex<BTreeSet<String>>,
    told: Mutex<Told>,
    about: About,
}

/// Incidents and channels, as last told.
#[derive(Debug, Default)]
struct Told {
    incidents: Vec<IncidentReport>,
    channels: Vec<ChannelReport>,
}

/// How long the loops may stand still before the process counts as dead.
const STILL_MILLIS: i64 = 10_000;

impl Board {
    /// `streams`: in the order of configuration.
    pub fn new(
        service: &str,
        environment: &str,
        streams: &[StreamNames],
        about: About,
    ) -> Arc<Self> {
        let names: Vec<String> = streams.iter().map(|stream| stream.name.clone()).collect();
        let metrics = Arc::new(Metrics::new(&names));
        let streams = streams.iter().map(|names| Stream::new(names, &metrics)).collect();
        Arc::new(Self {
            service: service.to_owned(),
            environment: environment.to_owned(),
            metrics,
            streams,
            source_answers: AtomicBool::new(false),
            target_answers: AtomicBool::new(false),
            turned_at: AtomicI64::new(Utc::now().timestamp_millis()),
            elsewhere: Mutex::default(),
            told: Mutex::default(),
            about,
        })
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

    /// Whether another process leads a stream.
    pub fn led_elsewhere(&self, stream: &str, led: bool) {
        let mut elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        if led {
            elsewhere.insert(stream.to_owned());
        } else {
            elsewhere.remove(stream);
        }
    }

    /// The open incidents, and the channels they are told to.
    pub fn incidents(&self, incidents: Vec<IncidentReport>, channels: Vec<ChannelReport>) {
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
        *told = Told { incidents, channels };
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
        let elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in &self.streams {
            if !stream.leads() && !elsewhere.contains(stream.name()) {
                reasons.push(format!("stream {} is led by no one yet", stream.name()));
            }
        }
        reasons
    }

    pub fn metrics_text(&self) -> String {
        self.metrics.text()
    }

    /// What the configuration comes to.
    pub const fn about(&self) -> &About {
        &self.about
    }

    pub fn report(&self) -> Report {
        let streams: Vec<StreamReport> = self.streams.iter().map(Stream::report).collect();
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (incidents, channels) = (told.incidents.clone(), told.channels.clone());
        drop(told);
        let (verdict, action) = judge(&streams, &incidents, &self.unready());
        Report {
            service: self.service.clone(),
            version: crate::VERSION.to_owned(),
            environment: self.environment.clone(),
            verdict,
            action,
            streams,
            incidents,
            channels,
        }
    }
}

const fn result(ok: bool) -> &'static str {
    if ok { "ok" } else { "failed" }
}
