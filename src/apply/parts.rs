//! Part by part: what Postgres refuses as a whole is halved until what it refuses stands alone. One
//! mechanism for rows and deletes, of live batches, walks and sweeps, whatever the SQLSTATE.
//!
//! An answer that can be the whole table's is a row's only if another row passes; time running out
//! is a row's if another passes, or if it runs out for it time and again. While other tables wait
//! nothing more is tried once time has run out.

use std::ops::Range;

use sqlx::postgres::PgConnection;

use super::dead_letter::DeadLetter;
use super::mapping::Mapping;
use super::pace::Pace;
use super::row_writer::RowWriter;
use super::work::{Applied, Work};
use crate::model::bson::Doc;
use crate::model::dead_letter_code::DeadLetterCode;
use crate::model::event::Operation;
use crate::model::position::ClusterTime;
use crate::model::redaction::Evidence;
use crate::model::value::decode_id;
use crate::postgres::{Refusal, Trouble, Whose};

/// What is sent in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Rows,
    Deletes,
}

/// A row, or a delete, that does not pass even alone.
#[derive(Debug)]
pub(super) struct Refused {
    pub kind: Kind,
    /// Its place in the work's rows or deletes.
    pub index: usize,
    pub refusal: Refusal,
}

impl Refused {
    /// The dead letter of this row or delete, with the event or document it came from.
    pub fn letter(&self, work: &Work, mapping: &Mapping) -> DeadLetter {
        let Self { kind, index, refusal } = self;
        let is_slow = refusal.whose == Whose::Time;
        let code = if is_slow { DeadLetterCode::Slow } else { DeadLetterCode::Refused };
        let error = refusal.fault.message.clone();
        let time = |packed: i64| ClusterTime::from_sql(packed);
        match kind {
            Kind::Rows => {
                let origin = work.rows.origin(*index).unwrap_or_default();
                let stamp = work.rows.tuple(*index).and_then(<[u8]>::last_chunk::<8>);
                DeadLetter {
                    document_id: work.rows.id(*index).map(str::to_owned),
                    operation: work.origins.operation(origin),
                    event: work.origins.evidence(origin, mapping),
                    code,
                    error,
                    cluster_time: stamp.map(|bytes| time(i64::from_be_bytes(*bytes))),
                }
            }
            Kind::Deletes => {
                let id = work.deletes.ids.get(*index).cloned().unwrap_or_default();
                // The event may also be a replace that gave the document another `_id` and so ends
                // the row of the `_id` before; of that one the key alone is kept.
                let asks =
                    |event: &usize| work.origins.operation(*event) == Operation::Delete.name();
                let event = work.deletes.origins.get(*index).copied().flatten().filter(asks);
                DeadLetter {
                    event: event
                        .map_or_else(|| key_of(&id), |event| work.origins.evidence(event, mapping)),
                    document_id: Some(id),
                    operation: Operation::Delete.name(),
                    code,
                    error,
                    cluster_time: work.deletes.cluster_times.get(*index).copied().map(time),
                }
            }
        }
    }
}

/// `{_id: …}` of the document a row stands for; the row's id as it is where its `_id` cannot be
/// told from it.
fn key_of(id: &str) -> Evidence {
    let key = decode_id(id);
    let value = key.as_deref().and_then(|bytes| Doc::new(bytes).ok()?.get("").ok().flatten());
    match value {
        Some(value) => Evidence::of_key(Some(value)),
        None => Evidence::of_row_id(id),
    }
}

/// So many rows may be refused alone, with an answer that can be the whole table's, while no row
/// passes; at this number the table is to blame, and no more are tried.
const SUSPECTS_MAX: usize = 100;

/// The same for rows that run out of time: fewer, because each takes as long as a statement may.
const SLOW_SUSPECTS_MAX: usize = 2;

/// Ends a part. Constraints are checked once more, because a trigger may have deferred them again.
const RELEASE: &str = "set constraints all immediate; release savepoint part";

const ROLLBACK: &str = "rollback to savepoint part; release savepoint part";

pub(super) struct Halving<'a> {
    row_writer: &'a RowWriter<'a>,
    work: &'a Work,
    pace: &'a mut Pace,
    /// More refusals than this are no accident: the rest need not be tried.
    allowance: u64,
    refused: Vec<Refused>,
    rows_passed: bool,
    deletes_passed: bool,
}

impl<'a> Halving<'a> {
    pub const fn new(
        row_writer: &'a RowWriter<'a>,
        work: &'a Work,
        pace: &'a mut Pace,
        allowance: u64,
    ) -> Self {
        Self {
            row_writer,
            work,
            pace,
            allowance,
            refused: Vec::new(),
            rows_passed: false,
            deletes_passed: false,
        }
    }

    /// Stores and deletes what can be; returns what cannot.
    ///
    /// # Errors
    /// Refused, if it is not single rows that are; failed, whatever they are.
    pub async fn run(
        mut self,
        connection: &mut PgConnection,
        done: &mut Applied,
    ) -> Result<Vec<Refused>, Trouble> {
        self.halve(connection, Kind::Rows, self.work.rows.len(), done).await?;
        self.halve(connection, Kind::Deletes, self.work.deletes.ids.len(), done).await?;
        if !self.is_settled() {
            self.try_again(connection, done).await?;
        }
        self.judge()?;
        Ok(self.refused)
    }

