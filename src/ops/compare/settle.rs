//! What differs at first sight, told from what is only on its way.
//!
//! A look: the documents are read; the stream's position is waited for until it has passed that
//! time; they are read again, and then their rows. A document that was the same both times should
//! have just that row by then, unless the row shows something newer. What is found otherwise
//! several times in a row differs.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sqlx::AssertSqlSafe;
use twox_hash::XxHash3_64;

use super::suspect::{Kind, Suspect};
use super::{Compared, Comparison, KEPT_MAX, SHOWN_MAX, id_of};
use crate::apply::{Statements, row_times, rowless_versions};
use crate::error::Fault;
use crate::model::bson::{Doc, Value};
use crate::model::position::ClusterTime;
use crate::model::standing::Looks;
use crate::model::value::{asked_for, decode_id};
use crate::ops::left_out;
use crate::ops::wait::HURRY_INTERVAL;
use crate::postgres::with_deadline;

/// How long the stream is waited for before what differs is looked at again.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a group may be led by nobody before that counts as such: it is handed over within
/// moments.
const UNLED_MAX: Duration = Duration::from_secs(5);

/// What is found to differ so many times in a row does. Fewer would tell wrongly of a document that
/// is taken away and put back all the time.
const STAYS: u32 = 3;

/// After so many looks, what has been changing all the time cannot be told.
const LOOKS: u32 = 10;

/// What is known of a document and its row at one look.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// A hash of the document before the stream's position had passed that time; `None` if it was
    /// not there.
    before: Option<u64>,
    after: Option<u64>,
    /// The time of its row, read last; `None` if there is none.
    row: Option<ClusterTime>,
    /// The row is there and shows something else.
    differs: bool,
}

/// What one look tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Equal,
    /// It is being changed: nothing can be told from this look.
    Changing,
    Stays(Kind),
}

impl Seen {
    /// `since` is the time of the first read, which the stream's position has passed; `now`, that
    /// after the last.
    fn look(self, since: ClusterTime, now: ClusterTime) -> Look {
        let kind = match (self.after, self.row) {
            (None, None) => return Look::Equal,
            (Some(_), Some(_)) if !self.differs => return Look::Equal,
            (Some(_), Some(_)) => Kind::Different,
            (Some(_), None) => Kind::Missing,
            (None, Some(_)) => Kind::Extra,
        };
        let looks = Looks { stays: self.before == self.after, row: self.row, since, now };
        if looks.is_due() { Look::Stays(kind) } else { Look::Changing }
    }
}

