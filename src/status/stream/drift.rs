//! How fields drift from their configuration: known fields that vanish or change, unknown ones that
//! appear, and what was probably renamed. Each is new once, and kept with counts and when it was
//! first seen. Pure: the time is passed in.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::likely_name::likely_name;
use crate::model::drift_kind::DriftKind;
use crate::model::field::NAMES_MAX;
use crate::status::stream_report::{DriftReport, FieldsReport};

/// A field that was there before has vanished when it is absent from so many documents in a row.
const VANISHED_AFTER: u64 = 1000;

/// Drift that was not seen for this long is over; a new field that is this old is known.
pub const REMEMBERED: TimeDelta = TimeDelta::days(1);

/// Stands for the names that were too many.
const DATA: &str = "(keys look like data)";

/// A key counts as a field's name once so many documents have it, and one in a hundred of those
/// looked at: a key that is data (a person's name) belongs to few.
const DOCUMENTS_MIN: u64 = 20;

/// After so many documents, names that few of them have are forgotten, which makes place for
/// others.
const WINDOW: u64 = 10_000;

/// The first documents show what has always been there.
const FIRST_DOCUMENTS: u64 = 100;

/// What one batch or chunk showed of its documents' fields. Columns by their place in the
/// configuration.
#[derive(Debug, Default)]
pub struct FieldsSeen<'a> {
    pub documents: u64,
    /// (column, kind, documents).
    pub differ: Vec<(usize, DriftKind, u64)>,
    /// For each column: whether its field was there, and how many documents in a row at the end
    /// were without.
    pub presence: Vec<(bool, u64)>,
    /// Fields no column reads, with how many documents have them.
    pub unmapped: &'a [(Box<str>, u64)],
    /// Documents that had more such fields than were kept.
    pub crowded: u64,
    pub replaced: u64,
}

/// One stream's fields.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// (column, paths of the fields it reads: its own, then its aliases) in the order of
    /// configuration.
    columns: Vec<(String, Vec<String>)>,
    present: BTreeSet<String>,
    absent: Vec<u64>,
    /// Names of fields that no column reads and that are nothing new.
    unmapped: BTreeSet<String>,
    /// Names that too few documents have had, of the `window` looked at since it began.
    few: BTreeMap<String, Few>,
    window: u64,
    /// Documents seen by all leaders, up to [`FIRST_DOCUMENTS`].
    documents: u64,
    drift: BTreeMap<(String, DriftKind), DriftReport>,
}

/// A name that may yet turn out to be a field's.
#[derive(Debug, Default)]
struct Few {
    documents: u64,
    /// It was there from the first.
    is_old: bool,
    /// It was met just now.
    is_new: bool,
}

impl Fields {
    /// Which columns read which fields, in the order of configuration.
    pub fn reads(&mut self, columns: Vec<(String, Vec<String>)>) {
        self.columns = columns;
    }

    pub fn report(&self) -> FieldsReport {
        FieldsReport {
            columns: self
                .columns
                .iter()
                .map(|(column, fields)| format!("{column}={}", fields.join(",")))
                .collect(),
            present: self.present.iter().cloned().collect(),
            unmapped: self.unmapped.iter().cloned().collect(),
            documents: self.documents,
        }
    }

    pub fn drift(&self) -> Vec<DriftReport> {
        self.drift.values().cloned().collect()
    }

    pub fn count(&self, kind: DriftKind) -> usize {
        self.drift.keys().filter(|(_, of)| *of == kind).count()
    }

    /// What the last leader knew, as far as the configuration is the same.
    pub fn remember(&mut self, left: &FieldsReport, drift: &[DriftReport]) {
        let reads = |field: &String, name: &str| field.split('.').next() == Some(name);
        let mapped = |name: &str| {
            self.columns.iter().any(|(_, fields)| fields.iter().any(|field| reads(field, name)))
        };
        let names = left.unmapped.iter().filter(|name| !mapped(name));
        self.unmapped.extend(names.take(NAMES_MAX).cloned());
        self.documents = self.documents.max(left.documents);
        self.present.extend(left.present.iter().cloned());
        if left.columns == self.report().columns {
            for report in drift {
                self.drift
                    .entry((report.field.clone(), report.kind))
                    .or_insert_with(|| report.clone());
            }
        }
    }

