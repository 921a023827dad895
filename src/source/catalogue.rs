//! What a database holds: its collections, how large they are, and a bounded look into one.

use mongodb::bson::{Bson, Document, doc};

use super::identity::found;
use super::{DEADLINE, Documents, Found, Source};
use crate::error::Fault;
use crate::model::bson::Builder;
use crate::model::position::ClusterTime;

/// What goes by a name in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueEntry {
    pub name: String,
    pub found: Found,
}

/// How large a collection is, by its metadata: only estimates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CollectionSize {
    pub documents: u64,
    /// Of its documents, as they are without compression.
    pub bytes: u64,
}

/// The server picks at random without reading everything if it is asked for less than a twentieth
/// of a collection (`$sample`, MongoDB's manual).
const RANDOM_FRACTION: u64 = 20;

/// A collection of no more bytes is read whole for a random pick.
const SCAN_BYTES_MAX: u64 = 64 << 20;

impl Source {
    /// Everything in the database, by name.
    pub async fn catalogue(&self) -> Result<Vec<CatalogueEntry>, Fault> {
        let database = self.database().await?;
        let entries = self
            .with_deadline(DEADLINE, async {
                let cursor =
                    database.run_cursor_command(doc! { "listCollections": 1, "cursor": {} });
                let mut cursor = cursor.await?;
                let mut entries: Vec<Document> = Vec::new();
                while cursor.advance().await? {
                    entries.push(cursor.deserialize_current()?);
                }
                Ok(entries)
            })
            .await?;
        let mut listed: Vec<CatalogueEntry> = entries
            .iter()
            .filter_map(|entry| {
                Some(CatalogueEntry {
                    name: entry.get_str("name").ok()?.to_owned(),
                    found: found(entry),
                })
            })
            .collect();
        listed.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(listed)
    }

    /// How large a collection is.
    pub async fn size(&self, collection: &str) -> Result<CollectionSize, Fault> {
        let database = self.database().await?;
        let command = doc! { "collStats": collection };
        let stats =
            self.with_deadline(DEADLINE, async { database.run_command(command).await }).await?;
        Ok(CollectionSize { documents: number(&stats, "count"), bytes: number(&stats, "size") })
    }

    /// At most `limit` documents that stand for the collection.
    pub async fn glance(
        &self,
        collection: &str,
        limit: u64,
        pick: Pick,
    ) -> Result<Documents, Fault> {
        let order = match pick {
            Pick::Random => return self.sample(collection, limit, ClusterTime::default()).await,
            Pick::Oldest => 1,
            Pick::Newest => -1,
        };
        self.in_natural_order(collection, limit, Builder::default().i32("$natural", order)).await
    }
}

/// Which documents stand for a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    Random,
    /// In natural order, from either end.
    Oldest,
    Newest,
}

/// Whether a random pick of so many costs the server little.
pub const fn is_picked_at_random(limit: u64, size: CollectionSize) -> bool {
    size.documents > limit * RANDOM_FRACTION || size.bytes <= SCAN_BYTES_MAX
}

fn number(stats: &Document, key: &str) -> u64 {
    let number = match stats.get(key) {
        Some(Bson::Int32(n)) => i64::from(*n),
        Some(Bson::Int64(n)) => *n,
        #[expect(clippy::cast_possible_truncation, reason = "an estimate")]
        Some(Bson::Double(n)) => *n as i64,
        _ => 0,
    };
    u64::try_from(number).unwrap_or_default()
}
