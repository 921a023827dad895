//! A resync of a part on request: which documents are meant, and what reading them again would
//! write and delete.

use std::collections::HashSet;

use serde::Serialize;

use super::command::{Asked, ask};
use super::compare::{Compared, PartFound, look_at_part};
use super::left_out::refuse_left_out;
use super::resync::{deletes_without_asking, own_stream};
use super::slip::{Slip, Unable};
use crate::apply::living;
use crate::error::{Class, Fault};
use crate::model::format::{many, thousands};
use crate::model::value::{asked_for, decode_id, document_id};
use crate::postgres::{Target, close, with_deadline};
use crate::settings::{Settings, StreamSettings};
use crate::source::Source;
use crate::state::{StateTables, Verb, WalkRow};

/// More documents than this are read faster by a walk of all.
pub const DOCUMENTS_MAX: usize = 100_000;

/// Which documents are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Those with these ids, as the table has them.
    Ids(Vec<String>),
    /// Those that the source finds by a filter in its own language, as Extended JSON.
    Filter(String),
}

/// What names the documents of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PartBy {
    Ids,
    Filter,
    /// A comparison has found them.
    Divergence,
}

/// What a resync of a part would do.
#[derive(Debug, Clone, Serialize)]
pub struct PartPreview {
    pub stream: String,
    pub source: String,
    pub table: String,
    pub by: PartBy,
    /// How many documents are meant.
    pub named: u64,
    /// Of them, the source has so many.
    pub documents: u64,
    pub rows_to_insert: u64,
    pub rows_to_change: u64,
    pub rows_to_delete: u64,
    /// Versions of now whose documents neither end has.
    pub versions_to_end: u64,
    /// Named, and found at neither end.
    pub unknown: u64,
    /// The stream has a filter of its own: what that leaves out counts as not found.
    pub is_filtered: bool,
    /// More deletions than this are not made.
    pub deletes_without_asking: u64,
    /// A walk of the whole collection that is under way.
    pub open: Option<WalkRow>,
    #[serde(skip)]
    pub ids: Vec<String>,
}

/// Ids as `--ids` has them, one after the other with commas between: one that begins as JSON does
/// is read as JSON, commas within it and all.
///
/// # Errors
/// One is no id of any row.
pub fn read_list(text: &str) -> Result<Vec<String>, Slip> {
    let mut ids = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = if rest.starts_with(['{', '"']) {
            let mut values =
                serde_json::Deserializer::from_str(rest).into_iter::<serde_json::Value>();
            match values.next() {
                Some(Ok(_)) => values.byte_offset(),
                _ => rest.len(),
            }
        } else {
            rest.find(',').unwrap_or(rest.len())
        };
        let (id, after) = rest.split_at(end);
        ids.push(read_id(id)?);
        rest = after.trim_start().trim_start_matches(',').trim_start();
    }
    Ok(ids)
}

/// Ids as a file has them, one a line.
///
/// # Errors
/// One is no id of any row.
pub fn read_lines(text: &str) -> Result<Vec<String>, Slip> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(read_id).collect()
}

/// One id as the table has it.
///
/// # Errors
/// No row has such an id.
pub fn read_id(text: &str) -> Result<String, Slip> {
    let text = text.trim();
    let is_one = decode_id(text).is_some_and(|raw| asked_for(&raw).is_some());
    let no_id = || {
        let hint = "give it as the table's column id has it, in `tidemark explain STREAM ID` as \
                    in --ids: text, 24 lower-case hex digits, or canonical Extended JSON such as \
                    {\"$numberInt\":\"7\"}";
        Slip::new(format!("{text} is no id of a row"), hint)
    };
    is_one.then(|| text.to_owned()).ok_or_else(no_id)
}

