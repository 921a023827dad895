//! One attempt at a commit: by which insert paths, and with how much patience.

use std::time::Instant;

use super::Writer;
use crate::apply::insert_path::InsertPath;
use crate::apply::load::Load;
use crate::apply::setback::{Met, Setback, is_of_the_table, widen};
use crate::apply::statement_limit::RanOut;
use crate::apply::table_writer::statement;
use crate::apply::work::{Applied, Commit, Work};
use crate::error::Fault;
use crate::postgres::{Refusal, Trouble, Whose};

impl Writer {
    /// Tries the insert paths of each work in turn: COPY gives way to the upsert where rows are in
    /// the table already, and the upsert gives way to parts where Postgres refuses something. A
    /// statement that runs out of time fails the step first, so that people see it, and is halved
    /// at the next try; where other tables wait, that try is made at once, in small parts.
    pub(super) async fn attempt(&mut self, commit: &Commit) -> Result<Vec<Applied>, Setback> {
        let mut paths = Vec::with_capacity(commit.works.len());
        for work in &commit.works {
            paths.push(self.table(work.stream)?.first_path(work));
        }
        let mut ran_out = None;
        loop {
            self.limit.decide(Instant::now());
            let met = match self.transact(Load::Whole(commit, &paths)).await {
                Ok(done) => return Ok(done),
                Err(met) => met,
            };
            let Some((place, work, trouble)) = of_a_work(met, commit, &mut paths)? else {
                continue;
            };
            let stream = Some(work.stream);
            let refusal = match trouble {
                Trouble::Failed(fault) => {
                    return Err(Setback::of(stream.filter(|_| is_of_the_table(&fault)), fault));
                }
                Trouble::Refused(refusal) => refusal,
            };
            let Some(path) = paths.get_mut(place) else { return Err(refusal.fault.into()) };
            if self.limit.is_on() && refusal.whose == Whose::Time {
                self.out_of_time(work, path, &mut ran_out)?;
            } else {
                self.refused(work, path, refusal)?;
            }
        }
    }

    /// What a work is tried by next that Postgres refuses.
    ///
    /// # Errors
    /// It is given up.
    fn refused(
        &mut self,
        work: &Work,
        path: &mut InsertPath,
        refusal: Refusal,
    ) -> Result<(), Setback> {
        let table = self.table(work.stream)?;
        if *path == InsertPath::Copy {
            table.avoid_copy();
        }
        let size = statement(work);
        let given_up = match refusal.whose {
            Whose::Lock => true,
            Whose::Time if *path != InsertPath::Parts && size > 1 => {
                table.pace.timed_out(size);
                true
            }
            Whose::Time if *path != InsertPath::Parts => !table.pace.stands_alone(),
            _ => *path == InsertPath::Parts,
        };
        if given_up {
            return Err(Setback::of(Some(work.stream), refusal.fault));
        }
        *path = path.next();
        Ok(())
    }

    /// A statement of a work took longer than others can wait: it is tried again, in small parts.
    ///
    /// # Errors
    /// It was tried again.
    fn out_of_time(
        &mut self,
        work: &Work,
        path: &mut InsertPath,
        before: &mut Option<usize>,
    ) -> Result<(), Setback> {
        let (stream, size) = (work.stream, statement(work));
        match RanOut::of(stream, before) {
            RanOut::Everywhere => self.limit.lift(Instant::now()),
            RanOut::Once => {}
            RanOut::Again => return Err(Setback::of_a_slow_table(stream)),
        }
        let table = self.table(stream)?;
        tracing::warn!(
            stream = table.stream(),
            rows = size,
            "cancelled a statement for which other tables wait: it is tried once more"
        );
        if *path != InsertPath::Parts && size > 1 {
            table.pace.timed_out_for_others(size);
            *path = InsertPath::Parts;
        }
        Ok(())
    }
}

/// Which of a commit's works trouble is with; none if its paths are to be tried once more.
///
/// # Errors
/// It is with none of them.
fn of_a_work<'c>(
    met: Met,
    commit: &'c Commit,
    paths: &mut [InsertPath],
) -> Result<Option<(usize, &'c Work, Trouble)>, Setback> {
    let place = met.work.or((commit.works.len() == 1).then_some(0));
    if let Some(place) = place
        && let Some(work) = commit.works.get(place)
    {
        return Ok(Some((place, work, met.trouble)));
    }
    if met.stream.is_some() {
        return Err(Setback::of(met.stream, met.trouble.into()));
    }
    // COMMIT itself was refused: by parts it is found whose row is.
    if matches!(met.trouble, Trouble::Refused(_)) && widen(paths) {
        return Ok(None);
    }
    Err(Fault::from(met.trouble).into())
}
