//! The redaction of one stream, and how a document is rewritten by it.

use std::fmt;

use ring::digest;

use super::mask::{Mask, MaskKey};
use super::tree::{FieldPath, Node, Tree};
use crate::model::bson::{Doc, Malformed, Value, kind};
use crate::model::value::{Bound, DEPTH_MAX, Unwritable, encode_text};

/// What is done to a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hide {
    LeaveOut,
    Mask(Mask),
}

/// What a stream hides, as configured.
#[derive(Debug, Clone, Default)]
pub struct Hidden {
    /// Fields that are kept; all if there are none.
    pub include: Vec<FieldPath>,
    /// Fields that are left out.
    pub exclude: Vec<FieldPath>,
    pub masks: Vec<(FieldPath, Mask)>,
}

/// What a stream leaves out of its documents and hides in them.
#[derive(Clone, Default)]
pub struct Redaction {
    /// `None` keeps all that is not hidden.
    only: Option<Node<()>>,
    hides: Node<Hide>,
    key: Option<MaskKey>,
    configured: Hidden,
    /// Of nothing that is hidden: empty.
    fingerprint: Vec<u8>,
}

impl Redaction {
    /// Where one path lies in another, the outer one counts; what is left out is not masked.
    /// Hashes want the key: without one, null stands in a hash's place.
    pub fn new(hidden: &Hidden, key: Option<&MaskKey>) -> Self {
        let Hidden { include, exclude, masks } = hidden;
        let key = key.filter(|_| masks.iter().any(|(_, mask)| *mask == Mask::Hash)).cloned();
        let mut only = Node::default();
        for path in include {
            only.insert(path, ());
        }
        let mut tree = Node::default();
        for path in exclude {
            tree.insert(path, Hide::LeaveOut);
        }
        for (path, mask) in masks {
            tree.insert(path, Hide::Mask(*mask));
        }
        Self {
            only: (!only.is_empty()).then_some(only),
            hides: tree,
            configured: hidden.clone(),
            fingerprint: fingerprint(hidden, key.as_ref()),
            key,
        }
    }

    /// Whether documents are as they are.
    pub const fn is_none(&self) -> bool {
        self.fingerprint.is_empty()
    }

    /// The same bytes for the same redaction under the same key, in every release; none where
    /// nothing is hidden. The key cannot be told from them.
    pub fn fingerprint(&self) -> &[u8] {
        &self.fingerprint
    }

    /// What it was made of.
    pub const fn configured(&self) -> &Hidden {
        &self.configured
    }

    /// The document as it is seen from here on.
    ///
    /// # Errors
    /// It is not BSON as deep as the paths lead; or a masked value has more fields than `limits`
    /// allow; or what it becomes is longer than the document and `limits.end` together.
    pub fn apply(&self, document: Doc<'_>, limits: Bound) -> Result<Vec<u8>, Unwritable> {
        let length = document.bytes().len();
        let end = limits.end.saturating_add(length);
        let mut writer = Writer {
            key: self.key.as_ref(),
            limits: Bound { end, ..limits },
            out: Vec::with_capacity(length),
            text: Vec::new(),
        };
        let rules = Rules { only: self.only.as_ref(), hidden: Some(&self.hides) };
        let start = writer.begin();
        for element in document.elements() {
            let (key, value) = element?;
            if key == b"_id" {
                writer.copy(key, value)?;
            } else {
                writer.field(key, value, rules, 1)?;
            }
        }
        writer.end(start)?;
        Ok(writer.out)
    }
}

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redaction(")?;
        for byte in &self.fingerprint {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

impl PartialEq for Redaction {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Redaction {}

fn fingerprint(hidden: &Hidden, key: Option<&MaskKey>) -> Vec<u8> {
    let told = |what: &'static str, path: &FieldPath| format!("{what}\0{}\0", path.join("."));
    let mut all: Vec<String> = hidden.include.iter().map(|path| told("include", path)).collect();
    all.extend(hidden.exclude.iter().map(|path| told("exclude", path)));
    all.extend(hidden.masks.iter().map(|(path, mask)| told("mask", path) + &format!("{mask}\0")));
    if all.is_empty() {
        return Vec::new();
    }
    all.sort_unstable();
    all.dedup();
    let mut bytes = all.concat().into_bytes();
    if let Some(key) = key {
        bytes.extend_from_slice(&key.digits(b"the fingerprint of record.mask_key"));
    }
    digest::digest(&digest::SHA256, &bytes).as_ref().to_vec()
}

/// What applies to the fields of a document, or to the items of an array.
#[derive(Clone, Copy)]
struct Rules<'t> {
    /// `None`: all of them are kept.
    only: Option<&'t Node<()>>,
    /// `None`: none of them is hidden.
    hidden: Option<&'t Node<Hide>>,
}

impl Rules<'_> {
    const fn is_none(self) -> bool {
        self.only.is_none() && self.hidden.is_none()
    }
}

/// A document being written.
struct Writer<'k> {
    key: Option<&'k MaskKey>,
    limits: Bound,
    out: Vec<u8>,
    /// The text of the value being masked.
    text: Vec<u8>,
}