impl Comparison<'_> {
    /// Tells what stays different from what was only on its way. Rows no newer than `started` that
    /// the walk did not meet are looked at as well.
    pub(super) async fn settle(&mut self, started: Option<ClusterTime>) -> Result<(), Fault> {
        let now = self.source.now().await?;
        let mut told = self.catch_up(now).await?;
        if let Some(started) = started {
            self.extra(started).await?;
        }
        let mut looks = 0;
        while told && looks < LOOKS && self.suspects.values().any(|suspect| suspect.stays < STAYS) {
            told = self.look_again().await?;
            looks += 1;
        }
        for (id, suspect) in std::mem::take(&mut self.suspects) {
            if told && suspect.stays < STAYS {
                self.found.undecided += 1;
            } else {
                self.found.count(suspect.kind, Some(id));
            }
        }
        self.found.sort();
        Ok(())
    }

    /// Waits until the stream's position has passed a time of the source; not for ever: it may be
    /// down. `false`: it has not, and what differs cannot be told from what has still to be
    /// applied.
    async fn catch_up(&mut self, time: ClusterTime) -> Result<bool, Fault> {
        self.found.note = left_out::note(self.state, &self.config.name).await?;
        if self.found.note.is_some() {
            return Ok(false);
        }
        let begun = Instant::now();
        let (mut asked, mut led_at): (Option<Instant>, _) = (None, begun);
        loop {
            let stored = self.state.load(&self.group).await?;
            let position = stored.and_then(|stored| stored.cluster_time).map(ClusterTime::from_sql);
            if position.is_some_and(|position| position >= time) {
                return Ok(true);
            }
            let led =
                self.state.leases().await?.iter().any(|held| held.group == self.group && held.live);
            if led {
                led_at = Instant::now();
            }
            if led_at.elapsed() > UNLED_MAX || begun.elapsed() > PATIENCE {
                let note = "the stream has not caught up: what it has still to apply counts as a \
                            difference";
                self.found.note = Some(note.to_owned());
                return Ok(false);
            }
            if asked.is_none_or(|at| at.elapsed() > HURRY_INTERVAL) {
                asked = Some(Instant::now());
                // Who may not ask waits for the next position that is due.
                let _ = self.state.hurry(&self.group).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// One look at all suspects. `false`: the stream did not catch up.
    async fn look_again(&mut self) -> Result<bool, Fault> {
        let (mut before, mut since) = (HashMap::new(), self.source.now().await?);
        let all: Vec<(String, Vec<u8>)> =
            self.suspects.iter().map(|(id, s)| (id.clone(), s.raw_id.clone())).collect();
        let part_max = self.settings.resync.chunk_documents.max(1);
        for part in all.chunks(part_max) {
            before.extend(self.hashes(part, since).await?.0);
        }
        // What was read is not newer than this.
        since = self.source.now().await?;
        if !self.catch_up(since).await? {
            return Ok(false);
        }
        for part in all.chunks(part_max) {
            let (after, differing) = self.hashes(part, since).await?;
            let rows = self.row_times(part).await?;
            let now = self.source.now().await?;
            for (id, _) in part {
                let seen = Seen {
                    before: before.get(id).copied(),
                    after: after.get(id).copied(),
                    row: rows.get(id).copied(),
                    differs: differing.contains(id),
                };
                match seen.look(since, now) {
                    Look::Equal => drop(self.suspects.remove(id)),
                    Look::Changing => self.found_to_stay(id, None),
                    Look::Stays(kind) => self.found_to_stay(id, Some(kind)),
                }
            }
        }
        Ok(true)
    }

    fn found_to_stay(&mut self, id: &str, kind: Option<Kind>) {
        if let Some(suspect) = self.suspects.get_mut(id) {
            suspect.stays = if kind == Some(suspect.kind) {
                suspect.stays + 1
            } else {
                u32::from(kind.is_some())
            };
            suspect.kind = kind.unwrap_or(suspect.kind);
        }
    }

    /// The documents that are there, as hashes, and those of them that have another row, or none.
    pub(super) async fn hashes(
        &mut self,
        part: &[(String, Vec<u8>)],
        after: ClusterTime,
    ) -> Result<(HashMap<String, u64>, Vec<String>), Fault> {
        let raw_ids: Vec<Value<'_>> =
            part.iter().filter_map(|(_, raw)| Doc::new(raw).ok()?.get("").ok()?).collect();
        let (mut hashes, mut differing) = (HashMap::new(), Vec::new());
        let mut documents = self.source.lookup(&self.config.collection, &raw_ids, after).await?;
        while let Some(reply) = documents.next().await? {
            let read = reply
                .items()
                .filter(|bytes| self.mapping.follows(bytes))
                .filter_map(|bytes| Some((id_of(bytes)?.0, XxHash3_64::oneshot(bytes))));
            hashes.extend(read);
            let rows = self.encode(reply.items(), after);
            differing.extend(self.differing(&rows).await?.into_iter().map(|(id, _)| id));
        }
        Ok((hashes, differing))
    }

    /// The rows that are there, with their times.
    pub(super) async fn row_times(
        &mut self,
        part: &[(String, Vec<u8>)],
    ) -> Result<HashMap<String, ClusterTime>, Fault> {
        let ids: Vec<&str> = part.iter().map(|(id, _)| id.as_str()).collect();
        row_times(&mut self.connection, self.target, &self.statements, &ids).await
    }

    /// Documents that have a version of now and no row.
    pub(super) async fn rowless_versions(
        &mut self,
        part: &[(String, Vec<u8>)],
    ) -> Result<HashMap<String, ClusterTime>, Fault> {
        let ids: Vec<&str> = part.iter().map(|(id, _)| id.as_str()).collect();
        rowless_versions(&mut self.connection, self.target, &self.statements, &ids).await
    }

    /// Rows the walk did not meet and that are no newer than its start, or of a time to come: the
    /// source may not have them. Where it has stood still since, a row can be just as old.
    async fn extra(&mut self, started: ClusterTime) -> Result<(), Fault> {
        let Statements { living, orphans, .. } = &self.statements;
        let unseen = "not exists (select from tidemark_seen as s where s.id = t.id)";
        // Of elements whose document has no row nobody knows the time.
        let or = if orphans.is_empty() {
            String::new()
        } else {
            format!(" union select t.id from ({orphans}) as t where {unseen}")
        };
        let sql = AssertSqlSafe(format!(
            "with extra as (select t.id from {living} as t where (coalesce(t._cluster_time, 0) <= \
             $1 or t._cluster_time > $3) and {unseen}{or}) select (select count(*) from extra), \
             coalesce((select array_agg(id) from (select id from extra limit $2) as e), '{{}}')"
        ));
        let room = KEPT_MAX.saturating_sub(self.suspects.len());
        let query = sqlx::query_as::<_, (i64, Vec<String>)>(sql)
            .bind(started.to_sql())
            .bind(i64::try_from(room).unwrap_or(i64::MAX))
            .bind(started.ahead_max().to_sql())
            .fetch_one(&mut self.connection);
        let (number, ids) = with_deadline(self.settings.resync.duration_max, query).await?;
        let beyond = u64::try_from(number)
            .unwrap_or_default()
            .saturating_sub(crate::model::count(ids.len()));
        self.found.extra = Some(beyond);
        if beyond > 0 {
            self.found.ids = None;
        }
        for id in ids {
            match decode_id(&id) {
                Some(raw_id) => drop(self.suspects.insert(id, Suspect::new(raw_id, Kind::Extra))),
                // No document is written so.
                None => self.found.count(Kind::Extra, Some(id)),
            }
        }
        Ok(())
    }
}

impl Compared {
    pub(super) fn count(&mut self, kind: Kind, id: Option<String>) {
        let (number, ids) = match kind {
            Kind::Missing => (&mut self.missing, &mut self.missing_ids),
            Kind::Different => (&mut self.different, &mut self.different_ids),
            Kind::Extra => (self.extra.get_or_insert(0), &mut self.extra_ids),
        };
        *number += 1;
        // What cannot be asked for differs, and is repaired by nothing.
        match (&id, kind) {
            (Some(id), _) if decode_id(id).is_some_and(|raw| asked_for(&raw).is_some()) => {
                if let Some(all) = &mut self.ids {
                    all.push(id.clone());
                }
            }
            (Some(_), Kind::Extra) => {}
            _ => self.ids = None,
        }
        if ids.len() < SHOWN_MAX {
            ids.extend(id);
        }
    }

    fn sort(&mut self) {
        for ids in [&mut self.missing_ids, &mut self.extra_ids, &mut self.different_ids] {
            ids.sort_unstable();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_left_alone_and_has_no_newer_row_is_told_to_differ() {
        let time = |seconds: u64| ClusterTime::new(seconds << 32);
        let look = |before, after, row: Option<u64>, differs| {
            Seen { before, after, row: row.map(time), differs }.look(time(100), time(110))
        };
        assert_eq!(look(Some(1), Some(1), Some(90), false), Look::Equal);
        assert_eq!(look(None, None, None, false), Look::Equal);
        assert_eq!(look(Some(1), Some(1), Some(90), true), Look::Stays(Kind::Different));
        assert_eq!(look(Some(1), Some(2), Some(90), true), Look::Changing, "it changed meanwhile");
        assert_eq!(look(Some(1), Some(1), Some(105), true), Look::Changing, "its row is newer");
        assert_eq!(
            look(Some(1), Some(1), Some(999), true),
            Look::Stays(Kind::Different),
            "of a time to come"
        );
        assert_eq!(look(Some(1), Some(1), None, false), Look::Stays(Kind::Missing));
        assert_eq!(look(None, None, Some(90), false), Look::Stays(Kind::Extra));
        assert_eq!(look(Some(1), None, Some(90), false), Look::Changing, "it was just deleted");
    }
}
