//! Two `_id`s have one `id` only if the server takes them for one, and what can be read back is
//! what it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidemark::model::bson::{Builder, Value};
use tidemark::model::value::{decode_id, encode_id};
use tidemark_fuzz::{Bytes, value};

const KINDS: [u8; 12] = [0x01, 0x02, 0x03, 0x05, 0x07, 0x08, 0x09, 0x0a, 0x0e, 0x10, 0x12, 0x13];

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes::new(data);
    let [one, other] = [(); 2].map(|()| {
        let kind = KINDS[usize::from(bytes.byte()) % KINDS.len()];
        let mut out = Vec::new();
        value(kind, &mut bytes, 0, &mut out);
        (kind, out)
    });
    let [Some(a), Some(b)] = [&one, &other].map(|(kind, bytes)| text(*kind, bytes)) else { return };
    let is_number = |kind| matches!(kind, 0x01 | 0x10 | 0x12 | 0x13);
    assert!(
        a != b || one == other || is_number(one.0) && is_number(other.0),
        "{one:?} and \
                                                                               {other:?} are {a}"
    );
    // There are many NaNs, and the server takes them for one; a document may hold one.
    if let Some(back) = decode_id(&a).filter(|_| !is_number(one.0) && one.0 != 0x03) {
        let was = Builder::default().value("", Value { kind: one.0, bytes: &one.1 }).finish();
        assert_eq!(back, was, "{a}");
    }
});

fn text(kind: u8, bytes: &[u8]) -> Option<String> {
    let mut out = Vec::new();
    encode_id(Value { kind, bytes }, &mut out).ok()?;
    let text = String::from_utf8(out).expect("what Postgres is sent is UTF-8");
    assert!(!text.contains('\0'));
    Some(text)
}