/// Looks at both ends; changes nothing.
///
/// # Errors
/// Nothing is meant, or too much; whatever an end answers.
pub async fn preview(
    settings: &Settings,
    target: &Target,
    state: &StateTables,
    name: &str,
    which: &Which,
) -> Result<PartPreview, Unable> {
    let stream = own_stream(settings, state, name).await?;
    refuse_left_out(state, name).await?;
    let source = Source::new(settings).await?.of_database(settings.database_of(stream));
    let ids = match which {
        Which::Ids(ids) => each_once(ids),
        Which::Filter(filter) => matching(&source, stream, filter).await?,
    };
    if ids.is_empty() {
        let hint = "name ids, or give a --filter that some documents match";
        return Err(Slip::new("there is nothing to do: no document is meant", hint).into());
    }
    if ids.len() > DOCUMENTS_MAX {
        let hint = "name fewer, or have all read again: `tidemark resync STREAM --reason TEXT`";
        let many = thousands(crate::model::count(DOCUMENTS_MAX));
        return Err(Slip::new(format!("more than {many} documents are meant"), hint).into());
    }
    let found = look_at_part(settings, target, state, stream, &ids).await?;
    if found.unknown == crate::model::count(ids.len()) {
        return Err(nothing_found(stream, which).into());
    }
    let by = match which {
        Which::Ids(_) => PartBy::Ids,
        Which::Filter(_) => PartBy::Filter,
    };
    let preview = of(settings, target, state, stream, (by, found), ids).await?;
    if preview.rows_to_delete > preview.deletes_without_asking {
        let message = format!(
            "{} would be deleted, and only {} may be without asking",
            many(preview.rows_to_delete, "row"),
            preview.deletes_without_asking
        );
        let hint = "name fewer; or `tidemark resync STREAM --reason TEXT --execute`, whose sweep \
                    waits for a person";
        return Err(Slip::new(message, hint).into());
    }
    Ok(preview)
}

async fn of(
    settings: &Settings,
    target: &Target,
    state: &StateTables,
    stream: &StreamSettings,
    (by, found): (PartBy, PartFound),
    ids: Vec<String>,
) -> Result<PartPreview, Fault> {
    let table = settings.table_of(stream);
    let mut connection = target.connect().await?;
    let count = sqlx::AssertSqlSafe(format!(
        "select count(*) from {} as t",
        living(&table.sql(), stream.keeping)
    ));
    let query = sqlx::query_scalar::<_, i64>(count).fetch_one(&mut connection);
    let rows = u64::try_from(with_deadline(target.deadline(), query).await?).unwrap_or_default();
    close(connection).await;
    Ok(PartPreview {
        stream: stream.name.clone(),
        source: format!("{}.{}", settings.database_of(stream), stream.collection),
        table: table.to_string(),
        by,
        named: crate::model::count(ids.len()),
        documents: found.documents,
        rows_to_insert: found.inserted,
        rows_to_change: found.changed,
        rows_to_delete: found.deleted,
        versions_to_end: found.ended,
        unknown: found.unknown,
        is_filtered: stream.filter.is_some(),
        deletes_without_asking: deletes_without_asking(settings, rows),
        open: state.open_walk(&stream.name).await?,
        ids,
    })
}

/// Has a part that was previewed read and written again.
pub async fn ask_for(
    state: &StateTables,
    preview: &PartPreview,
    reason: &str,
) -> Result<Asked, Fault> {
    let arguments = serde_json::json!({
        "by": preview.by,
        "documents": preview.named,
        "deletes_max": preview.deletes_without_asking,
        "ids": preview.ids,
    });
    ask(state, Verb::ResyncPart, &preview.stream, &arguments, reason).await
}

