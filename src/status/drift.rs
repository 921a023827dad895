//! How fields drift from their configuration: known fields that vanish or change, unknown ones that appear, and what
//! was probably renamed. Each is logged once, and shown with counts and when it was first seen.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::report::{DriftReport, FieldsReport};
use super::stream::Stream;

pub const KINDS: [&str; 5] = ["type", "value", "missing", "vanished", "unknown"];

/// A field that was there before has vanished when it is absent from so many documents in a row.
const VANISHED_AFTER: u64 = 1000;

/// What is not seen any more for so long is over; what is new for so long is known.
pub const REMEMBERED: TimeDelta = TimeDelta::days(1);

/// Two names this alike (Jaro-Winkler) are probably one field renamed.
const ALIKE: f64 = 0.7;

/// What one batch or chunk showed of its documents' fields. Columns by their place in the configuration.
#[derive(Debug, Default)]
pub struct FieldsSeen<'a> {
    pub documents: u64,
    /// (column, kind, documents).
    pub differ: Vec<(usize, &'static str, u64)>,
    /// For each column: whether its field was there, and how many documents in a row at the end were without.
    pub presence: Vec<(bool, u64)>,
    /// Fields no column reads, with how many documents have them.
    pub unmapped: &'a [(Box<str>, u64)],
    pub replaced: u64,
}

/// One stream's fields.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// (column, paths of the fields it reads: its own, then its aliases) in the order of configuration.
    columns: Vec<(String, Vec<String>)>,
    present: BTreeSet<String>,
    absent: Vec<u64>,
    unmapped: BTreeSet<String>,
    drift: BTreeMap<(String, &'static str), DriftReport>,
}

impl Fields {
    pub fn report(&self) -> FieldsReport {
        FieldsReport {
            columns: self.columns.iter().map(|(column, fields)| format!("{column}={}", fields.join(","))).collect(),
            present: self.present.iter().cloned().collect(),
            unmapped: self.unmapped.iter().cloned().collect(),
        }
    }

    pub fn drift(&self) -> Vec<DriftReport> {
        self.drift.values().cloned().collect()
    }

    fn count(&self, kind: &str) -> usize {
        self.drift.keys().filter(|(_, of)| *of == kind).count()
    }

    /// What the last leader knew, as far as the configuration is the same.
    pub fn remember(&mut self, left: &FieldsReport, drift: &[DriftReport]) {
        let reads = |field: &String, name: &str| field.split('.').next() == Some(name);
        let mapped = |name: &str| self.columns.iter().any(|(_, fields)| fields.iter().any(|field| reads(field, name)));
        self.unmapped.extend(left.unmapped.iter().filter(|name| !mapped(name)).cloned());
        self.present.extend(left.present.iter().cloned());
        if left.columns == self.report().columns {
            for report in drift {
                if let Some(kind) = KINDS.into_iter().find(|kind| *kind == report.kind) {
                    self.drift.entry((report.field.clone(), kind)).or_insert_with(|| report.clone());
                }
            }
        }
    }

    /// Takes in what was seen. Returns what is new.
    fn see(&mut self, now: DateTime<Utc>, seen: &FieldsSeen<'_>, first_walk: bool) -> Vec<DriftReport> {
        // The first documents show what has always been there.
        let baseline = first_walk || self.present.is_empty();
        let mut met: Vec<(String, Option<String>, &'static str, u64)> = Vec::new();
        for (column, kind, documents) in &seen.differ {
            if let Some((column, field)) = self.columns.get(*column).and_then(named) {
                met.push((field.clone(), Some(column.clone()), kind, *documents));
            }
        }
        self.absent.resize(self.columns.len(), 0);
        for (place, (there, absent)) in seen.presence.iter().enumerate() {
            let column = self.columns.get(place).and_then(named);
            let (Some((column, field)), Some(run)) = (column, self.absent.get_mut(place)) else {
                break;
            };
            *run = if *there { *absent } else { *run + absent };
            if *there {
                self.present.insert(field.clone());
                self.drift.remove(&(field.clone(), "vanished"));
            }
            if *run >= VANISHED_AFTER && self.present.contains(field) {
                met.push((field.clone(), Some(column.clone()), "vanished", *absent));
            }
        }
        for (name, documents) in seen.unmapped {
            if baseline {
                self.unmapped.insert(name.to_string());
            } else if !self.unmapped.contains(&**name) {
                met.push((name.to_string(), None, "unknown", *documents));
            }
        }
        let new = self.meet(now, met);
        self.forget(now);
        self.guess_renames();
        new
    }

    fn meet(&mut self, now: DateTime<Utc>, met: Vec<(String, Option<String>, &'static str, u64)>) -> Vec<DriftReport> {
        let mut new = Vec::new();
        for (field, column, kind, documents) in met {
            let known = self.drift.entry((field.clone(), kind)).or_insert_with(|| {
                let report = DriftReport {
                    field,
                    column,
                    kind: kind.to_owned(),
                    documents: 0,
                    first_seen_at: now,
                    last_seen_at: now,
                    likely_new_name: None,
                };
                new.push(report.clone());
                report
            });
            known.documents += documents;
            known.last_seen_at = now;
        }
        new
    }

    fn forget(&mut self, now: DateTime<Utc>) {
        let known = |report: &DriftReport| report.kind == "unknown" && now - report.first_seen_at > REMEMBERED;
        self.unmapped.extend(self.drift.values().filter(|report| known(report)).map(|report| report.field.clone()));
        self.drift.retain(|_, report| !known(report) && now - report.last_seen_at <= REMEMBERED);
    }

    /// A field that went and one that came: probably one, if their names are alike.
    fn guess_renames(&mut self) {
        let unknown: Vec<String> =
            self.drift.values().filter(|report| report.kind == "unknown").map(|report| report.field.clone()).collect();
        for report in self.drift.values_mut().filter(|r| ["missing", "vanished"].contains(&r.kind.as_str())) {
            let alike = |name: &String| strsim::jaro_winkler(name, &report.field);
            let best = unknown.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)));
            report.likely_new_name = best.filter(|name| alike(name) >= ALIKE).cloned();
        }
    }
}

