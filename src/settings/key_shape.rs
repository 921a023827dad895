//! What a key may be given, as the JSON Schema of the configuration says it.

use std::borrow::Cow;

use serde_json::{Value, json};

/// What a key may be given. The reader notes it as it reads the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    /// Text that is not empty.
    Word,
    /// A name in Postgres.
    Name,
    Number {
        min: u64,
        max: Option<u64>,
    },
    /// From 0 to 1.
    Fraction,
    Boolean,
    /// Text that this regular expression finds.
    Matching(&'static str),
    OneOf(Cow<'static, [&'static str]>),
    Duration,
    /// Or nothing, which is an empty text.
    OptionalDuration,
    Size,
    /// An address and a port.
    Address,
    Texts,
    /// It may be given as a file instead: `<key>_file`.
    Secret,
    /// Tables with these keys.
    Tables(&'static [ListKey]),
}

/// A key of the tables of a list, such as `[[stream]]`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ListKey {
    pub name: &'static str,
    pub shape: Shape,
    /// What it is where it is left out, as JSON; `None` where it must be given.
    pub default: Option<&'static str>,
    pub means: &'static str,
}

/// As humantime reads it.
const DURATION: &str = concat!(
    r"([0-9]+(\.[0-9]+)?\s*",
    "(nanos|nsec|ns|usec|us|µs|millis|msec|ms|seconds|second|secs|sec|s|minutes|minute|mins|min|m",
    "|hours|hour|hrs|hr|h|days|day|d|weeks|week|wks|wk|w|months|month|M|years|year|yrs|yr|y)",
    r"\s*)+",
);
const SIZE: &str = r"^[0-9]+\s*(B|KiB|MiB|GiB|KB|MB)\s*$";
const ADDRESS: &str = r"^([0-9.]+|\[[0-9A-Fa-f:.]+(%[0-9]+)?\]):[0-9]{1,5}$";

impl Shape {
    /// What draft 7 of JSON Schema says of it.
    pub fn schema(&self) -> Value {
        match self {
            Self::Text | Self::Secret => json!({ "type": "string" }),
            Self::Word => json!({ "type": "string", "pattern": r"\S" }),
            Self::Name => json!({ "type": "string", "pattern": r"\S", "maxLength": 63 }),
            Self::Number { min, max: None } => json!({ "type": "integer", "minimum": min }),
            Self::Number { min, max } => {
                json!({ "type": "integer", "minimum": min, "maximum": max })
            }
            Self::Fraction => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
            Self::Boolean => json!({ "type": "boolean" }),
            Self::Matching(pattern) => json!({ "type": "string", "pattern": pattern }),
            Self::OneOf(names) => json!({ "enum": names }),
            Self::Duration => json!({ "type": "string", "pattern": format!("^(0|{DURATION})$") }),
            Self::OptionalDuration => {
                json!({ "type": "string", "pattern": format!("^(0|{DURATION})?$") })
            }
            Self::Size => json!({ "type": "string", "pattern": SIZE }),
            Self::Address => json!({ "type": "string", "pattern": ADDRESS }),
            Self::Texts => json!({ "type": "array", "items": { "type": "string" } }),
            Self::Tables(keys) => json!({ "type": "array", "items": table(keys) }),
        }
    }
}

/// A table of a list: no other keys than these.
fn table(keys: &[ListKey]) -> Value {
    let mut properties = serde_json::Map::new();
    for key in keys {
        let mut schema = key.shape.schema();
        describe(&mut schema, key.means);
        let default = key.default.and_then(|json| serde_json::from_str::<Value>(json).ok());
        if let Some(default) = default.filter(|default| !default.is_null()) {
            set(&mut schema, "default", default);
        }
        properties.insert(key.name.to_owned(), schema);
    }
    let required: Vec<&str> =
        keys.iter().filter(|key| key.default.is_none()).map(|key| key.name).collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "required": required,
    })
}

/// What a person reads beside the key.
pub(super) fn describe(schema: &mut Value, means: &str) {
    if !means.is_empty() {
        set(schema, "description", json!(means));
    }
}

/// Says one thing more of a key.
pub(super) fn set(schema: &mut Value, word: &str, value: Value) {
    if let Some(schema) = schema.as_object_mut() {
        schema.insert(word.to_owned(), value);
    }
}
