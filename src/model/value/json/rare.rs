//! The types of BSON that JSON has no word for, and few documents have.

use std::io::Write;

use super::{Dialect, Writer};
use crate::model::bson::{Malformed, Value, kind};
use crate::model::value::bound::Unwritable;
use crate::model::value::scan::write_hex;

impl<'d> Writer<'_, 'd> {
    /// The types JSON has no word for, as canonical Extended JSON in either dialect.
    pub(super) fn rare(&mut self, value: Value<'d>, depth: usize) -> Result<(), Unwritable> {
        let broken = Malformed("value does not match its type");
        match value.kind {
            kind::UNDEFINED => self.raw(b"{\"$undefined\":true}"),
            kind::MIN_KEY => self.raw(b"{\"$minKey\":1}"),
            kind::MAX_KEY => self.raw(b"{\"$maxKey\":1}"),
            kind::SYMBOL => self.wrapped(b"{\"$symbol\":", value.as_text().ok_or(broken)?),
            kind::CODE => self.wrapped(b"{\"$code\":", value.as_text().ok_or(broken)?),
            kind::TIMESTAMP => {
                let packed = value.as_timestamp().ok_or(broken)?;
                let (t, i) = (packed >> 32, packed & 0xffff_ffff);
                let _ = write!(self.out, "{{\"$timestamp\":{{\"t\":{t},\"i\":{i}}}}}");
            }
            kind::REGEX => {
                let mut parts = value.bytes.split(|&b| b == 0);
                self.raw(b"{\"$regularExpression\":{\"pattern\":");
                self.text(parts.next().ok_or(broken)?);
                self.raw(b",\"options\":");
                self.text(parts.next().ok_or(broken)?);
                self.raw(b"}}");
            }
            kind::DB_POINTER => {
                let (name, id) = value.bytes.split_last_chunk::<12>().ok_or(broken)?;
                self.raw(b"{\"$dbPointer\":{\"$ref\":");
                self.text(name.get(4..name.len().saturating_sub(1)).ok_or(broken)?);
                self.raw(b",\"$id\":{\"$oid\":\"");
                write_hex(id, self.out);
                self.raw(b"\"}}}");
            }
            kind::CODE_WITH_SCOPE => self.code_with_scope(value.bytes, depth)?,
            _ => return Err(Malformed("unknown type byte").into()),
        }
        Ok(())
    }

    fn code_with_scope(&mut self, bytes: &'d [u8], depth: usize) -> Result<(), Unwritable> {
        let broken = Malformed("code with scope does not match its lengths");
        let rest = bytes.get(4..).ok_or(broken)?;
        let length = rest.first_chunk::<4>().map(|n| u32::from_le_bytes(*n)).ok_or(broken)?;
        let end = usize::try_from(length).ok().and_then(|n| n.checked_add(4)).ok_or(broken)?;
        let (code, scope) = rest.split_at_checked(end).ok_or(broken)?;
        self.wrapped(b"{\"$code\":", code.get(4..end - 1).ok_or(broken)?);
        self.out.pop();
        self.raw(b",\"$scope\":");
        let before = self.dialect;
        if before == Dialect::Plain {
            self.dialect = Dialect::Scope;
        }
        let written = self.value(Value { kind: kind::DOCUMENT, bytes: scope }, depth + 1);
        self.dialect = before;
        self.out.push(b'}');
        written
    }

    fn wrapped(&mut self, head: &[u8], text: &[u8]) {
        self.raw(head);
        self.text(text);
        self.out.push(b'}');
    }
}