/// A column with the field it is reported by.
fn named((column, fields): &(String, Vec<String>)) -> Option<(&String, &String)> {
    Some((column, fields.first()?))
}

impl Stream {
    /// Which columns read which fields, in the order of configuration.
    pub fn mapped(&self, columns: Vec<(String, Vec<String>)>) {
        let mut state = self.state();
        state.fields.columns = columns;
        state.report.fields = state.fields.report();
    }

    /// Documents were mapped to rows.
    pub fn drifted(&self, seen: &FieldsSeen<'_>) {
        let mut state = self.state();
        let first_walk = state.report.phase == "snapshotting";
        for new in state.fields.see(Utc::now(), seen, first_walk) {
            let DriftReport { field, column, kind, .. } = new;
            tracing::warn!(stream = %self.name, field, column, kind, "field differs from its configuration");
        }
        state.report.drift = state.fields.drift();
        state.report.fields = state.fields.report();
        for kind in KINDS {
            let number = i64::try_from(state.fields.count(kind)).unwrap_or(i64::MAX);
            self.metrics.drift_fields.with_label_values(&[&*self.name, kind]).set(number);
        }
        drop(state);
        self.metrics.characters_replaced.with_label_values(&[&*self.name]).inc_by(seen.replaced);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(there: bool, documents: u64, unmapped: &[(Box<str>, u64)]) -> FieldsSeen<'_> {
        let absent = if there { 0 } else { documents };
        FieldsSeen { documents, presence: vec![(there, absent)], unmapped, ..FieldsSeen::default() }
    }

    #[test]
    fn a_renamed_field_is_told_once_with_its_likely_new_name() {
        let now = Utc::now();
        let columns = vec![("body".to_owned(), vec!["designateBody".to_owned()])];
        let mut fields = Fields { columns, ..Fields::default() };
        let old: [(Box<str>, u64); 1] = [("_class".into(), 500)];
        let new: [(Box<str>, u64); 2] = [("_class".into(), 500), ("designatedBodyCode".into(), 500)];
        assert!(fields.see(now, &seen(true, 500, &old), false).is_empty(), "the first documents are the baseline");
        let told: Vec<Vec<DriftReport>> = (0..4).map(|_| fields.see(now, &seen(false, 500, &new), false)).collect();
        let brief =
            |reports: &[DriftReport]| reports.iter().map(|r| format!("{} {}", r.kind, r.field)).collect::<Vec<_>>();
        assert_eq!(brief(&told[0]), ["unknown designatedBodyCode"]);
        assert_eq!(brief(&told[1]), ["vanished designateBody"]);
        assert!(told[2].is_empty() && told[3].is_empty());
        let drift = fields.drift();
        let vanished = drift.iter().find(|report| report.kind == "vanished").unwrap();
        assert_eq!(vanished.likely_new_name.as_deref(), Some("designatedBodyCode"));
        // What a new leader with the same configuration knows; and that it is over when the field is back.
        let mut after = Fields { columns: fields.columns.clone(), ..Fields::default() };
        after.remember(&fields.report(), &drift);
        assert_eq!(after.drift(), drift);
        after.see(now, &seen(true, 1, &new), false);
        assert!(after.drift().iter().all(|report| report.kind != "vanished"));
        // Once the new field is read too, nothing of it is left, and neither is it one that no column reads.
        let mended = vec![("body".to_owned(), vec!["designateBody".to_owned(), "designatedBodyCode".to_owned()])];
        let mut mended = Fields { columns: mended, ..Fields::default() };
        let left = FieldsReport { unmapped: vec!["designatedBodyCode".to_owned()], ..fields.report() };
        mended.remember(&left, &drift);
        assert!(mended.drift().is_empty() && mended.unmapped.is_empty());
        // A day later the new field is known.
        let later = now + TimeDelta::days(2);
        after.see(later, &seen(true, 1, &new), false);
        after.see(later, &seen(true, 1, &new), false);
        assert!(after.drift().is_empty() && after.unmapped.contains("designatedBodyCode"));
    }
}
