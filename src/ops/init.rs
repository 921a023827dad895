//! From a database to a configuration: what it holds, a look into each collection, and a proposal
//! of streams, tables and columns.
//!
//! Only the source is asked, and only read. What comes of it names fields and counts; nothing that
//! a document holds is in it.

mod fields;
mod infer;
mod naming;
mod proposal;
mod sampler;
mod sensitive;
mod toml_text;
mod uncovered;
mod write;

use futures_util::StreamExt;
use serde::Serialize;

pub use proposal::{ChildProposal, ColumnProposal, StreamProposal, Wishes};
pub use toml_text::{SCHEMA_FILE, block, size, whole};
pub use write::{append, create};

use super::slip::{Slip, Unable};
use crate::error::Fault;
use crate::model::namespace::HISTORY;
use crate::model::value::Zone;
use crate::settings::{MAIN, Origin, Settings, StreamSettings};
use crate::source::{CatalogueEntry, CollectionSize, Found, Source};
use fields::Fields;
use naming::{Names, label, snake};
use proposal::{Proposed, propose};

/// How many collections are looked into at once.
const AT_ONCE: usize = 4;

/// What goes by a name in the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Surveyed {
    pub name: String,
    pub kind: &'static str,
    /// By its metadata; `None` where that may not be read or there is none.
    pub documents: Option<u64>,
    pub bytes: Option<u64>,
    /// Why it is not proposed.
    pub obstacle: Option<String>,
}

/// A database as `init` found it.
#[derive(Debug)]
pub struct Survey {
    source: Source,
    pub collections: Vec<Surveyed>,
    /// Whose days dates may be.
    zones: Vec<Zone>,
}

/// What is proposed, and of what nothing could be: each with why.
#[derive(Debug, Default)]
pub struct Proposals {
    pub streams: Vec<StreamProposal>,
    pub aside: Vec<(String, String)>,
}

/// Lists what the database holds.
///
/// # Errors
/// The source cannot be followed at all, or nothing is told of it.
pub async fn survey(settings: &Settings, zones: Vec<Zone>) -> Result<Survey, Fault> {
    let main = settings.groups.iter().find(|group| group.name == MAIN);
    let database = main.map_or(&settings.source.database, |group| &group.database);
    let source = Source::new(settings).await?.of_database(database);
    source.facts().await?;
    let entries = source.catalogue().await?;
    let heartbeat = settings.source.heartbeat_collection.as_deref();
    let collections = futures_util::stream::iter(&entries)
        .map(|entry| surveyed(&source, entry, heartbeat))
        .buffered(AT_ONCE)
        .collect()
        .await;
    Ok(Survey { source, collections, zones })
}

async fn surveyed(source: &Source, entry: &CatalogueEntry, heartbeat: Option<&str>) -> Surveyed {
    let (kind, obstacle) = match entry.found {
        Found::View => ("view", Some("a view: follow the collection it is made of")),
        Found::TimeSeries => ("time series", Some("a time series has no change stream")),
        _ if entry.name.starts_with("system.") => ("system", Some("the server's own")),
        _ if Some(&*entry.name) == heartbeat => ("collection", Some("tidemark's own heartbeat")),
        Found::Collection(_) | Found::Nothing => ("collection", None),
    };
    let size = if obstacle.is_none() { source.size(&entry.name).await.ok() } else { None };
    Surveyed {
        name: entry.name.clone(),
        kind,
        documents: size.map(|size| size.documents),
        bytes: size.map(|size| size.bytes),
        obstacle: obstacle.map(str::to_owned),
    }
}

impl Survey {
    /// The database it is of.
    pub fn database(&self) -> &str {
        self.source.database_name()
    }

    /// The collections of these names; all that can be followed where none is given. `again` says
    /// how another is named.
    pub fn choose(&self, names: &[String], again: &'static str) -> Result<Vec<&Surveyed>, Slip> {
        let mut chosen = Vec::new();
        for name in names {
            let Some(found) = self.collections.iter().find(|one| one.name == *name) else {
                let database = self.database();
                let message = format!("there is no collection {name:?} in database {database:?}");
                return Err(Slip::new(message, "`tidemark init --json` lists what there is"));
            };
            if let Some(obstacle) = &found.obstacle {
                return Err(Slip::new(format!("{name} cannot be followed: {obstacle}"), again));
            }
            chosen.push(found);
        }
        if names.is_empty() {
            chosen.extend(self.collections.iter().filter(|one| one.obstacle.is_none()));
        }
        if chosen.is_empty() {
            let database = self.database();
            let message = format!("database {database:?} holds nothing that can be followed");
            return Err(Slip::new(message, "correct source.database"));
        }
        Ok(chosen)
    }

