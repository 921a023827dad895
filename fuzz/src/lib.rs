//! From a fuzzer's bytes to things worth trying: documents that are BSON, and some that nearly are.

/// Where a run has got to in its bytes; past the end everything is zero.
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }
}

/// A server's types, and one there is not.
const KINDS: [u8; 22] = [
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x10,
    0x11, 0x12, 0x13, 0x7f, 0xff, 0x42,
];
/// What the targets' columns read, what means something somewhere, and what is odd.
const KEYS: [&str; 16] = [
    "_id",
    "a",
    "b",
    "c",
    "bb",
    "",
    "$oid",
    "$date",
    "a.b",
    "ns",
    "_data",
    "0",
    "1",
    "operationType",
    "é",
    "documentKey",
];

/// The first byte says whether the rest is a document as it is, or how to make one.
pub fn document(data: &[u8]) -> Vec<u8> {
    let mut bytes = Bytes::new(data);
    if bytes.byte() % 4 == 0 { bytes.rest().to_vec() } else { made(&mut bytes, 0) }
}

/// A document of whatever the bytes say. All its lengths are right; its texts need not be UTF-8.
pub fn made(bytes: &mut Bytes<'_>, depth: usize) -> Vec<u8> {
    let mut document = vec![0; 4];
    for _ in 0..bytes.byte() % 12 {
        let kind = KINDS[usize::from(bytes.byte()) % KINDS.len()];
        document.push(kind);
        key(bytes, &mut document);
        value(kind, bytes, depth, &mut document);
    }
    closed(document)
}

/// An array as drivers make them: its keys are its places.
fn made_array(bytes: &mut Bytes<'_>, depth: usize) -> Vec<u8> {
    let mut array = vec![0; 4];
    for place in 0..bytes.byte() % 12 {
        let kind = KINDS[usize::from(bytes.byte()) % KINDS.len()];
        array.push(kind);
        array.extend(place.to_string().bytes().chain([0]));
        value(kind, bytes, depth, &mut array);
    }
    closed(array)
}

fn closed(mut document: Vec<u8>) -> Vec<u8> {
    document.push(0);
    let length = u32::try_from(document.len()).unwrap_or_default().to_le_bytes();
    document[..4].copy_from_slice(&length);
    document
}

fn key(bytes: &mut Bytes<'_>, out: &mut Vec<u8>) {
    match usize::from(bytes.byte()) {
        known if known < 200 => out.extend(KEYS[known % KEYS.len()].bytes()),
        long => out.extend(bytes.take(long % 40).iter().filter(|&&byte| byte != 0)),
    }
    out.push(0);
}

/// One value of a type, without its type byte.
pub fn value(kind: u8, bytes: &mut Bytes<'_>, depth: usize, out: &mut Vec<u8>) {
    match kind {
        0x01 | 0x09 | 0x11 | 0x12 => out.extend(bytes.array::<8>()),
        0x02 | 0x0d | 0x0e => text(bytes, out),
        0x03 if depth < 220 => out.extend(made(bytes, depth + 1)),
        0x04 if depth < 220 => out.extend(made_array(bytes, depth + 1)),
        0x03 | 0x04 => out.extend(closed(vec![0; 4])),
        0x05 => {
            let length = usize::from(bytes.byte()) % 24;
            let (subtype, data) = (bytes.byte() % 8, bytes.take(length));
            out.extend(u32::try_from(data.len()).unwrap_or_default().to_le_bytes());
            out.push(subtype);
            out.extend(data);
        }
        0x07 => out.extend(bytes.array::<12>()),
        0x08 => out.push(bytes.byte() % 2),
        0x0b => {
            for _ in 0..2 {
                let length = usize::from(bytes.byte()) % 8;
                out.extend(bytes.take(length).iter().filter(|&&byte| byte != 0));
                out.push(0);
            }
        }
        0x0c => {
            text(bytes, out);
            out.extend(bytes.array::<12>());
        }
        0x0f => {
            let mut inner = vec![0; 4];
            text(bytes, &mut inner);
            inner.extend(if depth < 220 { made(bytes, depth + 1) } else { closed(vec![0; 4]) });
            let length = u32::try_from(inner.len()).unwrap_or_default().to_le_bytes();
            inner[..4].copy_from_slice(&length);
            out.extend(inner);
        }
        0x10 => out.extend(bytes.array::<4>()),
        0x13 => out.extend(bytes.array::<16>()),
        _ => {}
    }
}

fn text(bytes: &mut Bytes<'_>, out: &mut Vec<u8>) {
    let length = usize::from(bytes.byte()) % 40;
    let data = bytes.take(length);
    out.extend(u32::try_from(data.len() + 1).unwrap_or_default().to_le_bytes());
    out.extend(data);
    out.push(0);
}

/// What must show nowhere; as a secret it is part of a URL.
pub const CANARY: &str = "sw0rdfish";
