//! `[resync]`: how a table is repaired, and what asks a person first.

use std::time::Duration;

use super::values::Reader;

#[derive(Debug, Clone, Copy)]
pub struct Resync {
    pub automatic: bool,
    /// How many walks of a group go on at once; the others are queued.
    pub concurrent: usize,
    pub automatic_per_day_max: u64,
    pub chunk_documents: usize,
    /// 0 = no limit.
    pub documents_per_second_max: u64,
    pub duration_max: Duration,
    pub delete_fraction_max: f64,
    pub delete_count_min: u64,
}

impl Resync {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            automatic: r.boolean("resync.automatic"),
            concurrent: r.count("resync.concurrent", 1, 100),
            automatic_per_day_max: r.integer("resync.automatic_per_day_max"),
            chunk_documents: r.count("resync.chunk_documents", 1, 100_000),
            documents_per_second_max: r.integer("resync.documents_per_second_max"),
            duration_max: r.duration("resync.duration_max"),
            delete_fraction_max: r.fraction("resync.delete_fraction_max"),
            delete_count_min: r.integer("resync.delete_count_min"),
        }
    }
}
