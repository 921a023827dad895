//! Documents as JSON text, straight from raw BSON.
//!
//! Two dialects, one writer: `Plain` is what `doc` holds (numbers as numbers, dates as RFC 3339
//! text); `Canonical` is MongoDB's canonical Extended JSON v2, for the types JSON has no word for
//! and for ids.

mod rare;

use std::cmp::Ordering;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::DEPTH_MAX;
use super::bound::{Bound, Unwritable};
use super::date::rfc3339_millis;
use super::numeric::write_number;
use super::scan::{is_plain, split_at_escape, write_hex};
use crate::model::bson::{Doc, Malformed, Value, kind};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// For `doc`: U+0000 and invalid UTF-8 become U+FFFD, because Postgres stores neither.
    Plain,
    /// Canonical Extended JSON inside `doc`: replaced as in `Plain`.
    Scope,
    /// For ids: nothing is replaced and nothing collides.
    Canonical,
}

/// What encoding had to change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Characters Postgres cannot store that became U+FFFD.
    pub replaced: u64,
}

/// Writes one value as plain JSON, within a bound: no more than one value's plain text goes beyond
/// it.
///
/// # Errors
/// The bytes are not BSON, or nest deeper than [`DEPTH_MAX`]; the bound is passed.
pub fn encode_value(
    value: Value<'_>,
    bound: Bound,
    out: &mut Vec<u8>,
) -> Result<Encoded, Unwritable> {
    let mut writer = Writer::new(out, Dialect::Plain, bound);
    writer.value(value, 0)?;
    writer.finish()
}

pub(super) fn encode_canonical(
    value: Value<'_>,
    bound: Bound,
    out: &mut Vec<u8>,
) -> Result<(), Unwritable> {
    let mut writer = Writer::new(out, Dialect::Canonical, bound);
    writer.value(value, 0)?;
    writer.finish().map(drop)
}

pub(super) fn encode_string_losslessly(
    text: &[u8],
    bound: Bound,
    out: &mut Vec<u8>,
) -> Result<(), Unwritable> {
    let mut writer = Writer::new(out, Dialect::Canonical, bound);
    writer.text(text);
    writer.finish().map(drop)
}

pub(super) struct Writer<'o, 'd> {
    out: &'o mut Vec<u8>,
    dialect: Dialect,
    pub(super) encoded: Encoded,
    bound: Bound,
    /// The fields of the documents being written, the innermost one's last.
    fields: Vec<(&'d [u8], Value<'d>)>,
}

impl<'o, 'd> Writer<'o, 'd> {
    pub(super) const fn new(out: &'o mut Vec<u8>, dialect: Dialect, bound: Bound) -> Self {
        Self { out, dialect, encoded: Encoded { replaced: 0 }, bound, fields: Vec::new() }
    }

    /// What was changed; an error if the bound was passed.
    pub(super) fn finish(self) -> Result<Encoded, Unwritable> {
        if self.is_over() { Err(Unwritable::Bytes) } else { Ok(self.encoded) }
    }

    const fn is_over(&self) -> bool {
        self.out.len() > self.bound.end
    }

    const fn count_field(&mut self) -> Result<(), Unwritable> {
        match self.bound.fields.checked_sub(1) {
            Some(left) => self.bound.fields = left,
            None => return Err(Unwritable::Fields),
        }
        Ok(())
    }

    fn document(&mut self, doc: Doc<'d>, depth: usize) -> Result<(), Unwritable> {
        match self.dialect {
            Dialect::Plain => self.sorted_document(doc, depth),
            Dialect::Scope | Dialect::Canonical if has_dollar_key(doc) => {
                self.escaped_document(doc, depth)
            }
            Dialect::Scope | Dialect::Canonical => self.exact_document(doc, depth),
        }
    }

