//! What was seen of fields and has no column, and what becomes of it.

use crate::model::shown::shown;

/// So many fields are named where nothing keeps them.
const NAMED_MAX: usize = 20;

/// Why fields have no column.
#[derive(Debug, Default)]
pub struct Uncovered {
    /// There are keys that no path can name.
    pub unnamed: bool,
    pub bookkeeping: Vec<&'static str>,
    pub never_set: usize,
    /// How many keys read like data.
    pub data: usize,
    /// The paths of those beyond as many columns as there may be.
    pub beyond: Vec<String>,
    /// There were more than are told apart.
    pub is_over: bool,
}

/// What keeps fields that have no column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    Doc,
    /// The array's own column, beside the table of its elements.
    ArrayColumn,
    Nothing,
}

impl Uncovered {
    /// Whether columns take all that a document can be told by.
    pub const fn is_nothing(&self) -> bool {
        let Self { unnamed, bookkeeping, never_set, data, beyond, is_over } = self;
        let is_any = *unnamed || *is_over || *never_set > 0 || *data > 0;
        !is_any && bookkeeping.is_empty() && beyond.is_empty()
    }

    /// One clause each. `of` says what the fields are in, `columns` how many have one.
    pub fn notes(&self, rest: Rest, of: &str, columns: usize) -> Vec<String> {
        let (mark, stay) = match rest {
            Rest::Doc => ("", "stay in doc"),
            Rest::ArrayColumn => ("", "stay in the array's own column"),
            Rest::Nothing => ("! ", "are kept nowhere"),
        };
        let mut notes = Vec::new();
        if !self.beyond.is_empty() {
            let more = self.beyond.len();
            let named = if rest == Rest::Nothing { named(&self.beyond) } else { String::new() };
            notes.push(format!(
                "{mark}the {columns} fields in most {of}; {more} more {stay}{named}"
            ));
        }
        if self.is_over {
            notes.push(format!("{mark}it has more fields than can be told apart"));
        }
        if self.never_set > 0 {
            let number = self.never_set;
            notes.push(format!("{number} never more than null or empty in the sample: in doc"));
        }
        if self.data > 0 {
            notes.push(format!("{mark}{} with keys that read like data {stay}", self.data));
        }
        if self.unnamed {
            notes.push(format!("{mark}fields whose key is empty or has a dot {stay}"));
        }
        if !self.bookkeeping.is_empty() {
            let names = self.bookkeeping.join(", ");
            notes.push(format!("{names} is a framework's own and stays in doc"));
        }
        notes
    }
}

/// The first of these.
fn named(paths: &[String]) -> String {
    let first: Vec<String> = paths.iter().take(NAMED_MAX).map(|path| shown(path)).collect();
    let others = paths.len() - first.len();
    let others = if others > 0 { format!(" and {others} others") } else { String::new() };
    format!(": {}{others}", first.join(", "))
}
