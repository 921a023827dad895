//! Whether the stored position speaks for what is at both ends: this cluster, this collection, this
//! table. Asked before anything is written, and of the source again whenever its stream is opened
//! anew.

use std::collections::HashMap;

use super::context::{Context, GroupContext};
use crate::error::{Class, Code, Fault};
use crate::model::namespace::Table;
use crate::model::position::{ClusterTime, ResumeToken};
use crate::source::{Entry, Found};
use crate::state::{Binding, BoundTo, Start, Stored, StreamRow, TableNow};

/// What is at the source now, for all streams of a group.
#[derive(Debug, Clone)]
pub struct SourceNow {
    pub cluster: Option<String>,
    /// What the oplog has at the stored position's time; `None` where that was not asked or may not
    /// be read.
    pub entry: Option<Entry>,
}

/// What is at both ends of a stream now.
#[derive(Debug, Clone)]
pub struct Here {
    pub cluster: Option<String>,
    pub found: Found,
    pub table: TableNow,
}

impl Here {
    /// What rows that are read now are bound to.
    pub fn bound<'a>(&'a self, context: &'a Context) -> BoundTo<'a> {
        BoundTo {
            cluster: self.cluster.as_deref(),
            collection: &context.config.collection,
            collection_uuid: self.found.uuid(),
            table: &context.table,
            living: &context.statements.living,
            mapping: context.mapping.digest(),
        }
    }
}

/// What that says of a stored position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindingVerdict {
    /// It is what it was.
    Same,
    /// It is what it was as far as can be told, and more is known now: to be remembered.
    Known,
    /// Another source, or this one taken back: for a person to say.
    Foreign(String),
    /// There is no collection.
    Dropped,
    /// A view or a time series.
    Unfollowable(&'static str),
    /// Another collection goes by the name.
    Recreated(&'static str),
    /// Another, empty table is configured.
    TableFresh,
    /// Another table is configured, and holds rows.
    TableAnother,
    TableReplaced(&'static str),
}

/// Looks at the source of a group. A source that is sharded is refused.
///
/// # Errors
/// It is not the one that the position and the rows are of; whatever it answers.
pub async fn look_at_group(
    group: &GroupContext,
    stored: &Stored,
    rows: &HashMap<String, StreamRow>,
) -> Result<SourceNow, Fault> {
    let place = place(group, stored).await?;
    if let Some(why) = foreign(followed(rows.values(), group), group, &place) {
        return Err(foreign_fault(&why));
    }
    Ok(place)
}

/// The same, without a judgement.
pub async fn place(group: &GroupContext, stored: &Stored) -> Result<SourceNow, Fault> {
    group.source.facts().await?;
    let entry = match provable(group, stored) {
        Some(time) => group.source.entry_at(time).await?,
        None => None,
    };
    Ok(SourceNow { cluster: group.source.cluster().await?, entry })
}

impl SourceNow {
    /// Looks at both ends of one stream.
    pub async fn of(&self, context: &Context, row: Option<&StreamRow>) -> Result<Here, Fault> {
        let binding = row.and_then(StreamRow::binding);
        let witness = binding.as_ref().and_then(|binding| binding.witness_id.as_deref());
        let rows = (&*context.statements.living, &*context.statements.orphans);
        Ok(Here {
            cluster: self.cluster.clone(),
            found: context.source.find_collection(&context.config.collection).await?,
            table: context.state.table_now(&context.table, rows, witness).await?,
        })
    }
}

/// The time of a stored position that must be an entry of the oplog.
fn provable(group: &GroupContext, stored: &Stored) -> Option<ClusterTime> {
    match stored.start(group.source.database_name(), &group.fingerprint()) {
        Start::Resume(position) => {
            let time = entry_of(&position.token, stored.begun_time);
            time.filter(|time| *time == position.cluster_time)
        }
        Start::New | Start::Lost(..) | Start::Refused(_) => None,
    }
}

/// The time of the oplog's entry that a token stands at. Seen on MongoDB 6.0.5 (idle, under load,
/// over elections and kills, on collections and on a database with a filter): every token but the
/// first is of an entry that a majority has. The first is one tick past the newest entry, whose
/// time is the one that the position begins with; and a time that a person named is any time.
pub(super) fn entry_of(token: &ResumeToken, begun_time: Option<i64>) -> Option<ClusterTime> {
    let time = token.cluster_time()?;
    let is_first = |begun: i64| begun == time.to_sql() || begun + 1 == time.to_sql();
    let proves = time.increment() > 0 && !begun_time.is_some_and(is_first);
    proves.then_some(time)
}

/// What is found, judged against what a stream is bound to. `dropped` if the stream itself told
/// that its collection was dropped or renamed; `walks` if a walk that ends in a sweep is open.
pub fn judge(
    binding: Option<&Binding>,
    here: &Here,
    table: &Table,
    dropped: bool,
    walks: bool,
) -> BindingVerdict {
    match here.found {
        Found::View => return BindingVerdict::Unfollowable("a view"),
        Found::TimeSeries => return BindingVerdict::Unfollowable("a time-series collection"),
        Found::Nothing | Found::Collection(_) => {}
    }
    let Some(bound) = binding else {
        return if here.found == Found::Nothing && (walks || here.table.holds_rows) {
            BindingVerdict::Dropped
        } else {
            BindingVerdict::Known
        };
    };
    if let Some(why) = of_another_cluster(bound.cluster.as_ref(), here.cluster.as_ref()) {
        return BindingVerdict::Foreign(why);
    }
    if here.found == Found::Nothing
        && (bound.collection_uuid.is_some() || here.table.holds_rows || walks)
    {
        return BindingVerdict::Dropped;
    }
    if differs(bound.collection_uuid.as_ref(), here.found.uuid().as_ref()) {
        let same_cluster = here.cluster.is_some() && here.cluster == bound.cluster;
        return if same_cluster || dropped {
            BindingVerdict::Recreated(
                "another collection goes by the name of the one the position was made on",
            )
        } else {
            let why = "another collection goes by that name, and nothing tells that it is the same \
                       cluster (the user of source.uri may not read local.system.replset)";
            BindingVerdict::Foreign(why.to_owned())
        };
    }
    of_table(bound, here, table)
}

/// Those that the group's position speaks for: what comes into it, or waits to, is looked at by
/// itself, and stops no other stream.
pub fn followed<'r>(
    rows: impl IntoIterator<Item = &'r StreamRow>,
    group: &GroupContext,
) -> impl Iterator<Item = &'r StreamRow> {
    let is_followed = |row: &&StreamRow| row.left_at.is_none() && !row.is_elsewhere(&group.name);
    rows.into_iter().filter(is_followed)
}

