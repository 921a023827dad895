//! What a row has of its document, as SQL names it.

use std::fmt::Write;

use super::mapping::content_types;
use crate::model::namespace::quote;
use crate::model::value::ColumnType;
use crate::settings::RowSpec;

/// What a row has of its document, in the order of the parameters: the columns, then `doc` if it is
/// kept; and after them what goes into other tables.
pub(super) struct Contents {
    /// Those of its own table, for SQL.
    pub names: Vec<String>,
    pub kinds: Vec<ColumnType>,
}

impl Contents {
    pub fn new(rows: RowSpec<'_>) -> Self {
        let names = rows.columns.iter().map(|column| quote(&column.name));
        let doc = rows.keeping.doc.then(|| "doc".to_owned());
        Self { names: names.chain(doc).collect(), kinds: content_types(rows).collect() }
    }

    /// The names with `prefix` before each.
    pub fn list(&self, prefix: &str) -> String {
        let names: Vec<String> = self.names.iter().map(|name| format!("{prefix}{name}")).collect();
        names.join(", ")
    }

    /// The same, each with a name that no column of anybody's has.
    pub fn aliased(&self, prefix: &str) -> String {
        let names = self.names.iter().enumerate();
        let aliased: Vec<String> =
            names.map(|(index, name)| format!("{prefix}{name} as c{index}")).collect();
        aliased.join(", ")
    }

    /// What [`Contents::aliased`] named so.
    pub fn places(&self, prefix: &str) -> String {
        let places: Vec<String> =
            (0..self.names.len()).map(|index| format!("{prefix}c{index}")).collect();
        places.join(", ")
    }

    /// `name = excluded.name, ` for each.
    pub fn assignments(&self) -> String {
        self.names.iter().fold(String::new(), |mut out, name| {
            let _ = write!(out, "{name} = excluded.{name}, ");
            out
        })
    }

    /// The rows of the parameters as a table `u`, and the contents of their own table as they are
    /// compared and stored.
    pub fn given(&self) -> Given {
        let (mut arrays, mut aliases, mut values) = (String::new(), String::new(), Vec::new());
        for (index, kind) in self.kinds.iter().enumerate() {
            let is_array = *kind == ColumnType::TextArray;
            let element = if is_array { "text" } else { kind.sql() };
            let _ = write!(arrays, "${}::{element}[], ", index + 2);
            let _ = write!(aliases, "c{index}, ");
            if index < self.names.len() {
                values.push(format!("u.c{index}{}", if is_array { "::text[]" } else { "" }));
            }
        }
        let (hash, time) = (self.kinds.len() + 2, self.kinds.len() + 3);
        let from = format!(
            "unnest($1::text[], {arrays}${hash}::bigint[], ${time}::bigint[]) as u (id, \
             {aliases}hash, cluster_time)"
        );
        Given { from, values: values.join(", ") }
    }
}

/// The rows of the parameters.
pub(super) struct Given {
    pub from: String,
    pub values: String,
}
