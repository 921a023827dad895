//! Check-ins of long jobs at Sentry: a snapshot, a resync, a scheduled comparison. A job that began
//! and never ended is seen there, from outside, when its longest time is over.

use std::collections::BTreeMap;
use std::time::Duration;

use sentry::protocol::{
    MonitorCheckIn, MonitorCheckInStatus, MonitorConfig, MonitorIntervalUnit, MonitorSchedule,
};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::alert::rule::observed::Observed;
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;
use crate::settings::Settings;

/// What is to be sent, and what has been.
#[derive(Debug)]
pub struct CheckIns {
    queue: mpsc::Sender<MonitorCheckIn>,
    environment: String,
    service: String,
    longest: Duration,
    compare_interval: Option<Duration>,
    told: BTreeMap<Uuid, MonitorCheckInStatus>,
    comparing: BTreeMap<String, Uuid>,
}

/// How many may wait for a Sentry that is away; later ones are dropped, and the job's end is tried
/// again.
const WAITING_MAX: usize = 64;

impl CheckIns {
    pub fn new(settings: &Settings) -> (Self, mpsc::Receiver<MonitorCheckIn>) {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let check_ins = Self {
            queue,
            environment: settings.environment.clone(),
            service: settings.service.clone(),
            longest: settings.resync.duration_max,
            compare_interval: settings.compare.interval,
            told: BTreeMap::new(),
            comparing: BTreeMap::new(),
        };
        (check_ins, waiting)
    }

    /// Tells what has begun and what has ended since the last look.
    pub fn see(&mut self, observed: &Observed) {
        for seen in observed.streams.iter().filter(|seen| seen.fresh) {
            let stream = &seen.report.name;
            if let Some(walk) = &seen.report.resync {
                self.tell(
                    walk_id(stream, walk.id),
                    stream,
                    job(walk.reason),
                    MonitorCheckInStatus::InProgress,
                );
            }
            self.see_comparison(&seen.report);
        }
        let ended = observed.facts.iter().flat_map(|facts| &facts.ended);
        for walk in ended.filter(|walk| walk.lately) {
            let status = if walk.state == ResyncState::Completed {
                MonitorCheckInStatus::Ok
            } else {
                MonitorCheckInStatus::Error
            };
            self.tell(
                walk_id(&walk.stream, walk.gap.resync),
                &walk.stream,
                job(walk.reason),
                status,
            );
        }
    }

    fn see_comparison(&mut self, report: &crate::status::StreamReport) {
        let stream = &report.name;
        if let Some(since) = report.comparing_since {
            let id = Uuid::new_v5(
                &Uuid::NAMESPACE_OID,
                format!("{stream} comparison {since}").as_bytes(),
            );
            self.comparing.insert(stream.clone(), id);
            self.tell(id, stream, "comparison", MonitorCheckInStatus::InProgress);
        } else if let Some(id) = self.comparing.remove(stream) {
            let equal =
                report.compared.as_ref().is_some_and(|compared| compared.differences() == 0);
            let status = if equal { MonitorCheckInStatus::Ok } else { MonitorCheckInStatus::Error };
            self.tell(id, stream, "comparison", status);
        }
    }

    fn tell(&mut self, id: Uuid, stream: &str, job: &str, status: MonitorCheckInStatus) {
        if self
            .told
            .get(&id)
            .is_some_and(|told| *told == status || *told != MonitorCheckInStatus::InProgress)
        {
            return;
        }
        let scheduled = self.compare_interval.filter(|_| job == "comparison");
        let minutes = |duration: Duration| (duration.as_secs() / 60).max(1);
        let config = MonitorConfig {
            // Repairs have no schedule: only their longest time is watched.
            schedule: scheduled.map_or(
                MonitorSchedule::Interval { value: 10, unit: MonitorIntervalUnit::Year },
                |interval| MonitorSchedule::Interval {
                    value: minutes(interval),
                    unit: MonitorIntervalUnit::Minute,
                },
            ),
            checkin_margin: Some(scheduled.map_or(60, minutes)),
            max_runtime: Some(minutes(self.longest)),
            timezone: Some("UTC".to_owned()),
            failure_issue_threshold: None,
            recovery_threshold: None,
        };
        let check_in = MonitorCheckIn {
            check_in_id: id,
            monitor_slug: format!("{}-{stream}-{job}", self.service),
            status,
            environment: Some(self.environment.clone()),
            duration: None,
            monitor_config: Some(config),
        };
        if self.queue.try_send(check_in).is_ok() {
            self.told.insert(id, status);
            while self.told.len() > 1000 {
                self.told.pop_first();
            }
        }
    }
}

/// The same whoever tells it.
fn walk_id(stream: &str, walk: i64) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{stream} walk {walk}").as_bytes())
}

fn job(reason: Reason) -> &'static str {
    if reason == Reason::FirstSnapshot { "snapshot" } else { "resync" }
}
