//! A reader over raw BSON bytes: elements are found, not decoded.
//!
//! It exists beside the `bson` crate because the hot path must see every byte a server can send,
//! invalid UTF-8 included, without building a tree and without failing a whole document for one
//! string in it. Never allocates; never trusts a length. Source of the layout:
//! <https://bsonspec.org/spec.html>.

/// The bytes are not BSON: a length runs past its end, or a type byte is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed BSON: {0}")]
pub struct Malformed(pub &'static str);

/// One value: its type byte and exactly its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    pub kind: u8,
    pub bytes: &'a [u8],
}

/// BSON type bytes.
pub mod kind {
    pub const DOUBLE: u8 = 0x01;
    pub const STRING: u8 = 0x02;
    pub const DOCUMENT: u8 = 0x03;
    pub const ARRAY: u8 = 0x04;
    pub const BINARY: u8 = 0x05;
    pub const UNDEFINED: u8 = 0x06;
    pub const OBJECT_ID: u8 = 0x07;
    pub const BOOLEAN: u8 = 0x08;
    pub const DATE: u8 = 0x09;
    pub const NULL: u8 = 0x0a;
    pub const REGEX: u8 = 0x0b;
    pub const DB_POINTER: u8 = 0x0c;
    pub const CODE: u8 = 0x0d;
    pub const SYMBOL: u8 = 0x0e;
    pub const CODE_WITH_SCOPE: u8 = 0x0f;
    pub const INT32: u8 = 0x10;
    pub const TIMESTAMP: u8 = 0x11;
    pub const INT64: u8 = 0x12;
    pub const DECIMAL128: u8 = 0x13;
    pub const MAX_KEY: u8 = 0x7f;
    pub const MIN_KEY: u8 = 0xff;
}

/// A document or array, its outer length checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doc<'a>(&'a [u8]);

impl<'a> Doc<'a> {
    /// # Errors
    /// The bytes are not one whole document.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let length =
            read_length(bytes).ok_or(Malformed("document shorter than its length field"))?;
        if length != bytes.len() || length < 5 || bytes.last() != Some(&0) {
            return Err(Malformed("document length does not match its bytes"));
        }
        Ok(Self(bytes))
    }

    pub const fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Keys (without their terminator, perhaps not UTF-8) and values, in order. Ends after the
    /// first error.
    pub fn elements(&self) -> Elements<'a> {
        Elements { rest: self.0.get(4..).unwrap_or_default() }
    }

    /// The first value under `key`.
    ///
    /// # Errors
    /// The document is malformed before the key is found.
    pub fn get(&self, key: &str) -> Result<Option<Value<'a>>, Malformed> {
        for element in self.elements() {
            let (found, value) = element?;
            if found == key.as_bytes() {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

#[derive(Debug)]
pub struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<(&'a [u8], Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let (&kind, rest) = self.rest.split_first()?;
        if kind == 0 {
            self.rest = &[];
            return None;
        }
        let parsed = split_element(kind, rest);
        self.rest = parsed.as_ref().map_or(&[], |(_, _, rest)| *rest);
        Some(parsed.map(|(key, value, _)| (key, value)))
    }
}

type Split<'a> = (&'a [u8], Value<'a>, &'a [u8]);

fn split_element(kind: u8, rest: &[u8]) -> Result<Split<'_>, Malformed> {
    let end = c_string_length(rest).ok_or(Malformed("key without an end"))?;
    let (key, rest) = rest.split_at(end);
    let rest = rest.get(1..).unwrap_or_default();
    let length = value_length(kind, rest)?;
    if length > rest.len() {
        return Err(Malformed("value runs past the end of its document"));
    }
    let (bytes, rest) = rest.split_at(length);
    Ok((key, Value { kind, bytes }, rest))
}

fn value_length(kind: u8, bytes: &[u8]) -> Result<usize, Malformed> {
    let prefixed = |extra: usize| {
        read_length(bytes)
            .and_then(|n| n.checked_add(extra))
            .ok_or(Malformed("value without its length"))
    };
    Ok(match kind {
        kind::NULL | kind::UNDEFINED | kind::MIN_KEY | kind::MAX_KEY => 0,
        kind::BOOLEAN => 1,
        kind::INT32 => 4,
        kind::DOUBLE | kind::DATE | kind::INT64 | kind::TIMESTAMP => 8,
        kind::OBJECT_ID => 12,
        kind::DECIMAL128 => 16,
        kind::STRING | kind::CODE | kind::SYMBOL => prefixed(4)?,
        kind::DOCUMENT | kind::ARRAY | kind::CODE_WITH_SCOPE => prefixed(0)?,
        kind::BINARY => prefixed(5)?,
        kind::DB_POINTER => prefixed(16)?,
        kind::REGEX => {
            let missing = Malformed("regular expression without an end");
            let pattern = c_string_length(bytes).ok_or(missing)?;
            let options = bytes.get(pattern + 1..).and_then(c_string_length).ok_or(missing)?;
            pattern + options + 2
        }
        _ => return Err(Malformed("unknown type byte")),
    })
}

fn c_string_length(bytes: &[u8]) -> Option<usize> {
    memchr::memchr(0, bytes)
}

fn read_length(bytes: &[u8]) -> Option<usize> {
    let length = i32::from_le_bytes(*bytes.first_chunk::<4>()?);
    usize::try_from(length).ok()
}

