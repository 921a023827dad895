//! A document's arrays that are kept in tables of their own, beside the elements there.

use serde::Serialize;

use crate::apply::RowBeside;
use crate::settings::StreamSettings;

/// One array.
#[derive(Debug, Clone, Serialize)]
pub struct ChildRows {
    pub table: String,
    pub field: String,
    /// Elements in the table.
    pub rows: i64,
    /// Elements in the document, if it has the array.
    pub elements: i64,
    pub is_same: bool,
}

pub(super) fn of(stream: &StreamSettings, beside: &RowBeside) -> Vec<ChildRows> {
    let RowBeside { child_rows, child_elements, child_same, .. } = beside;
    let counts = child_rows.iter().zip(child_elements).zip(child_same);
    let each = stream.children.iter().zip(counts);
    each.map(|(child, ((rows, elements), is_same))| ChildRows {
        table: child.table.clone(),
        field: child.field(),
        rows: *rows,
        elements: *elements,
        is_same: *is_same,
    })
    .collect()
}