/// Why the source is not the one that the group's position and rows are of.
pub fn foreign<'r>(
    rows: impl IntoIterator<Item = &'r StreamRow>,
    group: &GroupContext,
    place: &SourceNow,
) -> Option<String> {
    let of_group =
        |row: &&StreamRow| group.stream(&row.stream).is_some() && !row.is_elsewhere(&group.name);
    let bound = rows.into_iter().filter(of_group).filter_map(StreamRow::binding);
    let mut clusters = bound.filter_map(|bound| bound.cluster);
    let another = |was| of_another_cluster(Some(&was), place.cluster.as_ref());
    clusters.find_map(another).or_else(|| taken_back(place.entry))
}

/// # Errors
/// What rows are bound to is of another cluster than this one.
pub(super) fn of_cluster(bound: Option<Binding>, is: Option<&String>) -> Result<(), Fault> {
    let was = bound.and_then(|bound| bound.cluster);
    of_another_cluster(was.as_ref(), is).map_or(Ok(()), |why| Err(foreign_fault(&why)))
}

fn of_another_cluster(was: Option<&String>, is: Option<&String>) -> Option<String> {
    let (was, is) = was.zip(is)?;
    (was != is).then(|| format!("the position was made on replica set {was}, and this is {is}"))
}

fn taken_back(entry: Option<Entry>) -> Option<String> {
    let Some(Entry::Gone { at, next }) = entry else { return None };
    Some(format!(
        "the source was taken back to an earlier moment: its oplog reaches back past the position \
         and has no entry at it ({at}; the next is at {next})"
    ))
}

