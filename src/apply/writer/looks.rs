//! Whether the tables are what they were: looked at in the transaction that writes them.

use sqlx::postgres::PgConnection;

use super::Writer;
use crate::apply::setback::{Met, is_of_the_table};
use crate::apply::table_writer::Ends;
use crate::apply::work::Commit;
use crate::error::Fault;
use crate::postgres::Trouble;

impl Writer {
    /// Before anything is written, since what is written to one table may delete rows of another
    /// one: a foreign key that cascades.
    pub(super) async fn look_before(
        &self,
        ends: Ends<'_>,
        connection: &mut PgConnection,
        commit: &Commit,
    ) -> Result<(), Met> {
        for (place, work) in commit.works.iter().enumerate() {
            let Some(table) = self.tables.get(work.stream) else { continue };
            let met = |trouble| Met { work: Some(place), stream: None, trouble };
            table.look_before(ends, connection, work).await.map_err(met)?;
        }
        Ok(())
    }

    /// At those to which nothing is written.
    pub(super) async fn look(
        &self,
        ends: Ends<'_>,
        connection: &mut PgConnection,
        commit: &Commit,
    ) -> Result<(), Met> {
        for stream in &commit.looks {
            let Some(table) = self.tables.get(*stream) else { continue };
            let met = |fault: Fault| {
                let stream = is_of_the_table(&fault).then_some(*stream);
                Met { work: None, stream, trouble: Trouble::Failed(fault) }
            };
            table.look(ends, connection).await.map_err(met)?;
        }
        Ok(())
    }
}
