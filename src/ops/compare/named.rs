//! Source and table side by side, of documents that are named: what reading them again would write
//! and delete. Changes nothing.

use std::collections::HashSet;

use super::{ComparePlan, Comparison};
use crate::error::Fault;
use crate::model::value::{asked_for, decode_id};
use crate::postgres::Target;
use crate::settings::{Settings, StreamSettings};
use crate::state::StateTables;

/// What was found of the documents named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartFound {
    /// Documents that the source has.
    pub documents: u64,
    /// Of them, those the table lacks, and those whose row would become another.
    pub inserted: u64,
    pub changed: u64,
    /// Rows whose documents the source does not have.
    pub deleted: u64,
    /// Documents that neither end has, but for a version of now.
    pub ended: u64,
    /// Named, and found at neither end.
    pub unknown: u64,
}

/// Looks once at these documents and their rows, as they are now.
pub async fn look_at_part(
    settings: &Settings,
    target: &Target,
    state: &StateTables,
    config: &StreamSettings,
    ids: &[String],
) -> Result<PartFound, Fault> {
    let plan = ComparePlan { sample: None, documents_per_second_max: 0 };
    let mut comparison = Comparison::begin(settings, target, state, config, plan).await?;
    let asked = |id: &String| {
        let raw = decode_id(id).filter(|raw| asked_for(raw).is_some())?;
        Some((id.clone(), raw))
    };
    let named: Vec<(String, Vec<u8>)> = ids.iter().filter_map(asked).collect();
    let mut found = PartFound::default();
    for part in named.chunks(settings.resync.chunk_documents.max(1)) {
        let after = comparison.source.now().await?;
        let (documents, differing) = comparison.hashes(part, after).await?;
        let rows = comparison.row_times(part).await?;
        let versions = comparison.rowless_versions(part).await?;
        let differing: HashSet<String> = differing.into_iter().collect();
        for (id, _) in part {
            match (documents.contains_key(id), rows.contains_key(id)) {
                (true, false) => found.inserted += 1,
                (true, true) => found.changed += u64::from(differing.contains(id)),
                (false, true) => found.deleted += 1,
                (false, false) if versions.contains_key(id) => found.ended += 1,
                (false, false) => found.unknown += 1,
            }
            found.documents += u64::from(documents.contains_key(id));
        }
    }
    Ok(found)
}
