//! The JSON Schema of the configuration: what editors complete, and pipelines check without a
//! binary. It is made of what the reader reads and of `config/default.toml`, so that it can say
//! nothing else than they do.

use std::collections::BTreeMap;

use config::{Value as Leaf, ValueKind};
use serde_json::{Map, Value, json};

use super::Settings;
use super::key_shape::{ListKey, Shape, describe, set};
use super::layers::{DEFAULTS, Layers};
use super::list_keys::{GROUP, MAINTENANCE, STREAM};
use super::values::Reader;

/// Lists of tables: their keys, and what one of them is.
const LISTS: [(&str, &[ListKey], &str); 3] = [
    (
        "alert.maintenance",
        MAINTENANCE,
        "a window in which incidents are recorded, and told only if still open at its end",
    ),
    ("group", GROUP, "a group of streams in another database or schema than the others"),
    ("stream", STREAM, "a collection that is followed; a list replaces the one before it, whole"),
];

impl Settings {
    /// The schema, as a file.
    pub fn schema() -> String {
        let mut reader = Reader::new(Layers::of_defaults());
        let _ = Self::read(&mut reader);
        let mut root = section();
        set(&mut root, "$schema", json!("http://json-schema.org/draft-07/schema#"));
        set(&mut root, "title", json!("tidemark's configuration"));
        let made = "Made by `tidemark schema`. Keys that are left out are the defaults'.";
        describe(&mut root, made);
        let meanings = meanings(DEFAULTS);
        for (key, shape) in reader.shapes() {
            let means = meanings.get(key).map_or("", String::as_str);
            let default = reader.default_of(key);
            insert(&mut root, key, shape, means, default);
        }
        for (key, means) in &meanings {
            if let Some(schema) = there(&mut root, key) {
                describe(schema, means);
            }
        }
        serde_json::to_string_pretty(&root).unwrap_or_default() + "\n"
    }
}

/// A section without a key.
fn section() -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": {} })
}

fn properties(section: &mut Value) -> Option<&mut Map<String, Value>> {
    section.get_mut("properties")?.as_object_mut()
}

/// What is said of a section, if it is one and there.
fn there<'a>(root: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let found = name.split('.').try_fold(root, |outer, name| properties(outer)?.get_mut(name))?;
    Some(found).filter(|found| found.get("properties").is_some())
}

fn insert(root: &mut Value, key: &str, shape: &Shape, means: &str, default: Option<&Leaf>) {
    let list = LISTS.iter().find(|(list, ..)| *list == key);
    let mut schema =
        list.map_or_else(|| shape.schema(), |(_, keys, _)| Shape::Tables(keys).schema());
    describe(&mut schema, list.map_or(means, |(.., means)| means));
    if let Some(default) = default.filter(|_| list.is_none()) {
        set(&mut schema, "default", json_of(default));
    }
    let (place, name) = key.rsplit_once('.').unwrap_or(("", key));
    let names = place.split('.').filter(|name| !name.is_empty());
    let within = names
        .into_iter()
        .try_fold(root, |outer, name| Some(properties(outer)?.entry(name).or_insert_with(section)));
    let Some(properties) = within.and_then(properties) else { return };
    properties.insert(name.to_owned(), schema);
    if *shape == Shape::Secret {
        let means = format!("a file that holds {key}, in place of it");
        let file = json!({ "type": "string", "description": means });
        properties.insert(format!("{name}_file"), file);
    }
}

fn json_of(value: &Leaf) -> Value {
    match &value.kind {
        ValueKind::Boolean(value) => json!(value),
        ValueKind::I64(value) => json!(value),
        ValueKind::Float(value) => json!(value),
        ValueKind::String(value) => json!(value),
        ValueKind::Array(values) => values.iter().map(json_of).collect(),
        _ => Value::Null,
    }
}

/// What the comments of `config/default.toml` say, by key and by section.
fn meanings(text: &str) -> BTreeMap<String, String> {
    let mut meanings: BTreeMap<String, String> = BTreeMap::new();
    let mut section = Some(String::new());
    let mut last = None;
    for line in text.lines() {
        let (code, comment) = comment_of(line);
        if code.starts_with("[[") {
            section = None;
        } else if let Some(name) = code.strip_prefix('[').and_then(|code| code.strip_suffix(']')) {
            section = Some(name.to_owned());
            last.clone_from(&section);
        } else if let (Some(section), Some((name, _))) = (&section, code.split_once(" = ")) {
            last = Some(if section.is_empty() {
                name.to_owned()
            } else {
                format!("{section}.{name}")
            });
        } else if !line.starts_with(' ') {
            last = None;
        }
        if let Some(key) = last.as_ref().filter(|_| !comment.is_empty()) {
            let said = meanings.entry(key.clone()).or_default();
            let space = if said.is_empty() { "" } else { " " };
            said.push_str(space);
            said.push_str(comment);
        }
    }
    meanings
}

/// A line of TOML, and what is said behind it.
fn comment_of(line: &str) -> (&str, &str) {
    let mut is_quoted = false;
    let hash = line.char_indices().find(|(_, letter)| {
        is_quoted ^= *letter == '"';
        *letter == '#' && !is_quoted
    });
    let (code, comment) = hash.map_or((line, ""), |(at, _)| line.split_at(at));
    (code.trim(), comment.trim_start_matches('#').trim())
}

#[cfg(test)]
mod tests;
