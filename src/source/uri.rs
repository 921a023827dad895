//! `source.uri` as text: its options as they are written, and how it is said that it cannot be
//! used. No message repeats what may be a secret.

use crate::error::{Class, Code, Fault};

const HINT: &str = "write source.uri as mongodb://user:password@host:27017/?replicaSet=name";

/// Says what is wrong with `source.uri`.
pub(super) fn refuse<T>(what: impl std::fmt::Display) -> Result<T, Fault> {
    Err(Fault::new(Class::Halt, Code::SourceMisconfigured, format!("source.uri {what}"), HINT))
}

/// The options as written: names in lower case, as the driver compares them.
pub(super) fn pairs(uri: &str) -> impl Iterator<Item = (String, &str)> {
    let options = uri.split_once('?').map_or("", |(_, options)| options);
    let pairs = options.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name.to_lowercase(), value))
}