    /// Looks into these collections and proposes a stream for each, beside the streams that there
    /// are. `looked_at` is called for each that is done.
    ///
    /// # Errors
    /// None could be read. One that cannot be, or not in time, is left aside where others can.
    pub async fn propose(
        &self,
        chosen: &[&Surveyed],
        followed: &Followed,
        wishes: Wishes,
        looked_at: impl Fn(),
    ) -> Result<Proposals, Fault> {
        let looked_at = &looked_at;
        let looks: Vec<(&Surveyed, Result<Fields, Fault>)> =
            futures_util::stream::iter(chosen.iter().copied())
                .map(|one| async move {
                    let size = CollectionSize {
                        documents: one.documents.unwrap_or_default(),
                        bytes: one.bytes.unwrap_or_default(),
                    };
                    let fields = sampler::sample(&self.source, &one.name, size, &self.zones).await;
                    looked_at();
                    (one, fields)
                })
                .buffered(AT_ONCE)
                .collect()
                .await;
        if looks.iter().all(|(_, fields)| fields.is_err())
            && let Some(fault) = looks.iter().find_map(|(_, fields)| fields.as_ref().err())
        {
            return Err(fault.clone());
        }
        let mut proposals = Proposals::default();
        for one in &self.collections {
            if let Some(obstacle) = one.obstacle.as_ref().filter(|_| one.kind != "system") {
                proposals.aside.push((one.name.clone(), obstacle.clone()));
            }
        }
        let mut looked = Vec::new();
        for (one, fields) in looks {
            match fields {
                Ok(fields) => looked.push((one, fields)),
                Err(fault) => proposals.aside.push((one.name.clone(), fault.message)),
            }
        }
        proposals.streams = streams(&looked, followed, wishes);
        Ok(proposals)
    }
}

fn streams(
    looked: &[(&Surveyed, Fields)],
    followed: &Followed,
    wishes: Wishes,
) -> Vec<StreamProposal> {
    let mut names = Names::of_streams(followed.streams.iter().cloned());
    let mut tables = Names::of_tables(followed.tables.iter().cloned());
    let streams = looked.iter().map(|(one, fields)| {
        let Proposed { doc, columns, children, notes } = propose(fields, wishes);
        StreamProposal {
            name: names.give(&label(&one.name, "collection"), "collection"),
            collection: one.name.clone(),
            table: tables.give(&snake(&one.name, "collection"), "collection"),
            doc,
            documents: one.documents.unwrap_or(fields.documents),
            bytes: one.bytes.unwrap_or_default(),
            sampled: fields.documents,
            columns,
            children,
            notes,
        }
    });
    let mut streams: Vec<StreamProposal> = streams.collect();
    // Tables of arrays make way for those of streams, and of the versions these may have one day.
    for stream in &streams {
        tables.take(format!("{}{HISTORY}", stream.table));
    }
    for StreamProposal { table, children, .. } in &mut streams {
        for child in children {
            child.table = tables.give(&format!("{table}_{}", child.table), "array");
        }
    }
    streams
}

/// What the configuration that is added to has already.
#[derive(Debug, Default)]
pub struct Followed {
    streams: Vec<String>,
    tables: Vec<String>,
    collections: Vec<String>,
}

impl Followed {
    /// Of a configuration; nothing of one that only has the defaults' streams, which a first one
    /// of its own replaces.
    pub fn of(settings: &Settings) -> Self {
        let defaults = Settings::load(&Origin::default());
        if defaults.is_ok_and(|defaults| defaults.streams == settings.streams) {
            return Self::default();
        }
        let of_main = |stream: &&StreamSettings| stream.group == MAIN;
        let groups = settings.groups.iter().map(|group| group.name.clone());
        let streams = settings.streams.iter().map(|stream| stream.name.clone());
        Self {
            streams: groups.chain(streams).collect(),
            tables: settings.streams.iter().flat_map(tables_of).collect(),
            collections: settings
                .streams
                .iter()
                .filter(of_main)
                .map(|stream| stream.collection.clone())
                .collect(),
        }
    }

    /// # Errors
    /// One of these collections is followed already.
    pub fn judge(&self, names: &[String]) -> Result<(), Unable> {
        match names.iter().find(|name| self.collections.contains(name)) {
            Some(name) => Err(Slip::new(
                format!("collection {name:?} is followed already"),
                "its columns are in the configuration: a column added there is filled by a walk; \
                 `tidemark check` says so before",
            )
            .into()),
            None => Ok(()),
        }
    }
}

/// All that a stream has or may have.
fn tables_of(stream: &StreamSettings) -> impl Iterator<Item = String> + '_ {
    let own = [stream.table.clone(), format!("{}{HISTORY}", stream.table)];
    own.into_iter().chain(stream.children.iter().map(|child| child.table.clone()))
}

#[cfg(test)]
mod tests;
