//! Dead letters tried again: not the event as it was, but its document as it is now, so that
//! nothing goes back in time.

use std::sync::Arc;

use super::context::{Context, GroupContext};
use super::resync::beside;
use crate::apply::{Commit, Drift, Rows, TableWriter, Work, Writer};
use crate::error::Fault;
use crate::model::bson::{Doc, Malformed, Value};
use crate::model::event::{Event, Operation};
use crate::model::value::{Unwritable, encode_id};
use crate::postgres::Trouble;
use crate::state::{Act, Lease, Letter, Stored};

/// Writes the documents that can be written now, each in a transaction of its own that also marks
/// its dead letter as resolved. The request is done if all were; else it has failed, with how many
/// were, and why the first that was not was not. What was resolved before an error stays resolved.
pub async fn retry(
    group: &GroupContext,
    context: &Context,
    lease: &Lease,
    stored: &Stored,
    letters: &[Letter],
) -> Result<Act<'static>, Fault> {
    let walk = context.state.open_walk(&context.config.name).await?;
    let beside = walk.as_ref().and_then(beside);
    let mut writer = writer(group, context, lease, stored);
    let (mut resolved, mut refused, mut why) = (0, 0, None);
    for letter in letters {
        let written = match work(context, letter).await? {
            Err(cannot) => Err(cannot),
            Ok(work) => match writer.apply_whole(&Commit::of(Work { beside, ..work })).await {
                Ok(()) => Ok(()),
                Err(Trouble::Refused(refusal)) => Err(refusal.fault.message),
                Err(Trouble::Failed(fault)) => return Err(fault),
            },
        };
        match written {
            Ok(()) => resolved += 1,
            Err(cannot) => {
                refused += 1;
                why.get_or_insert_with(|| format!("letter {}: {cannot}", letter.id));
            }
        }
    }
    Ok(match why {
        None => Act::Done(format!("{resolved} written")),
        Some(why) => Act::Fail(format!("{resolved} written, {refused} still refused: {why}")),
    })
}

/// A writer of this stream's table alone, between two pipelines.
pub(super) fn writer(
    group: &GroupContext,
    context: &Context,
    lease: &Lease,
    stored: &Stored,
) -> Writer {
    let table = TableWriter::new(
        context.config.name.clone(),
        Arc::clone(&context.mapping),
        context.statements.clone(),
        context.settings.record,
    );
    Writer::new(group.target.clone(), group.state.clone(), lease.clone(), vec![table])
        .at(stored.revision)
}

/// The dead letter's document as it is now, or its deletion.
async fn work(context: &Context, letter: &Letter) -> Result<Result<Work, String>, Fault> {
    let raw_id = match document_id(letter) {
        Ok(raw_id) => raw_id,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let mut id = Vec::new();
    if let Err(error) = encode_id(raw_id, &mut id) {
        return Ok(Err(error.to_string()));
    }
    let id = String::from_utf8_lossy(&id).into_owned();
    if letter.document_id.as_ref().is_some_and(|known| *known != id) {
        let why = "its document's _id cannot be told from the row's id: a resync repairs it";
        return Ok(Err(why.to_owned()));
    }
    // A time that the read is known to be after: what it does not find was gone by then.
    let before = context.source.now().await?;
    let mut work = Work { resolves: Some(letter.id), ..Work::default() };
    let (mut rows, mut drift) = (Rows::default(), Drift::default());
    let mut documents =
        context.source.lookup(&context.config.collection, &[raw_id], before).await?;
    while let Some(reply) = documents.next().await? {
        let at = documents.read_at.unwrap_or(before).max(before);
        let followed = |bytes: &&[u8]| is_of(&id, bytes) && context.mapping.follows(bytes);
        for bytes in reply.items().filter(followed) {
            let encoded = Doc::new(bytes).map_err(Unwritable::from).and_then(|document| {
                context.mapping.encode(&id, document, at, 0, &mut rows, &mut drift)
            });
            if let Err(error) = encoded {
                return Ok(Err(error.to_string()));
            }
        }
    }
    work.ahead = Some(context.source.read_until(documents.read_until).await?.max(before));
    if rows.is_empty() {
        work.deletes.push(id, before);
    }
    work.rows = rows;
    Ok(Ok(work))
}

/// Whether a document is the one with this `id`: an equal number of another type, or a collation's
/// equal, is another.
fn is_of(id: &str, document: &[u8]) -> bool {
    let mut found = Vec::new();
    let raw_id = Doc::new(document).ok().and_then(|document| document.get("_id").ok().flatten());
    raw_id.is_some_and(|raw_id| encode_id(raw_id, &mut found).is_ok()) && found == id.as_bytes()
}

/// The key of the document: from the event, from the document a walk read, or from the key a sweep
/// found.
fn document_id(letter: &Letter) -> Result<Value<'_>, Malformed> {
    let missing = Malformed("no key can be read from it: it can only be discarded");
    if letter.operation == "snapshot" {
        return Doc::new(&letter.event)?.get("_id")?.ok_or(missing);
    }
    match Event::parse(&letter.event) {
        Ok(event) => event.id.ok_or(missing),
        Err(_) if letter.operation == Operation::Delete.name() => {
            Doc::new(&letter.event)?.get("_id")?.ok_or(missing)
        }
        Err(error) => Err(error),
    }
}
