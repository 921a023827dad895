//! One change event, read from raw BSON without decoding what is not needed.

use super::bson::{Doc, Malformed, Value};
use super::position::{ClusterTime, ResumeToken};

/// What happened. The first four change a row; the rest end or disturb the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    Insert,
    Update,
    Replace,
    Delete,
    Drop,
    Rename,
    DropDatabase,
    Invalidate,
    /// An operation type this release does not know. The stream halts: it is never skipped.
    Unknown,
}

impl Operation {
    /// Those that change a row, in the order metrics list them.
    pub const ROWS: [Self; 4] = [Self::Insert, Self::Update, Self::Replace, Self::Delete];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::Drop => "drop",
            Self::Rename => "rename",
            Self::DropDatabase => "dropDatabase",
            Self::Invalidate => "invalidate",
            Self::Unknown => "unknown",
        }
    }

    fn parse(name: &str) -> Self {
        match name {
            "insert" => Self::Insert,
            "update" => Self::Update,
            "replace" => Self::Replace,
            "delete" => Self::Delete,
            "drop" => Self::Drop,
            "rename" => Self::Rename,
            "dropDatabase" => Self::DropDatabase,
            "invalidate" => Self::Invalidate,
            _ => Self::Unknown,
        }
    }

    pub const fn changes_a_row(self) -> bool {
        matches!(self, Self::Insert | Self::Update | Self::Replace | Self::Delete)
    }
}

/// A view into one event's bytes.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    pub operation: Operation,
    /// The operation's name as the server wrote it, for messages about one that is not known.
    pub operation_name: &'a str,
    pub cluster_time: ClusterTime,
    token: Doc<'a>,
    /// The collection it is of; none where the whole database was dropped. Of a rename, the name
    /// that the collection had.
    pub collection: Option<&'a str>,
    /// The name that a rename gave the collection.
    pub renamed_to: Option<&'a str>,
    /// It is part of a transaction over documents. All events of one have one cluster time (seen
    /// on MongoDB 6.0.5, with 100,000 of them and over 16 MB, too).
    pub in_transaction: bool,
    /// `_id` of the document after the change, for the operations that change a row.
    pub id: Option<Value<'a>>,
    /// The `_id` it had before, if the change gave it an equal one of another type: a replace may,
    /// because the server takes 7 and 7.0 for one. To the table they are two.
    pub was: Option<Value<'a>>,
    /// The document after the change, where the event carries it.
    pub document: Option<Doc<'a>>,
    /// The server's wall clock when the event was written, in milliseconds since 1970; from MongoDB
    /// 6.0 on.
    pub wall_time_millis: Option<i64>,
}

impl<'a> Event<'a> {
    /// # Errors
    /// The bytes are malformed, or a field every event has is missing.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (mut token, mut name, mut time, mut key, mut document, mut wall) =
            (None, None, None, None, None, None);
        let (mut of, mut to, mut in_transaction) = (None, None, false);
        for element in Doc::new(bytes)?.elements() {
            let (field, value) = element?;
            match field {
                b"_id" => token = value.as_document(),
                b"operationType" => name = value.as_str(),
                b"clusterTime" => time = value.as_timestamp(),
                b"documentKey" => key = value.as_document(),
                b"fullDocument" => document = value.as_document(),
                b"wallTime" => wall = value.as_date(),
                b"ns" => of = value.as_document(),
                b"to" => to = value.as_document(),
                b"txnNumber" => in_transaction = true,
                _ => {}
            }
        }
        let operation_name = name.ok_or(Malformed("event without operationType"))?;
        let operation = Operation::parse(operation_name);
        let key = match key {
            Some(key) => key.get("_id")?,
            None => None,
        };
        if operation.changes_a_row() && key.is_none() {
            return Err(Malformed("event without documentKey._id"));
        }
        // The key of a replace is that of the document replaced. That the new one cannot be read is
        // found out later.
        let new = document.and_then(|document: Doc<'_>| document.get("_id").ok().flatten());
        let (id, was) = match (key, new) {
            (Some(old), Some(new)) if old != new => (Some(new), Some(old)),
            _ => (key, None),
        };
        let name_of = |namespace: Option<Doc<'a>>| match namespace {
            Some(namespace) => Ok(namespace.get("coll")?.and_then(|name| name.as_str())),
            None => Ok(None),
        };
        Ok(Self {
            operation,
            operation_name,
            cluster_time: ClusterTime::new(time.ok_or(Malformed("event without clusterTime"))?),
            token: token.ok_or(Malformed("event without a resume token"))?,
            collection: name_of(of)?,
            renamed_to: name_of(to)?,
            in_transaction,
            id,
            was,
            document,
            wall_time_millis: wall,
        })
    }

    /// The position after this event.
    ///
    /// # Errors
    /// The token is an empty document.
    pub fn token(&self) -> Result<ResumeToken, Malformed> {
        ResumeToken::new(self.token.bytes())
    }
}
