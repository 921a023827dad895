//! One document and its row, side by side: each column with why it is what it is, and what is under
//! way about it. Changes nothing.
//!
//! Types and sizes only; contents are told to who asks for them.

mod child_rows;
mod history_rows;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgConnection;

pub use child_rows::ChildRows;
pub use history_rows::HistoryRows;

use super::resync::own_stream;
use super::resync_part::read_id;
use super::slip::{Slip, Unable};
use super::wait::wait;
use crate::apply::{ColumnRead, Drift, Mapping, RowBeside, RowNow, Rows, row_beside, row_now};
use crate::error::Fault;
use crate::model::bson::Doc;
use crate::model::fitting::Fitting;
use crate::model::namespace::Table;
use crate::model::position::ClusterTime;
use crate::model::standing::{Difference, Known, Looks, Standing};
use crate::model::value::{Zone, asked_for, decode_id, document_id};
use crate::postgres::{Target, close};
use crate::settings::{Column, Settings, StreamSettings};
use crate::source::Source;
use crate::state::{Letter, StateTables, StreamRow, WalkRow};

/// How long the group is waited for where document and row differ: its change may be on its way.
const PATIENCE: Duration = Duration::from_secs(5);

/// All that is known of one document.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    pub stream: String,
    pub id: String,
    pub source: String,
    pub table: String,
    pub document: Option<DocumentNow>,
    pub row: Option<RowFound>,
    pub columns: Vec<ColumnExplained>,
    /// Arrays in tables of their own; none if there is no document.
    pub children: Vec<ChildRows>,
    pub group: String,
    /// The group's position.
    pub position: Option<DateTime<Utc>>,
    pub standing: Standing,
    /// What that means.
    pub told: String,
    pub letters: Vec<Letter>,
    pub walk: Option<WalkRow>,
    /// Why the stream is parked.
    pub parked: Option<String>,
    /// Until when a person told it to stop, and why.
    pub paused: Option<String>,
    /// Versions kept of it, if they are.
    pub history: Option<HistoryRows>,
}

/// The document, as a majority has it.
#[derive(Debug, Clone, Serialize)]
pub struct DocumentNow {
    pub bytes: usize,
    pub fields: usize,
    /// It was read at or after this time.
    pub read_at: DateTime<Utc>,
    /// Why no row can be made of it.
    pub unwritable: Option<String>,
}

/// The row.
#[derive(Debug, Clone, Serialize)]
pub struct RowFound {
    /// `SECONDS.INCREMENT` of `_cluster_time`; `None` where it carries none.
    pub cluster_time: Option<String>,
    pub changed_at: Option<DateTime<Utc>>,
    pub applied_at: Option<DateTime<Utc>>,
    /// Whether `_hash` is the document's; `None` if one of them is not there.
    pub hash_fits: Option<bool>,
    /// Whether `doc` is the document; `None` if there is none.
    pub doc_is_same: Option<bool>,
    /// `doc`, if contents were asked for.
    pub doc: Option<String>,
}

/// One column.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnExplained {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The fields it reads, in the order they are tried.
    pub fields: Vec<String>,
    /// The one of them that the document has.
    pub field: Option<String>,
    /// The type of the value there, as `$type` names it, and its size in BSON.
    pub found: Option<&'static str>,
    pub bytes: Option<usize>,
    /// `None` if there is no document.
    pub fitting: Option<Fitting>,
    pub required: bool,
    /// What is stored instead of the value.
    pub mask: Option<String>,
    /// Whose day a date becomes.
    pub zone: Option<&'static str>,
    /// Whether the row holds what the document gives; `None` if one of them is not there.
    pub is_same: Option<bool>,
    /// Whether the row's column is NULL; `None` if there is no row.
    pub is_null: Option<bool>,
    /// What the document gives, and what the row holds, if contents were asked for.
    pub value: Option<String>,
    pub row_value: Option<String>,
}

