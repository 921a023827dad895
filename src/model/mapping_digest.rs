//! What a stream's rows are made by, in short: remembered with the stream, so that a configuration
//! that makes other rows of the same documents is noticed. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A digest of each column, and one of which documents are followed, and which of their fields. Two
/// that are equal make the same row of every document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MappingDigest {
    /// By name.
    pub columns: BTreeMap<String, String>,
    /// Of arrays that are kept in tables of their own, by these tables' names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub children: BTreeMap<String, String>,
    /// A digest of each of these tables' columns, by table and name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub child_columns: BTreeMap<String, BTreeMap<String, String>>,
    /// Empty if all documents are, and all of each.
    pub selection: String,
    /// Versions of the rows are kept. That they are makes no other rows; but while they were not,
    /// rows went and came of which they say nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub versions: bool,
}

/// What is changed of a mapping.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MappingChange {
    /// Columns that were not there.
    pub added: Vec<String>,
    /// Columns that read other fields or are of another type.
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    /// Columns that were not there and read what one did that was removed: the old name, the new.
    pub renamed: Vec<(String, String)>,
    /// Tables of arrays that were not there, or that are made otherwise.
    pub children: Vec<String>,
    pub children_removed: Vec<String>,
    /// The same of columns of tables of arrays, by table.
    pub child_renamed: BTreeMap<String, Vec<(String, String)>>,
    /// Other documents are followed, or other fields of them.
    pub selects_otherwise: bool,
}

impl MappingDigest {
    /// As it was stored; `None` if this release cannot read it.
    pub fn stored(json: &serde_json::Value) -> Option<Self> {
        serde_json::from_value(json.clone()).ok()
    }

    /// What is changed since another one.
    pub fn since(&self, before: &Self) -> MappingChange {
        let (added, removed) =
            (lacking(&self.columns, &before.columns), lacking(&before.columns, &self.columns));
        let differs = |name: &&String| {
            let (now, then) = (self.columns.get(*name), before.columns.get(*name));
            then.is_some() && now != then
        };
        let of_child = |(table, columns): (&String, &BTreeMap<String, String>)| {
            let renamed = renamed(columns, before.child_columns.get(table)?);
            (!renamed.is_empty()).then(|| (table.clone(), renamed))
        };
        let children = self.children.iter();
        let others = children.filter(|(name, of)| before.children.get(*name) != Some(of));
        let gone = before.children.keys().filter(|name| !self.children.contains_key(*name));
        MappingChange {
            children: others.map(|(name, _)| name.clone()).collect(),
            children_removed: gone.cloned().collect(),
            child_renamed: self.child_columns.iter().filter_map(of_child).collect(),
            renamed: renamed(&self.columns, &before.columns),
            changed: self.columns.keys().filter(differs).cloned().collect(),
            selects_otherwise: self.selection != before.selection,
            added,
            removed,
        }
    }
}

/// The names that `other` lacks.
fn lacking(of: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> Vec<String> {
    of.keys().filter(|name| !other.contains_key(*name)).cloned().collect()
}

/// Columns that are called otherwise: the old name, the new.
fn renamed(
    now: &BTreeMap<String, String>,
    before: &BTreeMap<String, String>,
) -> Vec<(String, String)> {
    let removed = lacking(before, now);
    let renamed = lacking(now, before).into_iter().filter_map(|new| {
        let old = removed.iter().find(|old| before.get(*old) == now.get(&new));
        old.map(|old| (old.clone(), new))
    });
    renamed.collect()
}

impl MappingChange {
    /// Why the rows that are there have to be made anew; `None` if they need not.
    pub fn why(&self) -> Option<String> {
        let told = |what: &str, names: &[String], one: &str, more: &str| match names {
            [] => None,
            [name] => Some(format!("{what} {name} {one}")),
            names => Some(format!("{what}s {} {more}", names.join(", "))),
        };
        let selects = self
            .selects_otherwise
            .then(|| "other documents are followed, or other fields of them".to_owned());
        let clauses = [
            told("column", &self.added, "is new", "are new"),
            told("column", &self.changed, "is made otherwise", "are made otherwise"),
            told(
                "child table",
                &self.children,
                "is new or made otherwise",
                "are new or made otherwise",
            ),
            selects,
        ];
        let clauses: Vec<String> = clauses.into_iter().flatten().collect();
        (!clauses.is_empty()).then(|| clauses.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(columns: &[(&str, &str)], selection: &str) -> MappingDigest {
        let columns = columns.iter().map(|(name, of)| ((*name).to_owned(), (*of).to_owned()));
        MappingDigest {
            columns: columns.collect(),
            selection: selection.to_owned(),
            ..MappingDigest::default()
        }
    }

    #[test]
    fn only_what_makes_other_rows_is_a_reason_to_make_them_anew() {
        let before = digest(&[("a", "1"), ("b", "2")], "");
        let why = |now: &MappingDigest| now.since(&before).why();
        assert_eq!(why(&before), None);
        let fewer = digest(&[("a", "1")], "");
        assert_eq!(why(&fewer), None, "what is there stays as it is");
        assert_eq!(fewer.since(&before).removed, ["b"]);
        let more = digest(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")], "");
        assert_eq!(why(&more).unwrap(), "columns c, d are new");
        let other = digest(&[("a", "9"), ("b", "2"), ("c", "3")], "x");
        let told = "column c is new; column a is made otherwise; other documents are followed, or \
                    other fields of them";
        assert_eq!(why(&other).unwrap(), told);
        assert_eq!(before.since(&other).removed, ["c"]);
    }

    #[test]
    fn a_column_that_reads_what_another_did_is_one_that_is_called_otherwise() {
        let before = digest(&[("a", "1"), ("b", "2")], "");
        let change = digest(&[("z", "1"), ("b", "2")], "").since(&before);
        assert_eq!(change.renamed, [("a".to_owned(), "z".to_owned())]);
        assert_eq!(change.why().unwrap(), "column z is new", "its rows are made anew all the same");
        let both = digest(&[("a", "1"), ("z", "1"), ("b", "2")], "").since(&before);
        assert_eq!(both.renamed, [], "the one that it is like is there still");
        let of_child = |names: &[(&str, &str)]| {
            let child_columns = [("items".to_owned(), digest(names, "").columns)].into();
            MappingDigest { child_columns, ..digest(&[], "") }
        };
        let (old, new) = (of_child(&[("k", "1"), ("l", "2")]), of_child(&[("m", "1"), ("l", "2")]));
        let renamed = vec![("k".to_owned(), "m".to_owned())];
        assert_eq!(new.since(&old).child_renamed, [("items".to_owned(), renamed)].into());
        assert!(new.since(&digest(&[], "")).child_renamed.is_empty(), "of an older release");
    }

    #[test]
    fn what_was_stored_is_read_back_and_what_another_release_adds_is_no_hindrance() {
        let stored = digest(&[("a", "1")], "x");
        let mut json = serde_json::to_value(&stored).unwrap();
        assert_eq!(MappingDigest::stored(&json), Some(stored.clone()));
        json["more"] = serde_json::json!({});
        assert_eq!(MappingDigest::stored(&json), Some(stored));
        assert_eq!(MappingDigest::stored(&serde_json::json!([1])), None);
    }
}
