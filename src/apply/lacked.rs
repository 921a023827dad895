//! What a stream's tables lack of what the configuration says its rows have: whoever makes it makes
//! it empty, so that the rows that are there have to be made anew.

use sqlx::postgres::PgConnection;

use super::schema::{LiveTable, read_live};
use super::wanted::Wanted;
use crate::error::Fault;
use crate::model::mapping_digest::MappingDigest;
use crate::postgres::Target;
use crate::state::StateTables;

/// What is lacking.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lacked {
    /// Columns of the followed table.
    columns: Vec<String>,
    /// Tables of arrays that are not there, or that lack columns.
    children: Vec<String>,
    /// A table is not as it should be, for whatever reason.
    pub is_unfit: bool,
}

impl Lacked {
    /// Reads from the catalogue what the tables are.
    ///
    /// # Errors
    /// The catalogue cannot be read.
    pub async fn of(
        connection: &mut PgConnection,
        target: &Target,
        tables: impl Iterator<Item = Wanted<'_>>,
    ) -> Result<Self, Fault> {
        let mut lacked = Self::default();
        for wanted in tables {
            let live = read_live(connection, target, &wanted.table).await?;
            lacked.note(&live, &wanted);
        }
        Ok(lacked)
    }

    fn note(&mut self, live: &LiveTable, wanted: &Wanted<'_>) {
        let columns = wanted.columns.iter().filter(|column| !live.has(&column.name));
        let mut columns = columns.map(|column| column.name.clone()).peekable();
        self.is_unfit |= live.fits(wanted).is_err();
        if let Some(child) = wanted.child() {
            let is_whole = live.kind.is_some() && columns.peek().is_none();
            self.children.extend((!is_whole).then(|| child.to_owned()));
        } else if wanted.is_followed() {
            self.columns.extend(columns);
        }
    }

    /// Takes it out of what is remembered of the stream's mapping, so that it is new once it is
    /// made: by whomever, and whatever happens until then. `false`: nothing was remembered of it.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn forget(
        &self,
        connection: &mut PgConnection,
        state: &StateTables,
        stream: &str,
        now: &MappingDigest,
    ) -> Result<bool, Fault> {
        if self.columns.is_empty() && self.children.is_empty() {
            return Ok(false);
        }
        state.forget_made(connection, stream, now, (&self.columns, &self.children)).await
    }
}
