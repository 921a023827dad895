//! An explanation with a text in every field that holds one, and one of a document of which nothing
//! is there.

use super::{at, walk};
use crate::model::fitting::Fitting;
use crate::model::standing::Standing;
use crate::ops::explain::{
    ChildRows, ColumnExplained, DocumentNow, Explanation, HistoryRows, RowFound,
};
use crate::state::Letter;

pub(super) fn whole(text: &str) -> Explanation {
    let t = || text.to_owned();
    let column = |fitting| ColumnExplained {
        name: t(),
        kind: "text",
        fields: vec!["other".to_owned(), t()],
        field: Some(t()),
        found: Some("string"),
        bytes: Some(7),
        fitting: Some(fitting),
        required: true,
        mask: Some(t()),
        zone: Some("Europe/London"),
        is_same: Some(false),
        is_null: Some(false),
        value: Some(t()),
        row_value: Some(t()),
    };
    let history = HistoryRows { table: t(), versions: 2, first_at: Some(at()), last_at: None };
    Explanation {
        stream: t(),
        id: t(),
        source: t(),
        table: t(),
        document: Some(DocumentNow { bytes: 7, fields: 1, read_at: at(), unwritable: Some(t()) }),
        row: Some(RowFound {
            cluster_time: Some(t()),
            changed_at: Some(at()),
            applied_at: Some(at()),
            hash_fits: Some(false),
            doc_is_same: Some(true),
            doc: Some(t()),
        }),
        columns: Fitting::ALL.into_iter().map(column).collect(),
        children: vec![ChildRows { table: t(), field: t(), rows: 2, elements: 3, is_same: false }],
        group: t(),
        position: Some(at()),
        standing: Standing::SetAside,
        told: t(),
        letters: vec![letter(text)],
        walk: Some(walk(text)),
        paused: Some(t()),
        parked: Some(t()),
        history: Some(history),
    }
}

/// Nothing is there but the question.
pub(super) fn empty(text: &str) -> Explanation {
    let column = ColumnExplained {
        name: text.to_owned(),
        kind: "text",
        fields: vec![text.to_owned()],
        field: None,
        found: None,
        bytes: None,
        fitting: None,
        required: false,
        mask: None,
        zone: None,
        is_same: None,
        is_null: None,
        value: None,
        row_value: None,
    };
    Explanation {
        document: None,
        row: None,
        columns: vec![column],
        children: Vec::new(),
        position: None,
        letters: Vec::new(),
        walk: None,
        parked: None,
        history: None,
        ..whole(text)
    }
}

pub(super) fn letter(text: &str) -> Letter {
    let t = || text.to_owned();
    Letter {
        id: 1,
        stream: t(),
        document_id: Some(t()),
        operation: t(),
        event: Vec::new(),
        code: t(),
        error: t(),
        at: at(),
        resolved_at: Some(at()),
        resolution: Some(t()),
    }
}
