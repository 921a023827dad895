//! One table of a list such as `[[stream]]`, each problem told with its place in the list.

use std::collections::BTreeMap;

use config::{Value, ValueKind};

use super::values::{Reader, unknown_key};

/// One table of a list, read key by key; what is left is unknown.
pub(super) struct Entry<'r> {
    pub reader: &'r mut Reader,
    /// The list's key.
    pub list: &'static str,
    /// Where in the list it stands.
    pub place: String,
    pub table: BTreeMap<String, Value>,
}

pub(super) fn is_label(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

impl Entry<'_> {
    pub fn problem(&mut self, key: &str, message: &str) {
        let place = &self.place;
        self.reader.problem(self.list, format!("{place}.{key} {message}"));
    }

    pub fn optional(&mut self, key: &str) -> Option<String> {
        if let ValueKind::String(text) = self.table.remove(key)?.kind {
            return Some(text);
        }
        self.problem(key, "must be text in quotes");
        None
    }

    pub fn word(&mut self, key: &str) -> String {
        let text = self.optional(key).unwrap_or_default();
        if text.trim().is_empty() {
            self.problem(key, "must be given");
        }
        text
    }

    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A name that metrics and commands can hold.
    pub fn label(&mut self, key: &str) -> String {
        let text = self.word(key);
        if !is_label(&text) {
            self.problem(
                key,
                "must be letters, digits, - and _ only: it is a label in metrics and commands",
            );
        }
        text
    }

    /// A name Postgres will keep as it is.
    pub fn identifier(&mut self, key: &str) -> String {
        let text = self.word(key);
        if text.len() > 63 {
            self.problem(key, "must be at most 63 bytes long, the limit of a name in Postgres");
        }
        text
    }

    pub fn finish(mut self, known: &[&str]) {
        let left: Vec<String> = std::mem::take(&mut self.table).into_keys().collect();
        for key in left {
            let message = unknown_key(&key, known.iter().copied());
            self.problem(&key, &message);
        }
    }
}
