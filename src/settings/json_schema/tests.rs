//! The schema and the reader say the same: of keys, of what they may be given, of the defaults.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use config::{File, FileFormat, Source};
use jsonschema::Validator;

use super::super::{Origin, Problems};
use super::*;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn schema() -> Value {
    serde_json::from_str(&Settings::schema()).unwrap()
}

fn validator() -> Validator {
    jsonschema::validator_for(&schema()).unwrap()
}

/// What a validator gets to see of a configuration.
fn json(toml: &str) -> Value {
    fn of(leaf: &Leaf) -> Value {
        match &leaf.kind {
            ValueKind::Table(table) => {
                table.iter().map(|(key, leaf)| (key.clone(), of(leaf))).collect()
            }
            ValueKind::Array(leaves) => leaves.iter().map(of).collect(),
            _ => json_of(leaf),
        }
    }
    let read = File::from_str(toml, FileFormat::Toml).collect();
    read.unwrap_or_else(|error| panic!("{error}\n{toml}"))
        .iter()
        .map(|(key, leaf)| (key.clone(), of(leaf)))
        .collect()
}

/// What the reader has against a configuration.
fn problems(toml: &str) -> Vec<String> {
    let path = std::env::temp_dir().join(format!("tidemark-schema-{}", uuid::Uuid::new_v4()));
    std::fs::write(&path, toml).unwrap();
    let origin = Origin { directory: "/".into(), file: Some(path.clone()), variables: Vec::new() };
    let read = Settings::load(&origin);
    std::fs::remove_file(path).unwrap();
    let Problems(problems) = read.err().unwrap_or(Problems(Vec::new()));
    problems.into_iter().map(|problem| format!("{} {}", problem.key, problem.message)).collect()
}

