//! Writes incidents to Postgres, each by itself, so that one that Postgres refuses holds up no
//! other.
//!
//! What counts is what the database says it holds: a row that is gone, or older than what was
//! written, is written anew.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use super::Store;
use super::life::{Incident, later};
use super::store::{Held, Written};
use crate::alert::outbox::Outbox;
use crate::error::Fault;

/// The watch looks again after this time at most, whatever keeps an incident from being written
/// down.
const PASS_MAX: Duration = Duration::from_secs(10);

/// How often an incident is written down of which only the count and the summary have changed.
const SAVE_INTERVAL: TimeDelta = TimeDelta::seconds(10);

/// The longest pause before an incident that could not be written down is tried again.
const WRITE_PAUSE_MAX: TimeDelta = TimeDelta::seconds(60);

/// After so many refusals in a row an incident is told without being written down.
const REFUSALS_MAX: u32 = 3;

impl Store {
    /// Writes an incident down, with what its channels have still to be told, if this process is
    /// the one that watches. An incident that another process opened meanwhile for the same cause
    /// is taken over: its number and its thread stand. `false`: another process watches.
    pub async fn save(&self, incident: &mut Incident, now: DateTime<Utc>) -> Result<bool, Fault> {
        let mut written = match incident.id {
            Some(_) => self.update(incident).await?,
            None => Written::Gone,
        };
        let anew = written == Written::Gone;
        if anew {
            let code = incident.key.code.name();
            if let Some(id) = incident.id.take() {
                tracing::warn!(
                    incident = id,
                    code,
                    "the row of an incident is gone, it is written anew"
                );
            }
            written = match self.twin(incident, now).await? {
                Some(known) => {
                    incident.take_over(known);
                    self.update(incident).await?
                }
                None => self.insert(incident, false).await?,
            };
        }
        match written {
            Written::As(id) => incident.id = Some(id),
            Written::Aside => return Ok(false),
            // Taken away between two statements: the next pass finds out.
            Written::Gone => return Ok(true),
        }
        if incident.unsaved || anew {
            self.write_deliveries(incident).await?;
        }
        Ok(true)
    }

    /// Leaves an incident that was kept in memory to the process that watches now: it goes on in
    /// the same thread.
    ///
    /// # Errors
    /// Whatever Postgres answers; also where that process has opened one for the same cause itself.
    pub async fn hand_over(&self, incident: &Incident) -> Result<(), Fault> {
        let Written::As(id) = self.insert(incident, true).await? else { return Ok(()) };
        let mut written = incident.clone();
        written.id = Some(id);
        self.write_deliveries(&written).await
    }

    /// Looks for an open incident of the same cause that another process wrote down.
    async fn twin(
        &self,
        incident: &Incident,
        now: DateTime<Utc>,
    ) -> Result<Option<Incident>, Fault> {
        if incident.is_resolved() {
            return Ok(None);
        }
        let open = self
            .load(
                now,
                &[
                    crate::alert::outbox::BOT,
                    crate::alert::outbox::SLACK_WEBHOOK,
                    crate::alert::outbox::WEBHOOK,
                    crate::alert::outbox::SENTRY,
                ],
            )
            .await?;
        let twin = |known: &Incident| {
            known.key == incident.key && !known.is_resolved() && known.tag != incident.tag
        };
        Ok(open.into_iter().find(twin))
    }

    /// Writes down how far the channels have got, at once after something was sent. `false`: it
    /// could not be written now. Should the process end before it is, the next one sends the same a
    /// second time.
    pub async fn save_deliveries(&self, incident: &Incident) -> bool {
        let written = self.write_deliveries(incident).await;
        if let Err(fault) = &written {
            tracing::debug!("delivery not written down yet: {fault}");
        }
        written.is_ok()
    }
}