    async fn halve(
        &mut self,
        connection: &mut PgConnection,
        kind: Kind,
        length: usize,
        done: &mut Applied,
    ) -> Result<(), Trouble> {
        let mut ranges = Vec::from_iter((length > 0).then_some(0..length));
        while let Some(range) = ranges.pop().filter(|_| !self.is_settled()) {
            if let Some(first) = self.pace.cut(&range) {
                ranges.extend([first.end..range.end, first]);
                continue;
            }
            let Some(refusal) = self.part(connection, kind, range.clone(), done).await? else {
                continue;
            };
            if refusal.whose == Whose::Time {
                if self.row_writer.backend.is_some() {
                    self.pace.timed_out_for_others(range.len());
                    return Err(Trouble::Refused(refusal));
                }
                if range.len() > 1 {
                    self.pace.timed_out(range.len());
                }
            }
            if range.len() > 1 {
                let middle = range.start + range.len() / 2;
                ranges.extend([middle..range.end, range.start..middle]);
            } else {
                self.refused.push(Refused { kind, index: range.start, refusal });
                self.explain_time(kind);
            }
        }
        Ok(())
    }

    /// Sends once more what was refused alone, now that the rest has landed: a row may refer to
    /// another one of the same batch that came after it. Goes on for as long as that lets another
    /// one pass.
    async fn try_again(
        &mut self,
        connection: &mut PgConnection,
        done: &mut Applied,
    ) -> Result<(), Trouble> {
        loop {
            let before = self.refused.len();
            for mut refused in std::mem::take(&mut self.refused) {
                if refused.refusal.whose != Whose::Time {
                    let place = refused.index..refused.index + 1;
                    match self.part(connection, refused.kind, place, done).await? {
                        None => continue,
                        Some(refusal) => refused.refusal = refusal,
                    }
                }
                self.refused.push(refused);
            }
            if self.refused.len() == before || self.refused.is_empty() {
                return Ok(());
            }
        }
    }

    /// Sends one part under a savepoint of its own. Returns the refusal if Postgres refuses it, and
    /// then the part is rolled back.
    async fn part(
        &mut self,
        connection: &mut PgConnection,
        kind: Kind,
        range: Range<usize>,
        done: &mut Applied,
    ) -> Result<Option<Refusal>, Trouble> {
        let before = done.clone();
        self.row_writer.plain(connection, "savepoint part").await?;
        let mut sent = match kind {
            Kind::Rows => self.row_writer.put(connection, self.work, range, done).await,
            Kind::Deletes => self.row_writer.delete(connection, self.work, range, done).await,
        };
        if sent.is_ok() {
            sent = self.row_writer.plain(connection, RELEASE).await;
        }
        match sent {
            Ok(()) => {
                match kind {
                    Kind::Rows => self.rows_passed = true,
                    Kind::Deletes => self.deletes_passed = true,
                }
                self.explain_time(kind);
                Ok(None)
            }
            Err(Trouble::Refused(refusal)) if refusal.whose != Whose::Lock => {
                self.row_writer.plain(connection, ROLLBACK).await?;
                *done = before;
                Ok(Some(refusal))
            }
            Err(failed) => Err(failed),
        }
    }

    const fn has_passed(&self, kind: Kind) -> bool {
        match kind {
            Kind::Rows => self.rows_passed,
            Kind::Deletes => self.deletes_passed,
        }
    }

    fn alone(&self, kind: Kind, whose: Whose) -> usize {
        self.refused
            .iter()
            .filter(|refused| refused.kind == kind && refused.refusal.whose == whose)
            .count()
    }

    /// Drops the limit on rows a statement once a row has run out of time alone while another
    /// passed, since then their number is not what was slow.
    fn explain_time(&mut self, kind: Kind) {
        if self.has_passed(kind)
            && self.pace.rows_max() == Some(1)
            && self.alone(kind, Whose::Time) > 0
        {
            self.pace.met_a_slow_row();
        }
    }

    /// Whether the outcome is certain, so that no more need be tried: too many are refused, or the
    /// table is to blame.
    fn is_settled(&self) -> bool {
        let too_many = crate::model::count(self.refused.len()) > self.allowance;
        let the_tables = |kind| {
            let slow = self.pace.is_patient() && self.alone(kind, Whose::Time) >= SLOW_SUSPECTS_MAX;
            !self.has_passed(kind) && (slow || self.alone(kind, Whose::Table) >= SUSPECTS_MAX)
        };
        too_many || the_tables(Kind::Rows) || the_tables(Kind::Deletes)
    }

    /// Refuses the whole work where what was refused does not prove that single rows are to blame:
    /// an answer that can be the table's, or time that ran out, while no other row passed.
    fn judge(&mut self) -> Result<(), Trouble> {
        let unproved = |whose| {
            let found =
                self.refused.iter().find(|r| r.refusal.whose == whose && !self.has_passed(r.kind));
            found.map(|refused| Trouble::Refused(refused.refusal.clone()))
        };
        if let Some(trouble) = unproved(Whose::Table) {
            return Err(trouble);
        }
        match unproved(Whose::Time) {
            Some(trouble) if !self.pace.stands_alone() => Err(trouble),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bson::kind;

    #[test]
    fn the_key_of_a_row_is_its_documents_where_its_id_tells() {
        let id = |key: Evidence| {
            let value = Doc::new(key.bytes()).unwrap().get("_id").unwrap();
            value.map(|value| (value.kind, value.bytes.len()))
        };
        assert_eq!(id(key_of("5f0000000000000000000001")), Some((kind::OBJECT_ID, 12)));
        assert_eq!(id(key_of("1234567")), Some((kind::STRING, 12)));
        assert!(Doc::new(key_of("{\"$numberInt\":\"7\"}").bytes()).is_ok());
    }
}