    /// Takes in what was seen. Returns what is new.
    pub fn see(
        &mut self,
        now: DateTime<Utc>,
        seen: &FieldsSeen<'_>,
        first_walk: bool,
    ) -> Vec<DriftReport> {
        let is_first = first_walk || self.documents < FIRST_DOCUMENTS || self.present.is_empty();
        let mut met: Vec<Met> = Vec::new();
        for (column, kind, documents) in &seen.differ {
            if let Some((column, field)) = self.columns.get(*column).and_then(named) {
                met.push((field.clone(), Some(column.clone()), *kind, *documents));
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
                self.drift.remove(&(field.clone(), DriftKind::Vanished));
            }
            if *run >= VANISHED_AFTER && self.present.contains(field) {
                met.push((field.clone(), Some(column.clone()), DriftKind::Vanished, *absent));
            }
        }
        met.extend(self.names(seen, is_first));
        self.documents = FIRST_DOCUMENTS.min(self.documents + seen.documents);
        let new = self.meet(now, met);
        self.forget(now);
        self.guess_renames();
        new
    }

    /// The fields no column reads that are new and not those of a few documents only, or that are
    /// told of already; with how many documents have them. Those of the first documents become
    /// known.
    fn names(&mut self, seen: &FieldsSeen<'_>, is_first: bool) -> Vec<Met> {
        let mut met = Vec::new();
        for (name, documents) in seen.unmapped {
            let documents = (*documents).min(seen.documents);
            if let Some(few) = self.few.get_mut(&**name) {
                few.documents += documents;
            } else if self.drift.contains_key(&(name.to_string(), DriftKind::Unknown)) {
                met.push((name.to_string(), None, DriftKind::Unknown, documents));
            } else if !self.unmapped.contains(&**name) {
                self.few
                    .insert(name.to_string(), Few { documents, is_old: is_first, is_new: true });
            }
        }
        self.window += seen.documents;
        let window = self.window;
        let many = |few: &Few| few.documents >= DOCUMENTS_MIN && few.documents * 100 >= window;
        for (name, few) in self.few.extract_if(.., |_, few| many(few)) {
            if few.is_old {
                self.unmapped.insert(name);
            } else {
                met.push((name, None, DriftKind::Unknown, few.documents));
            }
        }
        let told = met
            .iter()
            .filter(|(name, ..)| !self.drift.contains_key(&(name.clone(), DriftKind::Unknown)));
        let places = NAMES_MAX
            .saturating_sub(self.unmapped.len() + self.count(DriftKind::Unknown) + told.count());
        let crowded = seen.crowded.max(u64::from(self.crowd_out(places)));
        if self.window >= WINDOW {
            self.window = 0;
            self.few.clear();
        }
        if crowded > 0 && !self.unmapped.contains(DATA) {
            if is_first {
                self.unmapped.insert(DATA.to_owned());
            } else {
                met.push((DATA.to_owned(), None, DriftKind::Unknown, crowded));
            }
        }
        met
    }

    /// Keeps at most `places` of the names that few documents have: those of the most documents,
    /// and among equals those met last. Says whether any had to go.
    fn crowd_out(&mut self, places: usize) -> bool {
        let is_crowded = self.few.len() > places;
        if is_crowded {
            let mut few: Vec<(String, Few)> = std::mem::take(&mut self.few).into_iter().collect();
            few.sort_by_key(|(_, few)| std::cmp::Reverse((few.documents, few.is_new)));
            few.truncate(places);
            self.few = few.into_iter().collect();
        }
        for few in self.few.values_mut() {
            few.is_new = false;
        }
        is_crowded
    }

    fn meet(&mut self, now: DateTime<Utc>, met: Vec<Met>) -> Vec<DriftReport> {
        let mut new = Vec::new();
        for (field, column, kind, documents) in met {
            let known = self.drift.entry((field.clone(), kind)).or_insert_with(|| {
                let report = DriftReport {
                    field,
                    column,
                    kind,
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
        let known = |report: &DriftReport| {
            report.kind == DriftKind::Unknown && now - report.first_seen_at > REMEMBERED
        };
        self.unmapped.extend(
            self.drift.values().filter(|report| known(report)).map(|report| report.field.clone()),
        );
        self.drift.retain(|_, report| !known(report) && now - report.last_seen_at <= REMEMBERED);
    }

    /// A field that went and one that came: probably one, if their names are alike.
    fn guess_renames(&mut self) {
        let unknown: Vec<String> = self
            .drift
            .values()
            .filter(|report| report.kind == DriftKind::Unknown)
            .map(|report| report.field.clone())
            .collect();
        for report in self
            .drift
            .values_mut()
            .filter(|r| matches!(r.kind, DriftKind::Missing | DriftKind::Vanished))
        {
            report.likely_new_name = likely_name(&report.field, &unknown);
        }
    }
}

/// A field that differs: its name, the column that reads it, how, and in how many documents.
type Met = (String, Option<String>, DriftKind, u64);

/// A column with the field it is reported by.
fn named((column, fields): &(String, Vec<String>)) -> Option<(&String, &String)> {
    Some((column, fields.first()?))
}

#[cfg(test)]
mod tests;
