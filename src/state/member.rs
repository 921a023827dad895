//! The streams of a group as they are configured, which its rows are compared with.

use crate::model::namespace::Table;

/// A stream of a group, as configured.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    pub stream: &'a str,
    pub collection: &'a str,
    pub table: &'a Table,
}

/// The streams of a configuration, as far as one group is concerned.
#[derive(Debug, Clone, Copy)]
pub struct Configured<'a> {
    /// The group's.
    pub members: &'a [Member<'a>],
    /// Of the streams of all groups.
    pub names: &'a [&'a str],
}
