//! A table of the state schema is known to one file: its name stands in no other's SQL.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::{root, sources};

#[test]
fn a_state_tables_name_stands_in_the_sql_of_one_file() {
    let tables = tables();
    assert!(tables.len() >= 16, "the migrations make {tables:?}");
    let mut knowing: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in sources("src") {
        for name in named(&text) {
            if let Some(table) = tables.get(name) {
                knowing.entry(table).or_default().insert(path.display().to_string());
            }
        }
    }
    for table in &tables {
        let files = knowing.get(table.as_str()).cloned().unwrap_or_default();
        assert_eq!(files.len(), 1, "SQL on the table {table} stands in {files:?}");
    }
}

/// The tables that the migrations make.
fn tables() -> BTreeSet<String> {
    let files = fs::read_dir(root().join("migrations")).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "sql"));
    let texts = files.map(|path| fs::read_to_string(path).unwrap());
    let made = |text: String| {
        let lines = text.lines().filter_map(|line| line.strip_prefix("create table "));
        lines.filter_map(|rest| rest.split(' ').next()).map(str::to_owned).collect::<Vec<_>>()
    };
    texts.flat_map(made).collect()
}

/// What follows a schema that is put into SQL: `checkpoint` of `{schema}.checkpoint`, `{}.…` and
/// `{0}.…`, in code outside tests and comments.
fn named(text: &str) -> Vec<&str> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut names = Vec::new();
    for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for (at, _) in line.match_indices("}.") {
            let argument =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.".contains(c);
            let before = line[..at].trim_end_matches(argument);
            let after = &line[at + 2..];
            let end = after.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            if before.ends_with('{') {
                names.push(&after[..end.unwrap_or(after.len())]);
            }
        }
    }
    names
}

#[test]
fn a_name_is_told_from_one_that_only_begins_so() {
    let code = "from {0}.stream as s, {schema}.resync_seen\n// {}.lease\n\"{self.schema}.command\"";
    assert_eq!(named(code), ["stream", "resync_seen", "command"]);
    assert_eq!(named("Held { .. }.stream; {schema}.{table}\n#[cfg(test)]\n{}.lease"), [""]);
}
