//! Looks into a collection: some hundred documents, for a bounded time, of a bounded size.

use std::time::{Duration, Instant};

use super::fields::Fields;
use crate::error::Fault;
use crate::model::bson::Doc;
use crate::model::value::Zone;
use crate::source::{CollectionSize, Documents, Pick, Source, is_picked_at_random};

/// How many documents are looked at.
const SAMPLE: u64 = 500;

/// How long a collection is read; what has been seen by then counts.
const LENGTH_MAX: Duration = Duration::from_secs(20);

/// How much of a collection is read.
const BYTES_MAX: usize = 64 << 20;

/// What is seen of a collection's fields.
pub async fn sample(
    source: &Source,
    collection: &str,
    size: CollectionSize,
    zones: &[Zone],
) -> Result<Fields, Fault> {
    let mut fields = Fields::of_zones(zones);
    let mut left = Left { until: Instant::now() + LENGTH_MAX, bytes: BYTES_MAX };
    if is_picked_at_random(SAMPLE, size) {
        let documents = source.glance(collection, SAMPLE, Pick::Random).await?;
        observe(documents, &mut fields, &mut left).await?;
    } else {
        // What is new may have other fields than what is old.
        for end in [Pick::Oldest, Pick::Newest] {
            let documents = source.glance(collection, SAMPLE / 2, end).await?;
            let mut half = Left { bytes: left.bytes / 2, ..left };
            observe(documents, &mut fields, &mut half).await?;
        }
    }
    fields.put_in_order();
    Ok(fields)
}

#[derive(Debug, Clone, Copy)]
struct Left {
    until: Instant,
    bytes: usize,
}

async fn observe(
    mut documents: Documents,
    fields: &mut Fields,
    left: &mut Left,
) -> Result<(), Fault> {
    while let Some(reply) = documents.next().await? {
        for bytes in reply.items() {
            if let Ok(document) = Doc::new(bytes) {
                fields.observe(document);
            }
            left.bytes = left.bytes.saturating_sub(bytes.len());
            if left.bytes == 0 || Instant::now() > left.until {
                return Ok(());
            }
        }
    }
    Ok(())
}
