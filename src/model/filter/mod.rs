//! Which documents of a collection are followed: a filter in MongoDB's own language, evaluated here
//! as the server would, on documents as they are read and before anything is made of them.
//!
//! A subset of that language: equality, `$eq`, `$ne`, `$gt`, `$gte`, `$lt`, `$lte`, `$in`, `$nin`,
//! `$exists`, `$and`, `$or`, over paths that lead through documents and arrays. Strings compare
//! by their bytes, whatever the collation. A test compares it with a server's `find`.

mod bson_order;
mod condition;
mod decimal;
mod distinct_keys;
mod grammar;

use std::collections::BTreeSet;
use std::sync::Arc;

use self::condition::Condition;
use super::bson::{Doc, Malformed};

/// A filter, ready to be asked. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Arc<Whole>);

#[derive(Debug, PartialEq, Eq)]
struct Whole {
    condition: Condition,
    bytes: Vec<u8>,
}

impl Filter {
    /// Reads Extended JSON, relaxed or canonical. `None` if every document matches.
    ///
    /// # Errors
    /// It is no JSON, or says what is not supported: what, and where in the filter.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let (condition, bytes) = grammar::read(text)?;
        let is_asked = !condition.asks_nothing();
        Ok(is_asked.then(|| Self(Arc::new(Whole { condition, bytes }))))
    }

    /// Whether a document matches.
    ///
    /// # Errors
    /// It is malformed where it was looked at.
    pub fn matches(&self, document: Doc<'_>) -> Result<bool, Malformed> {
        self.0.condition.holds(document)
    }

    /// Whether a document is to be followed. One that cannot be read is: whoever makes a row of it
    /// sets it aside.
    pub fn follows(&self, document: &[u8]) -> bool {
        Doc::new(document).and_then(|document| self.matches(document)).unwrap_or(true)
    }

    /// The filter as BSON, to tell it from another: the same however its text is laid out.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// The top-level fields that it looks at.
    pub fn fields(&self) -> BTreeSet<&str> {
        let mut fields = BTreeSet::new();
        self.0.condition.gather_fields(&mut fields);
        fields
    }
}

#[cfg(test)]
mod tests;