/// # Errors
/// The oplog has no entry at a position that was one.
pub(super) fn proved_by(entry: Option<Entry>) -> Result<(), Fault> {
    taken_back(entry).map_or(Ok(()), |why| Err(foreign_fault(&why)))
}

fn differs<T: PartialEq>(was: Option<&T>, is: Option<&T>) -> bool {
    was.zip(is).is_some_and(|(was, is)| was != is)
}

fn of_table(bound: &Binding, here: &Here, table: &Table) -> BindingVerdict {
    let now = here.table;
    let stands = bound.witness_id.is_none() || now.witness_time >= bound.witness_time;
    let renamed = (&bound.table_schema, &bound.table_name) != (&table.schema, &table.name);
    if now.oid == bound.table_oid {
        if !stands {
            return BindingVerdict::TableReplaced(
                "rows that tidemark wrote are gone from the table, or older than they were",
            );
        }
        let more = here.cluster != bound.cluster || here.found.uuid() != bound.collection_uuid;
        return if more || renamed { BindingVerdict::Known } else { BindingVerdict::Same };
    }
    // One that has the witness, too, may be a restored one that lacks what was written after it.
    match (now.holds_rows, bound.witness_id.is_some()) {
        (false, false) => BindingVerdict::Known,
        (false, true) if renamed => BindingVerdict::TableFresh,
        (true, _) if renamed => BindingVerdict::TableAnother,
        _ => BindingVerdict::TableReplaced("the table is not the one that tidemark wrote"),
    }
}

/// Refuses to follow a stream whose verdict calls for a person.
pub fn halt_on(context: &Context, verdict: &BindingVerdict) -> Result<(), Fault> {
    let namespace = &context.namespace;
    match verdict {
        BindingVerdict::Foreign(why) => Err(foreign_fault(why)),
        BindingVerdict::Dropped => Err(Fault::new(
            Class::Halt,
            Code::SourceDropped,
            format!("{namespace} does not exist, though the table holds what it had"),
            "the table is untouched; once the collection is there again, the stream goes on by \
             itself with a resync",
        )),
        BindingVerdict::Unfollowable(what) => Err(Fault::new(
            Class::Halt,
            Code::SourceMisconfigured,
            format!("{namespace} is {what}, which has no change stream"),
            "follow the collection it is made of",
        )),
        BindingVerdict::Same
        | BindingVerdict::Known
        | BindingVerdict::Recreated(_)
        | BindingVerdict::TableFresh
        | BindingVerdict::TableAnother
        | BindingVerdict::TableReplaced(_) => Ok(()),
    }
}

fn foreign_fault(why: &str) -> Fault {
    let hint = "point source.uri at the right cluster; if this one is meant: `tidemark source \
                adopt STREAM --reason TEXT --execute`";
    Fault::new(Class::Halt, Code::SourceForeign, why, hint)
}

/// What a stream's rows are to be remembered as. What is not told any more stays as it was known.
pub fn remembered<'a>(
    context: &'a Context,
    place: &'a SourceNow,
    here: &Here,
    row: Option<&StreamRow>,
) -> BoundTo<'a> {
    let bound = row.and_then(StreamRow::binding);
    let collection_uuid =
        here.found.uuid().or_else(|| bound.as_ref().and_then(|bound| bound.collection_uuid));
    BoundTo {
        cluster: place.cluster.as_deref(),
        collection: &context.config.collection,
        collection_uuid,
        table: &context.table,
        living: &context.statements.living,
        mapping: context.mapping.digest(),
    }
}

/// Asks whether the source is still the one it was, before its change stream is opened anew after
/// this token: behind the same name there may be another server by now.
///
/// # Errors
/// `source_foreign` if it is another one.
pub async fn still_the_same(group: &GroupContext, after: &ResumeToken) -> Result<(), Fault> {
    let Some(stored) = group.state.load(&group.name).await? else { return Ok(()) };
    let rows = group.state.streams().await?;
    let entry = match entry_of(after, stored.begun_time) {
        Some(time) => group.source.entry_at(time).await?,
        None => None,
    };
    let place = SourceNow { cluster: group.source.cluster().await?, entry };
    let rows = followed(&rows, group);
    foreign(rows, group, &place).map_or(Ok(()), |why| Err(foreign_fault(&why)))
}

#[cfg(test)]
mod tests;