/// The part that a comparison found to differ; `None` if it is to be repaired as a whole: too much
/// differs to be kept, or more rows would go than may without asking.
///
/// # Errors
/// Whatever an end answers.
pub async fn of_comparison(
    settings: &Settings,
    target: &Target,
    state: &StateTables,
    compared: &Compared,
) -> Result<Option<PartPreview>, Unable> {
    let stream = own_stream(settings, state, &compared.stream).await?;
    let Some(ids) = compared.ids.clone().filter(|ids| !ids.is_empty()) else { return Ok(None) };
    let found = PartFound {
        documents: compared.missing + compared.different,
        inserted: compared.missing,
        changed: compared.different,
        deleted: compared.extra.unwrap_or_default(),
        ended: 0,
        unknown: 0,
    };
    let found = (PartBy::Divergence, found);
    let preview = of(settings, target, state, stream, found, ids).await?;
    Ok(Some(preview).filter(|part| part.rows_to_delete <= part.deletes_without_asking))
}

/// Why no document that is meant has anything to be written or deleted.
fn nothing_found(stream: &StreamSettings, which: &Which) -> Slip {
    let has_filter = stream.filter.is_some();
    match which {
        Which::Filter(_) if has_filter => {
            let what = "the stream follows none of the documents that --filter finds: its own \
                        filter leaves them out";
            Slip::new(what, "see `filter` of the [[stream]]: `tidemark check --print` shows it")
        }
        _ => {
            let left_out =
                if has_filter { ", or the stream's own filter leaves them out" } else { "" };
            let hint = "see the column id of the table: numbers, dates and the like are in it as \
                        canonical Extended JSON: --ids '{\"$numberInt\":\"7\"}'";
            Slip::new(format!("neither end has any of these documents{left_out}"), hint)
        }
    }
}

fn each_once(ids: &[String]) -> Vec<String> {
    let mut seen = HashSet::new();
    ids.iter().filter(|id| seen.insert(id.as_str())).cloned().collect()
}

/// The ids of the documents that the source finds by a filter.
async fn matching(
    source: &Source,
    stream: &StreamSettings,
    filter: &str,
) -> Result<Vec<String>, Unable> {
    let filter: bson::Document = serde_json::from_str(filter).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        let hint = "give --filter as MongoDB takes it, in Extended JSON: '{\"status\": \"OPEN\"}'";
        Slip::new(format!("the filter is no document in Extended JSON ({place})"), hint)
    })?;
    let filter = bson::serialize_to_vec(&filter)
        .map_err(|_| Slip::new("the filter is no document", "give --filter a smaller one"))?;
    let now = source.now().await?;
    let refused = |fault: Fault| {
        if fault.class == Class::Transient {
            return Unable::Fault(fault);
        }
        let hint = "mend --filter: it is taken as `find` takes it";
        Unable::Slip(Slip::new(format!("the source refuses the filter: {fault}"), hint))
    };
    let limit = DOCUMENTS_MAX + 1;
    let mut documents =
        source.matching(&stream.collection, &filter, limit, now).await.map_err(refused)?;
    let mut ids = Vec::new();
    while let Some(reply) = documents.next().await? {
        ids.extend(reply.items().filter_map(document_id));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_tables_have_them_commas_in_json_and_all() {
        let list = read_list("7, 5f0000000000000000000001,{\"$numberInt\":\"7\"} ,\"{odd\",x");
        let expected = ["7", "5f0000000000000000000001", "{\"$numberInt\":\"7\"}", "\"{odd\"", "x"];
        assert_eq!(list.unwrap(), expected);
        let nested = r#"{"a":{"$numberInt":"1"},"b":"x,y"}"#;
        assert_eq!(read_list(&format!("{nested},{nested}")).unwrap(), [nested, nested]);
        assert_eq!(read_list("").unwrap(), [""; 0]);
        assert_eq!(read_lines("a\n\n b,c \n").unwrap(), ["a", "b,c"]);
        for no_id in ["{", "{\"a\": 1}", "\"plain\"", "{\"$regularExpression\":{}}"] {
            let slip = read_list(no_id).unwrap_err();
            assert!(slip.message.contains("no id of a row") && !slip.hint.is_empty(), "{no_id}");
        }
        assert_eq!(each_once(&["a".into(), "b".into(), "a".into()]), ["a", "b"]);
    }
}