/// Looks at both ends; waits a moment for the group where they differ.
///
/// # Errors
/// There is no such stream, or nothing is known of the id; whatever an end answers.
pub async fn explain(
    settings: &Settings,
    target: &Target,
    state: &StateTables,
    name: &str,
    id: &str,
    shows_values: bool,
) -> Result<Explanation, Unable> {
    let stream = own_stream(settings, state, name).await?;
    let id = read_id(id)?;
    let ends = Ends {
        source: Source::new(settings).await?.of_database(settings.database_of(stream)),
        target,
        stream,
        mapping: Mapping::new(stream, settings.row),
        table: settings.table_of(stream),
    };
    let mut connection = target.connect().await?;
    let (mut look, mut difference) = (ends.look(&mut connection, &id).await?, Difference::None);
    if !look.is_same() {
        let waited = wait(settings, state, name, look.read_at, PATIENCE).await?;
        if waited.shown {
            (look, difference) = ends.look_again(&mut connection, &id, &look).await?;
        } else {
            difference = Difference::Moving;
        }
    }
    let letters = state.letters_of(name, &id).await?;
    let history = history_rows::of(&mut connection, target, &ends.table, &id).await?;
    close(connection).await;
    if look.document.is_none() && look.row.is_none() && letters.is_empty() && history.is_none() {
        let hint = "see the column id of the table, or the source's _id: numbers, dates and the \
                    like are written as canonical Extended JSON: `tidemark explain STREAM \
                    '{\"$numberInt\":\"7\"}'`";
        let message = format!("nothing is known of {id}: neither end has it");
        return Err(Slip::new(message, hint).into());
    }
    let row = state.stream_row(name).await?;
    let group = row.as_ref().and_then(|row| row.group.as_ref()).unwrap_or(&stream.group).clone();
    let (parked, paused) = left_out(row);
    let walk = state.open_walk(name).await?;
    let position = state.load(&group).await?.and_then(|stored| stored.time());
    let standing = Standing::of(Known {
        letters: letters.len(),
        is_parked: parked.is_some() || paused.is_some(),
        is_walked: walk.is_some(),
        difference,
    });
    Ok(Explanation {
        stream: name.to_owned(),
        source: settings.namespace_of(stream).to_string(),
        table: ends.table.to_string(),
        columns: columns(&stream.columns, &look, shows_values),
        children: look.beside.as_ref().map(|it| child_rows::of(stream, it)).unwrap_or_default(),
        document: look.document_now(),
        row: look.row_found(shows_values),
        group,
        position: position.map(ClusterTime::at),
        standing,
        told: standing.told(name, &id),
        letters,
        walk,
        parked,
        paused,
        history,
        id,
    })
}

/// Why the stream is parked, or how it is paused.
fn left_out(row: Option<StreamRow>) -> (Option<String>, Option<String>) {
    let Some(row) = row else { return (None, None) };
    if let Some(pause) = row.pause() {
        return (None, Some(pause.to_string()));
    }
    let parked = row.parked_code.zip(row.parked_reason);
    (parked.map(|(code, reason)| format!("{code}: {reason}")), None)
}

struct Ends<'a> {
    source: Source,
    target: &'a Target,
    stream: &'a StreamSettings,
    mapping: Mapping,
    table: Table,
}

/// What both ends have at one look.
struct Look {
    read_at: ClusterTime,
    document: Option<Vec<u8>>,
    hash: Option<i64>,
    /// By column; empty if there is no document.
    read: Vec<ColumnRead>,
    unwritable: Option<String>,
    /// The stream's filter leaves the document out: there is to be no row.
    is_left_out: bool,
    row: Option<RowNow>,
    beside: Option<RowBeside>,
}

