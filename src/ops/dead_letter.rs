//! Dead letters for people.

use super::slip::{Slip, Unable};
use crate::error::Fault;
use crate::state::{Letter, Letters, StateTables};

/// How many are listed, or asked for in one request.
pub const LISTED: i64 = 1000;

/// One dead letter that is not resolved.
///
/// # Errors
/// There is none of that number, or Postgres cannot be asked.
pub async fn open(state: &StateTables, id: i64) -> Result<Letter, Unable> {
    let found = state
        .letters(&Letters::One(id))
        .await?
        .into_iter()
        .find(|letter| letter.resolved_at.is_none());
    Ok(found.ok_or_else(|| missing(id))?)
}

/// One dead letter; its event only if asked for, because it holds a document.
///
/// # Errors
/// There is none of that number, or Postgres cannot be asked.
pub async fn show(state: &StateTables, id: i64, event: bool) -> Result<serde_json::Value, Unable> {
    let letter =
        state.letters(&Letters::One(id)).await?.into_iter().next().ok_or_else(|| missing(id))?;
    let mut shown = serde_json::to_value(&letter).unwrap_or_default();
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("bytes".to_owned(), letter.event.len().into());
        if event {
            let document = bson::RawDocument::from_bytes(&letter.event)
                .ok()
                .and_then(|raw| bson::Document::try_from(raw).ok());
            let text = match document {
                Some(document) => bson::Bson::Document(document).into_canonical_extjson(),
                None => "it is no readable BSON".into(),
            };
            fields.insert("event".to_owned(), text);
        }
    }
    Ok(shown)
}

/// What letting `count` more events of a stream be set aside would change.
pub async fn acceptance(
    state: &StateTables,
    stream: &str,
    count: u32,
) -> Result<serde_json::Value, Fault> {
    let row = state.stream_row(stream).await?;
    let stored = match row.as_ref().and_then(|row| row.group.as_deref()) {
        Some(group) => state.load(group).await?,
        None => None,
    };
    let parked = row.and_then(|row| row.parked_code.zip(row.parked_reason));
    let halted = stored.and_then(|stored| stored.halt_code.zip(stored.halt_reason));
    let (code, reason) = parked.or(halted).unzip();
    let accepted = state.letters_accepted(state.pool(), stream).await?;
    Ok(serde_json::json!({
        "stream": stream,
        "halt_code": code,
        "halt_reason": reason,
        "accepted_now": accepted,
        "accepted_then": count,
    }))
}

fn missing(id: i64) -> Slip {
    let hint = "`tidemark dead-letter list` shows them";
    Slip::new(format!("there is no dead letter {id} that is not resolved"), hint)
}
