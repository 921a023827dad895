//! What hashes of documents are seeded with: how they become rows.

use twox_hash::XxHash3_64;

use crate::settings::{Child, Column, StreamSettings};

/// Part of the seed. It is raised in a release in which a document becomes another row than before
/// under the same columns, so that no hash of an older release is taken for one of this.
const ENCODING: u64 = 2;

// What is not UTF-8 stands for what an older configuration could not say.

/// Before the name of a column's zone.
const ZONE: u8 = 0xff;

/// Before the redaction's fingerprint.
const REDACTION: u8 = 0xfe;

/// Before the table of an array.
const CHILD: u8 = 0xfd;

/// The seed of a stream's mapping.
pub(super) fn seed(stream: &StreamSettings) -> u64 {
    let mut text = Vec::new();
    stream.columns.iter().for_each(|column| of_column(column, &mut text));
    let redaction = stream.redaction.fingerprint();
    if !redaction.is_empty() {
        text.push(REDACTION);
        text.extend_from_slice(redaction);
    }
    stream.children.iter().for_each(|child| of_child(child, &mut text));
    let seed = XxHash3_64::oneshot_with_seed(ENCODING, &text);
    // A row that lacks the document is not the row that has it.
    if stream.keeping.doc { seed } else { !seed }
}

fn of_column(column: &Column, text: &mut Vec<u8>) {
    let named = [&column.name, column.kind.sql()];
    for part in named.into_iter().chain(column.paths.iter().flatten().map(|p| &**p)) {
        text.extend_from_slice(part.as_bytes());
        text.push(0);
    }
    for path in &column.paths {
        text.extend_from_slice(&path.len().to_be_bytes());
    }
    if let Some(zone) = column.zone {
        text.push(ZONE);
        text.extend_from_slice(zone.name().as_bytes());
    }
}

fn of_child(child: &Child, text: &mut Vec<u8>) {
    text.push(CHILD);
    for part in std::iter::once(child.table.as_str()).chain(child.path.iter().map(|p| &**p)) {
        text.extend_from_slice(part.as_bytes());
        text.push(0);
    }
    text.extend_from_slice(&child.path.len().to_be_bytes());
    child.columns.iter().for_each(|column| of_column(column, text));
}