impl Outbox {
    /// Writes down what has changed, each by itself. `false`: another process watches now. What
    /// could not be written is tried again later and later, after the others, and is told from
    /// memory meanwhile.
    pub async fn save(&self, store: &Store, now: DateTime<Utc>) -> bool {
        let begun = Instant::now();
        let unsaved = |incident: &&Incident| incident.wants_saving(now);
        let mut unsaved: Vec<Incident> =
            self.book().incidents.iter().filter(unsaved).cloned().collect();
        unsaved.sort_by_key(|incident| incident.refusals);
        for before in unsaved {
            if begun.elapsed() > PASS_MAX {
                break;
            }
            let mut incident = before.clone();
            let saved = store.save(&mut incident, now).await;
            self.board.incident_written(saved.is_ok());
            if saved == Ok(false) {
                return false;
            }
            let mut book = self.book();
            let Some(kept) = book.incidents.iter_mut().find(|kept| kept.tag == before.tag) else {
                continue;
            };
            match saved {
                Ok(_) => {
                    kept.adopt(&before, &incident);
                    kept.saved(now);
                }
                Err(fault) => {
                    let refusals = kept.refused(now);
                    let code = kept.key.code.name();
                    tracing::warn!(code, refusals, "incident not written down yet: {fault}");
                }
            }
        }
        true
    }

    /// Marks the incidents that Postgres does not hold as they were written, because it went back
    /// or somebody deleted rows: they are written anew. Returns whether Postgres holds open
    /// incidents that are not known here.
    pub fn check(&self, held: &[Held]) -> bool {
        let mut book = self.book();
        for incident in book.incidents.iter_mut().filter(|i| i.id.is_some() && !i.unsaved) {
            let versions: i64 =
                incident.deliveries.values().map(|delivery| i64::from(delivery.version)).sum();
            let row = held.iter().find(|held| held.tag == incident.tag);
            incident.unsaved = match row {
                Some(row) => {
                    row.revision.unsigned_abs() < incident.detail.revision
                        || row.open == incident.is_resolved()
                        || row.versions < versions
                }
                // An incident that is over, and whose end was told, need not be written anew.
                None => !incident.is_resolved() || incident.is_pending(),
            };
        }
        let known = |tag| book.incidents.iter().any(|incident| incident.tag == tag);
        held.iter().any(|row| row.open && !known(row.tag))
    }
}

impl Incident {
    /// Whether the incident is to be written down now.
    pub fn wants_saving(&self, now: DateTime<Utc>) -> bool {
        let touched = self.touched && self.saved_at.is_none_or(|at| now - at >= SAVE_INTERVAL);
        (self.unsaved || touched) && self.write_after.is_none_or(|at| now >= at)
    }

    /// Notes that the incident was written down.
    const fn saved(&mut self, now: DateTime<Utc>) {
        (self.saved_at, self.refusals, self.write_after) = (Some(now), 0, None);
    }

    /// Notes that the incident could not be written down, and doubles the pause before the next
    /// try. Returns how often in a row that was so.
    fn refused(&mut self, now: DateTime<Utc>) -> u32 {
        self.refusals += 1;
        let wait = TimeDelta::seconds(1 << self.refusals.min(6));
        self.write_after = Some(later(now, wait.min(WRITE_PAUSE_MAX)));
        self.refusals
    }

    /// Whether the incident may be told while Postgres answers: once it is written down, or once
    /// Postgres has refused that so often that it is told all the same.
    pub const fn may_be_told(&self) -> bool {
        (self.id.is_some() && !self.unsaved) || self.refusals >= REFUSALS_MAX
    }

    /// Becomes the incident that another process opened for the same cause: id, tag and thread are
    /// that one's from now on.
    fn take_over(&mut self, known: Self) {
        (self.id, self.tag) = (known.id, known.tag);
        self.opened_at = self.opened_at.min(known.opened_at);
        self.detail.revision = self.detail.revision.max(known.detail.revision);
        self.count += known.count;
        self.deliveries.extend(known.deliveries);
    }

    /// Takes over what saving found out: the number that Postgres gave, and the thread of a twin
    /// that another process had opened. Changes made since `before` was copied stay unsaved.
    fn adopt(&mut self, before: &Self, saved: &Self) {
        self.unsaved = self.detail != before.detail
            || self.state != before.state
            || self.deliveries != before.deliveries;
        self.touched = (self.count, &self.summary) != (before.count, &before.summary);
        (self.id, self.tag) = (saved.id, saved.tag);
        if saved.tag != before.tag {
            self.opened_at = saved.opened_at;
            self.count += saved.count - before.count;
            self.detail.revision = self.detail.revision.max(saved.detail.revision);
            self.deliveries.clone_from(&saved.deliveries);
            self.unsaved = true;
        }
    }
}