    /// Equal keys stay in turn, because the last one counts.
    fn sorted_document(&mut self, doc: Doc<'d>, depth: usize) -> Result<(), Unwritable> {
        let start = self.fields.len();
        for element in doc.elements() {
            self.count_field()?;
            self.fields.push(element?);
        }
        let fields = self.fields.get_mut(start..).unwrap_or_default();
        fields.sort_by(|(a, _), (b, _)| jsonb_order(a, b));
        let mut index = start;
        self.out.push(b'{');
        while let Some(&(key, value)) = self.fields.get(index) {
            if index > start {
                self.out.push(b',');
            }
            self.text(key);
            self.out.push(b':');
            self.value(value, depth + 1)?;
            index += 1;
        }
        self.out.push(b'}');
        self.fields.truncate(start);
        Ok(())
    }

    fn exact_document(&mut self, doc: Doc<'d>, depth: usize) -> Result<(), Unwritable> {
        self.out.push(b'{');
        for (index, element) in doc.elements().enumerate() {
            let (key, value) = element?;
            self.count_field()?;
            if index > 0 {
                self.out.push(b',');
            }
            self.text(key);
            self.out.push(b':');
            self.value(value, depth + 1)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    /// A document with a `$` key reads like Extended JSON for something else (`{"$oid": …}`); two
    /// ids must not share a text, so inside ids such a document is written as a list of pairs.
    fn escaped_document(&mut self, doc: Doc<'d>, depth: usize) -> Result<(), Unwritable> {
        self.raw(b"{\"$document\":[");
        for (index, element) in doc.elements().enumerate() {
            let (key, value) = element?;
            self.raw(if index > 0 { b",[" } else { b"[" });
            self.text(key);
            self.out.push(b',');
            self.value(value, depth + 1)?;
            self.out.push(b']');
        }
        self.raw(b"]}");
        Ok(())
    }

    fn array(&mut self, array: Doc<'d>, depth: usize) -> Result<(), Unwritable> {
        self.out.push(b'[');
        for (index, element) in array.elements().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            self.value(element?.1, depth + 1)?;
        }
        self.out.push(b']');
        Ok(())
    }

    pub(super) fn value(&mut self, value: Value<'d>, depth: usize) -> Result<(), Unwritable> {
        if depth > DEPTH_MAX {
            return Err(Malformed("nested deeper than 200 levels").into());
        }
        if self.is_over() {
            return Err(Unwritable::Bytes);
        }
        let broken = Malformed("value does not match its type");
        match value.kind {
            kind::STRING => self.text(value.as_text().ok_or(broken)?),
            kind::DOCUMENT => self.document(value.as_document().ok_or(broken)?, depth)?,
            kind::ARRAY => self.array(value.as_document().ok_or(broken)?, depth)?,
            kind::NULL => self.raw(b"null"),
            kind::BOOLEAN => {
                self.raw(if value.as_bool().ok_or(broken)? { b"true" } else { b"false" });
            }
            kind::INT32 | kind::INT64 | kind::DOUBLE | kind::DECIMAL128 => {
                self.number(value).ok_or(broken)?;
            }
            kind::DATE => self.date(value.as_date().ok_or(broken)?),
            kind::OBJECT_ID => self.object_id(value.bytes),
            kind::BINARY => self.binary(value.bytes).ok_or(broken)?,
            _ => self.rare(value, depth)?,
        }
        Ok(())
    }

    fn number(&mut self, value: Value<'d>) -> Option<()> {
        let plain = self.dialect == Dialect::Plain;
        let (name, start): (&[u8], _) = match value.kind {
            kind::INT32 => (b"{\"$numberInt\":\"", self.out.len()),
            kind::INT64 => (b"{\"$numberLong\":\"", self.out.len()),
            kind::DOUBLE => (b"{\"$numberDouble\":\"", self.out.len()),
            _ => (b"{\"$numberDecimal\":\"", self.out.len()),
        };
        if !plain {
            self.raw(name);
        }
        let finite = write_number(value, self.out)?;
        if plain && !finite {
            self.out.insert(start, b'"');
            self.out.push(b'"');
        }
        if !plain {
            self.raw(b"\"}");
        }
        Some(())
    }

    fn date(&mut self, millis: i64) {
        if self.dialect == Dialect::Plain {
            self.out.push(b'"');
            if rfc3339_millis(millis, self.out) {
                self.out.push(b'"');
                return;
            }
            self.out.pop();
        }
        self.raw(b"{\"$date\":{\"$numberLong\":\"");
        self.raw(itoa::Buffer::new().format(millis).as_bytes());
        self.raw(b"\"}}");
    }

    fn object_id(&mut self, bytes: &[u8]) {
        self.raw(if self.dialect == Dialect::Plain { b"\"" } else { b"{\"$oid\":\"" });
        write_hex(bytes, self.out);
        self.raw(if self.dialect == Dialect::Plain { b"\"" } else { b"\"}" });
    }

    fn binary(&mut self, bytes: &[u8]) -> Option<()> {
        let (header, data) = bytes.split_at_checked(5)?;
        let subtype = *header.last()?;
        let inner = if subtype == 2 { without_inner_length(data) } else { None };
        let is_broken = subtype == 2 && inner.is_none();
        let data = inner.unwrap_or(data);
        if self.dialect == Dialect::Plain {
            self.out.push(b'"');
            self.base64(data);
            self.out.push(b'"');
        } else {
            self.raw(b"{\"$binary\":{\"base64\":\"");
            self.base64(data);
            // One that is not as it should be must not share its text, in an id, with one that is.
            let width = if is_broken { 1 } else { 2 };
            let _ = write!(self.out, "\",\"subType\":\"{subtype:0width$x}\"}}}}");
        }
        Some(())
    }

    fn base64(&mut self, data: &[u8]) {
        let start = self.out.len();
        self.out.resize(start + data.len().div_ceil(3) * 4, b'=');
        if let Some(room) = self.out.get_mut(start..) {
            let _ = BASE64.encode_slice(data, room);
        }
    }

    /// A JSON string. In ids, bytes that are not UTF-8 are kept apart by writing them out.
    pub(super) fn text(&mut self, text: &[u8]) {
        if is_plain(text) {
            self.out.push(b'"');
            self.raw(text);
            self.out.push(b'"');
            return;
        }
        if let (Err(_), Dialect::Canonical) = (std::str::from_utf8(text), self.dialect) {
            self.raw(b"{\"$invalidUtf8\":\"");
            self.base64(text);
            self.raw(b"\"}");
        } else {
            self.out.push(b'"');
            for chunk in text.utf8_chunks() {
                self.escaped(chunk.valid().as_bytes());
                if !chunk.invalid().is_empty() && !self.is_over() {
                    self.encoded.replaced += 1;
                    self.raw("\u{fffd}".as_bytes());
                }
            }
            self.out.push(b'"');
        }
    }

    /// Ends early beyond the bound: a control character is six bytes long.
    fn escaped(&mut self, text: &[u8]) {
        let mut rest = text;
        while let Some((plain, byte, after)) = split_at_escape(rest).filter(|_| !self.is_over()) {
            self.out.extend_from_slice(plain);
            self.escape(byte);
            rest = after;
        }
        if !self.is_over() {
            self.out.extend_from_slice(rest);
        }
    }

    fn escape(&mut self, byte: u8) {
        match byte {
            b'"' => self.raw(b"\\\""),
            b'\\' => self.raw(b"\\\\"),
            b'\n' => self.raw(b"\\n"),
            b'\r' => self.raw(b"\\r"),
            b'\t' => self.raw(b"\\t"),
            0 if self.dialect != Dialect::Canonical => {
                self.encoded.replaced += 1;
                self.raw("\u{fffd}".as_bytes());
            }
            _ => {
                let _ = write!(self.out, "\\u{byte:04x}");
            }
        }
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }
}

/// The order `jsonb` keeps: shorter keys first, then by bytes. Postgres sorts every object it
/// parses, and what is sorted already costs it a quarter less.
pub(super) fn jsonb_order(a: &[u8], b: &[u8]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn has_dollar_key(doc: Doc<'_>) -> bool {
    doc.elements().any(|element| element.is_ok_and(|(key, _)| key.first() == Some(&b'$')))
}

/// The old binary subtype 2 repeats its length inside; Extended JSON leaves the repetition out.
/// `None` if it is not there.
const fn without_inner_length(data: &[u8]) -> Option<&[u8]> {
    match data.split_first_chunk::<4>() {
        Some((length, inner)) if u32::from_le_bytes(*length) as usize == inner.len() => Some(inner),
        _ => None,
    }
}