impl Ends<'_> {
    async fn look(&self, connection: &mut PgConnection, id: &str) -> Result<Look, Fault> {
        let read_at = self.source.now().await?;
        let document = self.document(id, read_at).await?;
        let (mut rows, mut drift) = (Rows::default(), Drift::default());
        let (mut read, mut unwritable, mut is_left_out) = (Vec::new(), None, false);
        if let Some(bytes) = &document {
            let encoded = Doc::new(bytes).map_err(Into::into).and_then(|doc| {
                read = self.mapping.read(doc)?;
                self.mapping.encode(id, doc, read_at, 0, &mut rows, &mut drift)
            });
            unwritable = encoded.err().map(|error| error.to_string());
            is_left_out = !self.mapping.follows(bytes);
            if is_left_out {
                rows = Rows::default();
                unwritable = Some("the stream's filter leaves it out".to_owned());
            }
        }
        let (target, table) = (self.target, &self.table);
        let beside = row_beside(connection, target, table, self.stream, &rows).await?;
        Ok(Look {
            read_at,
            hash: document.as_deref().map(|bytes| self.mapping.hash(bytes)),
            document,
            read,
            unwritable,
            is_left_out,
            row: row_now(connection, target, table, self.stream, id).await?,
            beside,
        })
    }

    /// Once the group's position has passed the time of the look before.
    async fn look_again(
        &self,
        connection: &mut PgConnection,
        id: &str,
        before: &Look,
    ) -> Result<(Look, Difference), Fault> {
        let look = self.look(connection, id).await?;
        let (stays, row) = (before.document == look.document, look.row_time());
        let now = self.source.now().await?;
        let is_due = Looks { stays, row, since: before.read_at, now }.is_due();
        let difference = match is_due {
            _ if look.is_same() => Difference::None,
            true => Difference::Stays,
            false => Difference::Moving,
        };
        Ok((look, difference))
    }

    /// The document with just this id, as a majority has it.
    async fn document(&self, id: &str, after: ClusterTime) -> Result<Option<Vec<u8>>, Fault> {
        let raw = decode_id(id).unwrap_or_default();
        let Some(asked) = asked_for(&raw) else { return Ok(None) };
        let mut found = None;
        let mut documents = self.source.lookup(&self.stream.collection, &[asked], after).await?;
        while let Some(reply) = documents.next().await? {
            let mut items = reply.items();
            let one = items.find(|bytes| document_id(bytes).as_deref() == Some(id));
            found = found.or_else(|| one.map(<[u8]>::to_vec));
        }
        Ok(found)
    }
}

impl Look {
    fn is_same(&self) -> bool {
        match (&self.document, &self.row, &self.beside) {
            (None, None, _) => true,
            (Some(_), None, _) => self.is_left_out,
            (Some(_), Some(_), Some(beside)) => {
                beside.doc_is_same && beside.same.iter().chain(&beside.child_same).all(|it| *it)
            }
            _ => false,
        }
    }

    fn document_now(&self) -> Option<DocumentNow> {
        let bytes = self.document.as_deref()?;
        let fields = Doc::new(bytes).map(|doc| doc.elements().count()).unwrap_or_default();
        let unwritable = self.unwritable.clone();
        Some(DocumentNow { bytes: bytes.len(), fields, read_at: self.read_at.at(), unwritable })
    }

    fn row_time(&self) -> Option<ClusterTime> {
        self.row.as_ref()?.cluster_time.map(ClusterTime::from_sql)
    }

    fn row_found(&self, shows_values: bool) -> Option<RowFound> {
        let row = self.row.as_ref()?;
        let time = self.row_time();
        Some(RowFound {
            cluster_time: time.map(|time| time.to_string()),
            changed_at: time.map(ClusterTime::at),
            applied_at: row.applied_at,
            hash_fits: self.hash.zip(row.hash).map(|(document, row)| document == row),
            doc_is_same: self.beside.as_ref().map(|beside| beside.doc_is_same),
            doc: row.doc.clone().filter(|_| shows_values),
        })
    }
}

fn columns(configured: &[Column], look: &Look, shows_values: bool) -> Vec<ColumnExplained> {
    let explained = configured.iter().enumerate().map(|(index, column)| {
        let read = look.read.get(index);
        let fields = column.fields();
        let beside = look.beside.as_ref().filter(|_| look.row.is_some());
        let held = look.row.as_ref().and_then(|row| row.values.get(index));
        let given = look.beside.as_ref().and_then(|beside| beside.values.get(index));
        ColumnExplained {
            name: column.name.clone(),
            kind: column.kind.sql(),
            field: read.and_then(|read| fields.get(read.path?).cloned()),
            fields,
            found: read.and_then(|read| read.found).map(|(found, _)| found),
            bytes: read.and_then(|read| read.found).map(|(_, bytes)| bytes),
            fitting: read.map(|read| read.fitting),
            required: column.required,
            mask: column.mask.map(|mask| mask.to_string()),
            zone: column.zone.map(Zone::name),
            is_same: beside.and_then(|beside| beside.same.get(index).copied()),
            is_null: held.map(Option::is_none),
            value: given.cloned().flatten().filter(|_| shows_values),
            row_value: held.cloned().flatten().filter(|_| shows_values),
        }
    });
    explained.collect()
}