impl<'a> Value<'a> {
    pub fn as_document(&self) -> Option<Doc<'a>> {
        matches!(self.kind, kind::DOCUMENT | kind::ARRAY)
            .then(|| Doc::new(self.bytes).ok())
            .flatten()
    }

    /// The content of a string, symbol or code value, without its length and terminator; perhaps
    /// not UTF-8.
    pub fn as_text(&self) -> Option<&'a [u8]> {
        if !matches!(self.kind, kind::STRING | kind::SYMBOL | kind::CODE) {
            return None;
        }
        let (_, text) = self.bytes.split_at_checked(4)?;
        text.strip_suffix(&[0])
    }

    /// The type as MongoDB's `$type` names it.
    pub const fn type_name(&self) -> &'static str {
        match self.kind {
            kind::DOUBLE => "double",
            kind::STRING => "string",
            kind::DOCUMENT => "object",
            kind::ARRAY => "array",
            kind::BINARY => "binData",
            kind::UNDEFINED => "undefined",
            kind::OBJECT_ID => "objectId",
            kind::BOOLEAN => "bool",
            kind::DATE => "date",
            kind::NULL => "null",
            kind::REGEX => "regex",
            kind::DB_POINTER => "dbPointer",
            kind::CODE => "javascript",
            kind::SYMBOL => "symbol",
            kind::CODE_WITH_SCOPE => "javascriptWithScope",
            kind::INT32 => "int",
            kind::TIMESTAMP => "timestamp",
            kind::INT64 => "long",
            kind::DECIMAL128 => "decimal",
            kind::MAX_KEY => "maxKey",
            kind::MIN_KEY => "minKey",
            _ => "unreadable",
        }
    }

    pub fn as_str(&self) -> Option<&'a str> {
        self.as_text().and_then(|text| std::str::from_utf8(text).ok())
    }

    pub fn as_i32(&self) -> Option<i32> {
        (self.kind == kind::INT32)
            .then(|| self.bytes.try_into().ok().map(i32::from_le_bytes))
            .flatten()
    }

    pub fn as_i64(&self) -> Option<i64> {
        (self.kind == kind::INT64).then(|| self.eight().map(i64::from_le_bytes)).flatten()
    }

    pub fn as_f64(&self) -> Option<f64> {
        (self.kind == kind::DOUBLE).then(|| self.eight().map(f64::from_le_bytes)).flatten()
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub fn as_date(&self) -> Option<i64> {
        (self.kind == kind::DATE).then(|| self.eight().map(i64::from_le_bytes)).flatten()
    }

    /// `seconds << 32 | increment`.
    pub fn as_timestamp(&self) -> Option<u64> {
        (self.kind == kind::TIMESTAMP).then(|| self.eight().map(u64::from_le_bytes)).flatten()
    }

    pub fn as_bool(&self) -> Option<bool> {
        (self.kind == kind::BOOLEAN).then(|| self.bytes.first().map(|&b| b != 0)).flatten()
    }

    fn eight(&self) -> Option<[u8; 8]> {
        self.bytes.try_into().ok()
    }
}

/// Builds a document from raw elements: commands that carry `_id`s exactly as they were read.
#[derive(Debug, Clone)]
pub struct Builder(Vec<u8>);

impl Default for Builder {
    fn default() -> Self {
        Self(vec![0; 4])
    }
}

impl Builder {
    #[must_use]
    pub fn value(mut self, key: &str, value: Value<'_>) -> Self {
        self.push(key, value);
        self
    }

    pub fn push(&mut self, key: &str, value: Value<'_>) {
        self.0.push(value.kind);
        self.0.extend_from_slice(key.as_bytes());
        self.0.push(0);
        self.0.extend_from_slice(value.bytes);
    }

    #[must_use]
    pub fn text(self, key: &str, text: &str) -> Self {
        let length = i32::try_from(text.len() + 1).unwrap_or(i32::MAX);
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
        self.value(key, Value { kind: kind::STRING, bytes: &bytes })
    }

    #[must_use]
    pub fn i32(self, key: &str, number: i32) -> Self {
        self.value(key, Value { kind: kind::INT32, bytes: &number.to_le_bytes() })
    }

    #[must_use]
    pub fn timestamp(self, key: &str, packed: u64) -> Self {
        self.value(key, Value { kind: kind::TIMESTAMP, bytes: &packed.to_le_bytes() })
    }

    #[must_use]
    pub fn document(self, key: &str, inner: Self) -> Self {
        self.value(key, Value { kind: kind::DOCUMENT, bytes: &inner.finish() })
    }

    #[must_use]
    pub fn array(self, key: &str, inner: Self) -> Self {
        self.value(key, Value { kind: kind::ARRAY, bytes: &inner.finish() })
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.0.push(0);
        let length = i32::try_from(self.0.len()).unwrap_or(i32::MAX).to_le_bytes();
        if let Some(head) = self.0.first_chunk_mut::<4>() {
            *head = length;
        }
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_truncation_of_a_document_is_refused_without_a_panic() {
        let whole = b"\x1a\0\0\0\x02a\0\x03\0\0\0hi\0\x10b\0\x01\0\0\0\x08c\0\x01\0";
        assert!(Doc::new(whole).is_ok());
        for end in 0..whole.len() {
            assert!(Doc::new(&whole[..end]).is_err());
        }
    }

    #[test]
    fn a_lying_inner_length_is_an_error_not_a_read_past_the_end() {
        let bytes = b"\x0e\0\0\0\x02a\0\xff\0\0\0h\0\0";
        let doc = Doc::new(bytes).unwrap();
        assert!(doc.elements().next().unwrap().is_err());
        assert!(doc.get("zzz").is_err());
    }
}
