//! Names of collections and tables, and the one place where an SQL identifier is quoted.

use std::fmt;

/// A MongoDB collection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Namespace {
    pub database: String,
    pub collection: String,
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.collection)
    }
}

/// What follows a table's name in that of the table of its rows' versions.
pub const HISTORY: &str = "_history";

/// A Postgres table. `Display` is for people; [`Table::sql`] is for statements.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Table {
    pub schema: String,
    pub name: String,
}

impl Table {
    pub fn sql(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.name))
    }

    /// The table of the versions of this one's rows.
    #[must_use]
    pub fn history(&self) -> Self {
        self.beside(&format!("{}{HISTORY}", self.name))
    }

    /// Another table of its schema.
    #[must_use]
    pub fn beside(&self, name: &str) -> Self {
        Self { schema: self.schema.clone(), name: name.to_owned() }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// An identifier, quoted for SQL: whatever the name holds, it stays one identifier.
pub fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_hostile_name_stays_one_identifier() {
        assert_eq!(super::quote(r#"a"; drop table x; --"#), r#""a""; drop table x; --""#);
    }
}
