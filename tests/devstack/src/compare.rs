//! Whether a table equals its collection: an independent reading of the contract, by way of decoded
//! values.

use std::collections::HashMap;

use base64::Engine;
use futures_util::TryStreamExt;
use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};
use serde_json::{Map, Value, json};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::Result;

/// What a comparison found. Differences name ids, not contents.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    pub documents: usize,
    pub missing: Vec<String>,
    pub extra: Vec<String>,
    pub different: Vec<String>,
}

impl Comparison {
    pub fn is_equal(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.different.is_empty()
    }
}

/// Compares every document with every row.
pub async fn compare(
    source: &Database,
    collection: &str,
    target: &mut PgConnection,
    table: &str,
) -> Result<Comparison> {
    let sql = AssertSqlSafe(format!("select id, doc::text from {table}"));
    let rows: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(target).await?;
    let mut rows: HashMap<String, String> = rows.into_iter().collect();
    let mut found = Comparison::default();
    let mut documents = source.collection::<Document>(collection).find(doc! {}).await?;
    while let Some(document) = documents.try_next().await? {
        found.documents += 1;
        let id = id_text(document.get("_id").ok_or("a document without _id")?);
        match rows.remove(&id) {
            None => found.missing.push(id),
            Some(text) => {
                let row: Value = serde_json::from_str(&text)?;
                if !same(&row, &plain_json(&Bson::Document(document))) {
                    found.different.push(id);
                }
            }
        }
    }
    found.extra = rows.into_keys().collect();
    Ok(found)
}

/// Numbers compare by value: a `jsonb` does not tell 1 from 1.0.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => left == right,
    }
}

fn id_text(id: &Bson) -> String {
    match id {
        Bson::String(text) => {
            let hex = text.len() == 24
                && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            let quoted = hex
                || text.starts_with(['{', '"'])
                || ["true", "false", "null"].contains(&text.as_str())
                || text.contains('\0');
            if quoted { Value::String(text.clone()).to_string() } else { text.clone() }
        }
        Bson::ObjectId(id) => id.to_hex(),
        other => other.clone().into_canonical_extjson().to_string(),
    }
}

/// A value as the contract's plain JSON.
pub fn plain_json(value: &Bson) -> Value {
    match value {
        Bson::Document(document) => Value::Object(
            document
                .iter()
                .map(|(key, value)| (key.clone(), plain_json(value)))
                .collect::<Map<_, _>>(),
        ),
        Bson::Array(items) => Value::Array(items.iter().map(plain_json).collect()),
        Bson::String(text) => Value::String(text.replace('\0', "\u{fffd}")),
        Bson::Boolean(flag) => json!(flag),
        Bson::Null => Value::Null,
        Bson::Int32(number) => json!(number),
        Bson::Int64(number) => json!(number),
        Bson::Double(number) if number.is_nan() => json!("NaN"),
        Bson::Double(number) if number.is_infinite() => {
            json!(if *number > 0.0 { "Infinity" } else { "-Infinity" })
        }
        Bson::Double(number) => json!(number),
        Bson::Decimal128(number) => {
            let text = number.to_string();
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        }
        Bson::ObjectId(id) => json!(id.to_hex()),
        Bson::Binary(binary) => {
            json!(base64::engine::general_purpose::STANDARD.encode(&binary.bytes))
        }
        Bson::DateTime(date) => {
            match chrono::DateTime::from_timestamp_millis(date.timestamp_millis()) {
                Some(at) if (1..=9999).contains(&chrono::Datelike::year(&at)) => {
                    json!(at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
                }
                _ => json!({ "$date": { "$numberLong": date.timestamp_millis().to_string() } }),
            }
        }
        other => other.clone().into_canonical_extjson(),
    }
}
