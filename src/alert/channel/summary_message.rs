//! What people read once a week: the summary as Slack's blocks, and as JSON for a webhook. Pure.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::alert::channel::message::{Voice, escape, name, section};
use crate::alert::channel::webhook::VERSION;
use crate::alert::incident::store::IncidentCount;
use crate::alert::tally::{Extreme, WeekTally};
use crate::model::format::{length_of, thousands};
use crate::state::WalkCount;

/// Of some time that has passed.
#[derive(Debug)]
pub struct Summary {
    pub until: DateTime<Utc>,
    pub streams: usize,
    pub groups: usize,
    pub tally: WeekTally,
    /// By code; those that were opened most often first.
    pub incidents: Vec<IncidentCount>,
    pub walks: Vec<WalkCount>,
    /// Events set aside and not resolved.
    pub dead_letters: u64,
}

impl Summary {
    /// As Slack takes it.
    pub fn message(&self, voice: &Voice) -> Value {
        let (since, until) = (day(self.tally.since), day(self.until));
        let head = format!("📋 {} {}: {since} to {until}", voice.service, voice.environment);
        let lines = self.lines();
        json!({
            "text": escape(&format!("{head}: {}", lines.first().map_or("", |line| &*line.1))),
            "blocks": [
                { "type": "header", "text": {
                    "type": "plain_text", "text": name(&head).chars().take(150).collect::<String>(),
                } },
                section(&lines.iter().fold(String::new(), |out, (what, said)| {
                    let said: Vec<String> = said.lines().map(escape).collect();
                    format!("{out}*{what}* {}\n", said.join("\n"))
                })),
            ],
        })
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let sum = |of: fn(&IncidentCount) -> i64| self.incidents.iter().map(of).sum::<i64>();
        let mut incidents = format!(
            "{} opened, {} resolved, {} open now",
            sum(|one| one.opened),
            sum(|one| one.resolved),
            sum(|one| one.open)
        );
        for one in self.incidents.iter().take(INCIDENTS_MAX) {
            let IncidentCount { code, opened, resolved, longest_seconds, .. } = one;
            let longest = length_of(*longest_seconds);
            let _ = write!(
                incidents,
                "\n• {code}: {opened} opened, {resolved} resolved, the longest {longest}"
            );
        }
        let walks: Vec<String> = self
            .walks
            .iter()
            .map(|walk| format!("{} {} {}", walk.number, walk.reason, walk.state))
            .collect();
        let walks = if walks.is_empty() { "none".to_owned() } else { walks.join(", ") };
        let met = |extreme: &Option<Extreme>, none: &str| {
            extreme.as_ref().map_or_else(
                || none.to_owned(),
                |met| {
                    format!("{}, of group {}, {}", length_of(met.seconds), met.group, day(met.at))
                },
            )
        };
        let WeekTally { events_applied, rows_changed, lag, headroom, .. } = &self.tally;
        vec![
            (
                "Changes",
                format!(
                    "{} applied, {} rows changed, by {} streams in {} groups",
                    thousands(*events_applied),
                    thousands(*rows_changed),
                    self.streams,
                    self.groups
                ),
            ),
            ("Incidents", incidents),
            ("Walks", walks),
            ("Set aside", format!("{} events, not resolved", thousands(self.dead_letters))),
            ("Longest lag", met(lag, "none")),
            ("Shortest headroom", met(headroom, "unknown")),
        ]
    }

    /// As a webhook's receiver takes it.
    pub fn body(&self, voice: &Voice) -> Value {
        json!({
            "version": VERSION,
            "type": "summary",
            "service": voice.service,
            "environment": voice.environment,
            "since": self.tally.since,
            "until": self.until,
            "streams": self.streams,
            "groups": self.groups,
            "events_applied": self.tally.events_applied,
            "rows_changed": self.tally.rows_changed,
            "incidents": self.incidents,
            "walks": self.walks,
            "dead_letters": self.dead_letters,
            "lag": self.tally.lag,
            "headroom": self.tally.headroom,
        })
    }
}

/// Codes that a message names.
const INCIDENTS_MAX: usize = 8;

fn day(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_is_said_in_six_lines() {
        let since: DateTime<Utc> = "2026-11-16T09:00:00Z".parse().unwrap();
        let mut tally = WeekTally::new(since);
        (tally.events_applied, tally.rows_changed) = (1_234_567, 89);
        tally.lag = Some(Extreme { seconds: 75.0, group: "main".to_owned(), at: since });
        let incident = IncidentCount {
            code: "target_slow".to_owned(),
            opened: 3,
            resolved: 2,
            open: 1,
            longest_seconds: 3_700.0,
        };
        let summary = Summary {
            until: "2026-11-23T09:00:00Z".parse().unwrap(),
            streams: 12,
            groups: 2,
            tally,
            incidents: vec![incident],
            walks: vec![WalkCount {
                reason: "parked".to_owned(),
                state: "completed".to_owned(),
                number: 2,
            }],
            dead_letters: 4,
        };
        let voice = Voice { service: "tidemark".into(), environment: "a & b".into() };
        let message = summary.message(&voice);
        let text = message["blocks"][1]["text"]["text"].as_str().unwrap();
        assert_eq!(
            text,
            "*Changes* 1,234,567 applied, 89 rows changed, by 12 streams in 2 groups\n\
             *Incidents* 3 opened, 2 resolved, 1 open now\n\
             • target_slow: 3 opened, 2 resolved, the longest 1 h 1 min\n\
             *Walks* 2 parked completed\n*Set aside* 4 events, not resolved\n\
             *Longest lag* 1 min, of group main, 2026-11-16 09:00 UTC\n\
             *Shortest headroom* unknown\n"
        );
        assert!(message["text"].as_str().unwrap().contains("a &amp; b: 2026-11-16"), "{message:#}");
        let body = summary.body(&voice);
        assert_eq!(
            (&body["type"], &body["incidents"][0]["opened"]),
            (&json!("summary"), &json!(3))
        );
        assert_eq!(body["lag"]["seconds"], 75.0);
    }
}