fn errors(validator: &Validator, toml: &str) -> Vec<String> {
    let json = json(toml);
    validator
        .iter_errors(&json)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

/// Every key of the schema's sections.
fn keys(schema: &Value, section: &str, found: &mut BTreeSet<String>) {
    for (name, schema) in schema["properties"].as_object().unwrap() {
        let key = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
        if schema["type"] == "object" {
            keys(schema, &key, found);
        } else {
            found.insert(key);
        }
    }
}

#[test]
fn the_file_is_what_is_printed() {
    let file = std::fs::read_to_string(root().join("config/tidemark.schema.json"));
    let is_equal = file.is_ok_and(|file| file == Settings::schema());
    assert!(is_equal, "cargo run -- schema > config/tidemark.schema.json");
}

#[test]
fn every_key_that_is_read_is_in_the_schema_and_no_other() {
    let defaults = Layers::of_defaults().leaves;
    let mut expected: BTreeSet<String> = defaults.keys().cloned().collect();
    let mut reader = Reader::new(Layers::of_defaults());
    let _ = Settings::read(&mut reader);
    for (key, shape) in reader.shapes() {
        if *shape == Shape::Secret {
            expected.insert(format!("{key}_file"));
        }
    }
    let mut found = BTreeSet::new();
    keys(&schema(), "", &mut found);
    assert_eq!(found, expected);
}

#[test]
fn every_key_of_a_section_has_its_meaning_and_its_default() {
    let schema = schema();
    let defaults = Layers::of_defaults().leaves;
    for (key, leaf) in &defaults {
        let names = key.split('.').fold(String::new(), |path, name| path + "/properties/" + name);
        let said = schema.pointer(&names).unwrap();
        if LISTS.iter().all(|(list, ..)| list != key) {
            assert_eq!(said["default"], json_of(&leaf.value), "{key}");
        }
    }
    let means = |pointer: &str| schema.pointer(pointer).unwrap()["description"].as_str().unwrap();
    assert!(means("/properties/batch/properties/linger").starts_with("how long a batch"));
    assert!(means("/properties/retention").ends_with("\"\" = for ever"));
    assert!(
        means("/properties/source/properties/heartbeat_collection").ends_with("positions move")
    );
}

/// The lists of keys of all files of the settings: `const STREAM_KEYS: [&str; 7] = ["name", …];`.
fn lists_that_are_read() -> BTreeSet<BTreeSet<String>> {
    let mut lists = BTreeSet::new();
    for file in std::fs::read_dir(root().join("src/settings")).unwrap().flatten() {
        let Ok(text) = std::fs::read_to_string(file.path()) else { continue };
        for part in text.split("const ").skip(1) {
            let Some((name, rest)) = part.split_once(": [&str;") else { continue };
            if name.ends_with("KEYS") {
                let listed = rest.split_once('=').unwrap().1.split("];").next().unwrap();
                lists.insert(listed.split('"').skip(1).step_by(2).map(str::to_owned).collect());
            }
        }
    }
    lists
}

/// The keys of these tables, and of those in them.
fn add_lists(keys: &[ListKey], lists: &mut BTreeSet<BTreeSet<String>>) {
    lists.insert(keys.iter().map(|key| key.name.to_owned()).collect());
    for key in keys {
        if let Shape::Tables(inner) = key.shape {
            add_lists(inner, lists);
        }
    }
}

/// A key of a list is known to the reader because a list of keys names it.
#[test]
fn the_keys_of_lists_are_those_that_are_read() {
    let mut in_the_schema = BTreeSet::new();
    for (_, keys, _) in LISTS {
        add_lists(keys, &mut in_the_schema);
    }
    assert!(in_the_schema.len() >= 3, "{in_the_schema:?}");
    let read = lists_that_are_read();
    let lacking: Vec<_> = read.difference(&in_the_schema).collect();
    let unread: Vec<_> = in_the_schema.difference(&read).collect();
    assert!(
        lacking.is_empty() && unread.is_empty(),
        "src/settings/list_keys.rs wants one line for each key of a list that is read\n\
         read, and not there: {lacking:#?}\nthere, and not read: {unread:#?}"
    );
}

/// Of every key: what it may not be is refused by both.
#[test]
fn what_the_schema_refuses_the_reader_refuses() {
    let validator = validator();
    let mut reader = Reader::new(Layers::of_defaults());
    let _ = Settings::read(&mut reader);
    let mut refused = 0;
    for (key, shape) in reader.shapes() {
        for wrong in wrong(shape) {
            let toml = format!("{key} = {wrong}\n");
            assert!(!errors(&validator, &toml).is_empty(), "taken by the schema: {toml}");
            let told = problems(&toml);
            assert!(told.iter().any(|told| told.starts_with(key.as_str())), "{toml}{told:?}");
            refused += 1;
        }
    }
    assert!(refused > 80, "{refused}");
}

/// TOML that a key of this shape may not be given.
fn wrong(shape: &Shape) -> Vec<String> {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    match shape {
        Shape::Text | Shape::Secret => texts(&["7", "true"]),
        Shape::Word => texts(&["7", "\"\"", "\" \""]),
        Shape::Name => vec!["\"\"".to_owned(), format!("\"{}\"", "n".repeat(64))],
        // Of lists alone, or of anything.
        Shape::Matching(_) | Shape::Texts => Vec::new(),
        Shape::Number { min, max } => {
            let beyond = max.map_or("1.5".to_owned(), |max| (max + 1).to_string());
            let below = min.checked_sub(1).map_or("-1".to_owned(), |below| below.to_string());
            vec!["\"many\"".to_owned(), below, beyond]
        }
        Shape::Fraction => texts(&["1.1", "-0.1", "\"half\""]),
        Shape::Boolean => texts(&["\"maybe\"", "7"]),
        Shape::OneOf(_) => texts(&["\"none such\"", "\"\"", "7"]),
        Shape::Duration => texts(&["\"soon\"", "\"\"", "\"5\"", "5", "\"5 q\""]),
        Shape::OptionalDuration => texts(&["\"soon\"", "\"5\"", "5"]),
        Shape::Size => texts(&["\"many\"", "\"8M\"", "8"]),
        Shape::Address => texts(&["\"nowhere\"", "\"localhost:1\"", "9464"]),
        Shape::Tables(_) => texts(&["[{ none_such = 1 }]"]),
    }
}

#[test]
fn lengths_of_time_and_sizes_are_the_same_to_both() {
    let validator = validator();
    for (key, values) in [
        ("retry.escalate_after", &["500ms", "3h", "1h 30m", "1h30min", "1.5h", "2 days", "0s"][..]),
        ("compare.interval", &["", "1d", "1week"]),
        ("batch.bytes_max", &["64KiB", "8MiB", "8 MiB", "1000KB", "1MB"]),
        ("status.listen", &["127.0.0.1:9464", "0.0.0.0:0", "[::1]:9464", "[::]:80"]),
    ] {
        for value in values {
            let toml = format!("{key} = {value:?}\n");
            assert_eq!(errors(&validator, &toml), Vec::<String>::new(), "{toml}");
            assert_eq!(problems(&toml), Vec::<String>::new(), "{toml}");
        }
    }
}

#[test]
fn unknown_keys_are_refused_by_both_at_every_depth() {
    let validator = validator();
    let stream = "[[stream]]\nname = \"s\"\ncollection = \"c\"\ntable = \"t\"\n";
    let column = "column = [ { name = \"a\", field = \"a\", type = \"text\"";
    for wrong in [
        "none_such = 1\n".to_owned(),
        "[batch]\nevents_maxx = 1\n".to_owned(),
        "[alert.slack]\nchanel = \"\"\n".to_owned(),
        "[none_such]\na = 1\n".to_owned(),
        "[[group]]\nname = \"g\"\nnone_such = 1\n".to_owned(),
        format!("{stream}none_such = 1\n"),
        format!("{stream}{column}, feild = \"a\" }} ]\n"),
        format!("{stream}{column}, type = \"none\" }} ]\n").replace("type = \"text\", ", ""),
        stream.replace("name = \"s\"\n", ""),
    ] {
        assert!(!errors(&validator, &wrong).is_empty(), "taken by the schema:\n{wrong}");
        assert!(!problems(&wrong).is_empty(), "taken by the reader:\n{wrong}");
    }
    let right = format!("{stream}{column}, required = true, aliases = [\"b.c\"] }} ]\n");
    assert_eq!(errors(&validator, &right), Vec::<String>::new());
    assert_eq!(problems(&right), Vec::<String>::new());
}

/// What is shown to people as a configuration is one.
#[test]
fn every_configuration_in_the_docs_is_one() {
    let mut pages = vec![root().join("README.md")];
    pages.extend(std::fs::read_dir(root().join("docs")).unwrap().flatten().map(|page| page.path()));
    let validator = validator();
    assert_eq!(errors(&validator, DEFAULTS), Vec::<String>::new());
    let mut looked_at = 0;
    for page in pages.iter().filter(|page| page.extension().is_some_and(|end| end == "md")) {
        for toml in blocks(page) {
            assert_eq!(errors(&validator, &toml), Vec::<String>::new(), "{}", page.display());
            let told = problems(&toml);
            let unknown: Vec<_> = told.iter().filter(|told| told.contains("not a key")).collect();
            assert!(unknown.is_empty(), "{}: {unknown:?}\n{toml}", page.display());
            looked_at += 1;
        }
    }
    assert!(looked_at >= 4, "{looked_at}");
}

/// The blocks of TOML of a page; what is left out in them is a line of its own.
fn blocks(page: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(page).unwrap();
    let blocks = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let shown = blocks.filter(|block| !block.contains("{{#include"));
    let whole = |line: &&str| line.trim() != "…";
    shown.map(|block| block.lines().filter(whole).collect::<Vec<_>>().join("\n")).collect()
}
