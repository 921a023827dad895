//! What a filter asks of a document, and the answer. A path yields values as the server's matcher
//! has it: an array at its end yields its elements and itself, one on the way what the rest of the
//! path yields in those of its elements that are documents; a field that is not there yields its
//! absence. A test holds if it holds for any of them.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::bson_order::{class_of, is_nan, order};
use crate::model::bson::{Doc, Malformed, Value, kind};

/// A condition on a document.
#[derive(Debug, PartialEq, Eq)]
pub enum Condition {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Field { path: Vec<Box<str>>, test: Test },
}

/// A condition on a value.
#[derive(Debug, PartialEq, Eq)]
pub enum Test {
    Compare(Comparison, Literal),
    /// In the order of values.
    In(Vec<Literal>),
    Exists,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A value that the filter names.
#[derive(Debug, PartialEq, Eq)]
pub struct Literal {
    pub kind: u8,
    pub bytes: Vec<u8>,
}

impl Literal {
    pub fn value(&self) -> Value<'_> {
        Value { kind: self.kind, bytes: &self.bytes }
    }
}

impl Condition {
    pub fn holds(&self, document: Doc<'_>) -> Result<bool, Malformed> {
        match self {
            Self::All(conditions) => {
                for condition in conditions {
                    if !condition.holds(document)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Self::Any(conditions) => {
                for condition in conditions {
                    if condition.holds(document)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Self::Not(condition) => condition.holds(document).map(|holds| !holds),
            Self::Field { path, test } => test.holds_at(document, path),
        }
    }

    pub fn asks_nothing(&self) -> bool {
        matches!(self, Self::All(conditions) if conditions.iter().all(Self::asks_nothing))
    }

    pub fn gather_fields<'c>(&'c self, fields: &mut BTreeSet<&'c str>) {
        match self {
            Self::All(conditions) | Self::Any(conditions) => {
                for condition in conditions {
                    condition.gather_fields(fields);
                }
            }
            Self::Not(condition) => condition.gather_fields(fields),
            Self::Field { path, .. } => fields.extend(path.first().map(|head| &**head)),
        }
    }
}

impl Test {
    /// Whether it holds for any value that a path yields.
    fn holds_at(&self, document: Doc<'_>, path: &[Box<str>]) -> Result<bool, Malformed> {
        let Some((head, rest)) = path.split_first() else { return Ok(false) };
        let Some(value) = document.get(head)? else { return self.holds(None) };
        if rest.is_empty() {
            return if value.kind == kind::ARRAY {
                self.holds_of_array(value)
            } else {
                self.holds(Some(value))
            };
        }
        match value.kind {
            kind::DOCUMENT => self.holds_at(inner(value)?, rest),
            kind::ARRAY => {
                for element in inner(value)?.elements() {
                    let (_, element) = element?;
                    if element.kind == kind::DOCUMENT && self.holds_at(inner(element)?, rest)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            _ => self.holds(None),
        }
    }

    fn holds_of_array(&self, array: Value<'_>) -> Result<bool, Malformed> {
        if *self != Self::Exists {
            for element in inner(array)?.elements() {
                if self.holds(Some(element?.1))? {
                    return Ok(true);
                }
            }
        }
        self.holds(Some(array))
    }

    /// Of one value, or of its absence.
    fn holds(&self, value: Option<Value<'_>>) -> Result<bool, Malformed> {
        match (self, value) {
            (Self::Exists, value) => Ok(value.is_some()),
            (Self::Compare(comparison, literal), Some(value)) => {
                comparison.holds(value, literal.value())
            }
            (Self::Compare(comparison, literal), None) => {
                Ok(literal.kind == kind::NULL && comparison.holds_of_equals())
            }
            // What is undefined is null to a list, too.
            (Self::In(literals), Some(value)) if value.kind != kind::UNDEFINED => {
                is_among(value, literals)
            }
            (Self::In(literals), _) => {
                Ok(literals.iter().any(|literal| literal.kind == kind::NULL))
            }
        }
    }
}

impl Comparison {
    const fn holds_of_equals(self) -> bool {
        matches!(self, Self::Equal | Self::LessOrEqual | Self::GreaterOrEqual)
    }

    /// Values of two classes do not compare, but that what is undefined is null.
    fn holds(self, value: Value<'_>, literal: Value<'_>) -> Result<bool, Malformed> {
        if class_of(value.kind) != class_of(literal.kind) {
            let is_null = value.kind == kind::UNDEFINED && literal.kind == kind::NULL;
            return Ok(is_null && self.holds_of_equals());
        }
        if is_nan(value) || is_nan(literal) {
            return Ok(is_nan(value) && is_nan(literal) && self.holds_of_equals());
        }
        let order = order(value, literal)?;
        Ok(match self {
            Self::Equal => order == Ordering::Equal,
            Self::Less => order == Ordering::Less,
            Self::LessOrEqual => order != Ordering::Greater,
            Self::Greater => order == Ordering::Greater,
            Self::GreaterOrEqual => order != Ordering::Less,
        })
    }
}

fn is_among(value: Value<'_>, literals: &[Literal]) -> Result<bool, Malformed> {
    let mut wrong = None;
    let found = literals.binary_search_by(|literal| {
        order(literal.value(), value).unwrap_or_else(|error| {
            wrong = Some(error);
            Ordering::Equal
        })
    });
    wrong.map_or(Ok(found.is_ok()), Err)
}

fn inner(value: Value<'_>) -> Result<Doc<'_>, Malformed> {
    Doc::new(value.bytes)
}
