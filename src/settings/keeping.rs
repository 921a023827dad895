//! What a stream's table keeps of its documents beside the columns.

use config::Value;

use super::entry::Entry;
use crate::model::on_delete::OnDelete;

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// The rows of deleted documents.
    pub on_delete: OnDelete,
    /// Every version that is written, in a table of its own.
    pub history: bool,
    /// The whole document, in a column of its own.
    pub doc: bool,
}

impl Default for Keeping {
    fn default() -> Self {
        Self { on_delete: OnDelete::default(), history: false, doc: true }
    }
}

impl Keeping {
    pub fn marks_deletes(self) -> bool {
        self.on_delete == OnDelete::Mark
    }
}

pub(super) fn read(entry: &mut Entry<'_>) -> Keeping {
    let default = Keeping::default();
    let word = entry.optional("on_delete");
    let history = flag(entry, "history").unwrap_or(default.history);
    let known = word.as_deref().map_or(Some(default.on_delete), OnDelete::parse);
    if known.is_none() {
        entry.problem("on_delete", "must be \"delete\" or \"mark\"");
    }
    Keeping {
        on_delete: known.unwrap_or_default(),
        history,
        doc: flag(entry, "doc").unwrap_or(default.doc),
    }
}

fn flag(entry: &mut Entry<'_>, key: &str) -> Option<bool> {
    let flag = entry.table.remove(key).map(Value::into_bool)?.ok();
    if flag.is_none() {
        entry.problem(key, "must be true or false");
    }
    flag
}
