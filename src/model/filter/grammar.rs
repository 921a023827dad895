//! From a filter's text to what it asks. What is not supported is refused by name and place: a
//! condition that was passed over would follow documents that nobody meant.

use bson::{Bson, Document};

use super::bson_order::order;
use super::condition::{Comparison, Condition, Literal, Test};
use super::distinct_keys::DistinctKeys;
use crate::model::bson::Doc;

/// What may stand where an operator does.
const SUPPORTED: &str = "$eq $ne $gt $gte $lt $lte $in $nin $exists, and at the top $and $or";

/// The condition, and the filter as BSON.
pub fn read(text: &str) -> Result<(Condition, Vec<u8>), String> {
    let no_json = |error: serde_json::Error| format!("is no Extended JSON: {error}");
    serde_json::from_str::<DistinctKeys>(text).map_err(no_json)?;
    let Bson::Document(filter) = serde_json::from_str(text).map_err(no_json)? else {
        return Err("must be an object, such as {\"status\": \"open\"}".to_owned());
    };
    let condition = of_document(&filter, "")?;
    let bytes = bson::serialize_to_vec(&filter).map_err(|error| error.to_string())?;
    Ok((condition, bytes))
}

fn of_document(document: &Document, at: &str) -> Result<Condition, String> {
    let mut conditions = Vec::with_capacity(document.len());
    for (key, value) in document {
        let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        conditions.push(match key.as_str() {
            "$and" => Condition::All(of_list(value, &at)?),
            "$or" => Condition::Any(of_list(value, &at)?),
            _ if key.starts_with('$') => return Err(unsupported(key, &at)),
            _ => of_field(&path(key, &at)?, value, &at)?,
        });
    }
    Ok(Condition::All(conditions))
}

fn of_list(value: &Bson, at: &str) -> Result<Vec<Condition>, String> {
    let documents = value.as_array().filter(|documents| !documents.is_empty());
    let documents = documents.ok_or_else(|| format!("{at} must be a list of conditions"))?;
    let conditions = documents.iter().enumerate().map(|(place, one)| {
        let at = format!("{at}[{place}]");
        let one = one.as_document().ok_or_else(|| format!("{at} must be an object"))?;
        of_document(one, &at)
    });
    conditions.collect()
}

fn path(dotted: &str, at: &str) -> Result<Vec<Box<str>>, String> {
    let parts = dotted.split('.').map(|part| {
        if part.is_empty() {
            return Err(format!("{at}: a part of the path is empty"));
        }
        if part.starts_with('$') {
            return Err(format!("{at}: {part} cannot be part of a path"));
        }
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            let why = "a place in an array cannot be part of a path; all elements are looked at";
            return Err(format!("{at}: {why}"));
        }
        Ok(part.into())
    });
    parts.collect()
}

fn of_field(path: &[Box<str>], value: &Bson, at: &str) -> Result<Condition, String> {
    let asks = |test| Condition::Field { path: path.to_vec(), test };
    let Some(operators) = value.as_document().filter(|document| has_operator(document)) else {
        return Ok(asks(Test::Compare(Comparison::Equal, literal(value, at)?)));
    };
    let mut conditions = Vec::with_capacity(operators.len());
    for (operator, operand) in operators {
        let at = format!("{at}.{operator}");
        let compare = |comparison| {
            literal(operand, &at).map(|literal| asks(Test::Compare(comparison, literal)))
        };
        conditions.push(match operator.as_str() {
            "$eq" => compare(Comparison::Equal)?,
            "$ne" => not(compare(Comparison::Equal)?),
            "$lt" => compare(Comparison::Less)?,
            "$lte" => compare(Comparison::LessOrEqual)?,
            "$gt" => compare(Comparison::Greater)?,
            "$gte" => compare(Comparison::GreaterOrEqual)?,
            "$in" => asks(Test::In(literals(operand, &at)?)),
            "$nin" => not(asks(Test::In(literals(operand, &at)?))),
            "$exists" => match operand {
                Bson::Boolean(true) => asks(Test::Exists),
                Bson::Boolean(false) => not(asks(Test::Exists)),
                _ => return Err(format!("{at} must be true or false")),
            },
            _ => return Err(unsupported(operator, &at)),
        });
    }
    Ok(Condition::All(conditions))
}

fn not(condition: Condition) -> Condition {
    Condition::Not(Box::new(condition))
}

fn has_operator(document: &Document) -> bool {
    document.keys().any(|key| key.starts_with('$'))
}

/// The list of `$in`, each once, in the order of values.
fn literals(value: &Bson, at: &str) -> Result<Vec<Literal>, String> {
    let values = value.as_array().ok_or_else(|| format!("{at} must be a list of values"))?;
    let literals = values.iter().enumerate();
    let literals = literals.map(|(place, value)| literal(value, &format!("{at}[{place}]")));
    let mut literals = literals.collect::<Result<Vec<_>, _>>()?;
    // What was read here is well formed.
    literals.sort_by(|one, other| {
        order(one.value(), other.value()).unwrap_or(std::cmp::Ordering::Equal)
    });
    Ok(literals)
}

/// A value that documents' values are compared with.
fn literal(value: &Bson, at: &str) -> Result<Literal, String> {
    let what = match value {
        Bson::RegularExpression(_) => "a regular expression",
        Bson::Undefined => "undefined",
        Bson::MinKey => "MinKey",
        Bson::MaxKey => "MaxKey",
        Bson::Symbol(_) => "a symbol",
        Bson::DbPointer(_) => "a DBPointer",
        Bson::JavaScriptCode(_) | Bson::JavaScriptCodeWithScope(_) => "code",
        Bson::Document(document) if has_operator(document) => "a document with operators",
        _ => "",
    };
    if !what.is_empty() {
        return Err(format!("{at}: {what} is not supported as a value"));
    }
    let bytes = bson::serialize_to_vec(&bson::doc! { "": value.clone() });
    let bytes = bytes.map_err(|error| format!("{at}: {error}"))?;
    let value = Doc::new(&bytes).and_then(|document| document.get(""));
    match value.map_err(|error| format!("{at}: {error}"))? {
        Some(value) => Ok(Literal { kind: value.kind, bytes: value.bytes.to_vec() }),
        None => Err(format!("{at} has no value")),
    }
}

fn unsupported(operator: &str, at: &str) -> String {
    format!("{at}: {operator} is not supported; these are: {SUPPORTED}")
}