impl Writer<'_> {
    /// One field of a document, or what is left of it.
    fn field(
        &mut self,
        key: &[u8],
        value: Value<'_>,
        rules: Rules<'_>,
        depth: usize,
    ) -> Result<(), Unwritable> {
        let only = match rules.only.map(|node| node.child(key)) {
            Some(None) => return Ok(()),
            None | Some(Some(Tree::Leaf(()))) => None,
            Some(Some(Tree::Node(node))) => Some(node),
        };
        let hidden = match rules.hidden.and_then(|node| node.child_spelt(key)) {
            None => None,
            Some(Tree::Leaf(Hide::LeaveOut)) => return Ok(()),
            Some(Tree::Leaf(Hide::Mask(mask))) => return self.masked(key, value, *mask, depth),
            Some(Tree::Node(node)) => Some(node),
        };
        self.value(key, value, Rules { only, hidden }, depth).map(drop)
    }

    /// A value to whose inside the rules apply; false if nothing of it is left.
    fn value(
        &mut self,
        key: &[u8],
        value: Value<'_>,
        rules: Rules<'_>,
        depth: usize,
    ) -> Result<bool, Unwritable> {
        let holds_fields = matches!(value.kind, kind::DOCUMENT | kind::ARRAY);
        if rules.is_none() || (!holds_fields && rules.only.is_none()) {
            return self.copy(key, value).map(|()| true);
        }
        if !holds_fields {
            return Ok(false);
        }
        let inner = inside(value, depth)?;
        self.head(key, value.kind);
        let start = self.begin();
        if value.kind == kind::DOCUMENT {
            for element in inner.elements() {
                let (key, value) = element?;
                self.field(key, value, rules, depth + 1)?;
            }
        } else {
            // What applies to the field applies to each item; those that are left are counted anew.
            let (mut number, mut digits) = (0_usize, itoa::Buffer::new());
            for element in inner.elements() {
                let place = digits.format(number).as_bytes();
                number += usize::from(self.value(place, element?.1, rules, depth + 1)?);
            }
        }
        self.end(start).map(|()| true)
    }

    /// What stands in a value's place; of an array, in that of each item.
    fn masked(
        &mut self,
        key: &[u8],
        value: Value<'_>,
        mask: Mask,
        depth: usize,
    ) -> Result<(), Unwritable> {
        if !mask.makes_text() || matches!(value.kind, kind::NULL | kind::UNDEFINED) {
            return self.copy(key, Value { kind: kind::NULL, bytes: &[] });
        }
        if value.kind == kind::ARRAY {
            let items = inside(value, depth)?;
            self.head(key, kind::ARRAY);
            let start = self.begin();
            for element in items.elements() {
                let (key, item) = element?;
                self.masked(key, item, mask, depth + 1)?;
            }
            return self.end(start);
        }
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        encode_text(value, self.limits, &mut text)?;
        let written = self.text_in_place_of(key, &text, mask);
        self.text = text;
        written
    }

    fn text_in_place_of(&mut self, key: &[u8], text: &[u8], mask: Mask) -> Result<(), Unwritable> {
        match (mask, self.key) {
            (Mask::First(number), _) => {
                let number = usize::try_from(number).unwrap_or(usize::MAX);
                self.text(key, first_characters(text, number))
            }
            (Mask::Hash, Some(secret)) => {
                let digits = secret.digits(text);
                self.text(key, &digits)
            }
            (Mask::Hash | Mask::Null, _) => self.copy(key, Value { kind: kind::NULL, bytes: &[] }),
        }
    }

    fn text(&mut self, key: &[u8], text: &[u8]) -> Result<(), Unwritable> {
        self.head(key, kind::STRING);
        let length = i32::try_from(text.len() + 1).map_err(|_| Unwritable::Bytes)?;
        self.out.extend_from_slice(&length.to_le_bytes());
        self.out.extend_from_slice(text);
        self.out.push(0);
        self.within_limits()
    }

    fn copy(&mut self, key: &[u8], value: Value<'_>) -> Result<(), Unwritable> {
        self.head(key, value.kind);
        self.out.extend_from_slice(value.bytes);
        self.within_limits()
    }

    fn head(&mut self, key: &[u8], kind: u8) {
        self.out.push(kind);
        self.out.extend_from_slice(key);
        self.out.push(0);
    }

    /// Begins a document or an array; returns where its length is to stand.
    fn begin(&mut self) -> usize {
        let start = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        start
    }

    fn end(&mut self, start: usize) -> Result<(), Unwritable> {
        self.out.push(0);
        let length = i32::try_from(self.out.len() - start).map_err(|_| Unwritable::Bytes)?;
        if let Some(slot) = self.out.get_mut(start..start + 4) {
            slot.copy_from_slice(&length.to_le_bytes());
        }
        self.within_limits()
    }

    const fn within_limits(&self) -> Result<(), Unwritable> {
        if self.out.len() > self.limits.end { Err(Unwritable::Bytes) } else { Ok(()) }
    }
}

fn inside(value: Value<'_>, depth: usize) -> Result<Doc<'_>, Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed("nested deeper than 200 levels"));
    }
    value.as_document().ok_or(Malformed("value does not match its type"))
}

/// The text is UTF-8: it was written as such.
fn first_characters(text: &[u8], number: usize) -> &[u8] {
    let starts_one = |byte: u8| byte & 0xc0 != 0x80;
    let mut starts = text.iter().enumerate().filter(|(_, byte)| starts_one(**byte));
    let end = starts.nth(number).map_or(text.len(), |(place, _)| place);
    text.get(..end).unwrap_or_default()
}
