//! Looking at the bytes of texts many at once.

/// Whether a text is all printable ASCII without quote and backslash: most are, and can be told
/// sixteen bytes at once.
pub(super) fn is_plain(text: &[u8]) -> bool {
    let is_odd = |byte: u8| {
        u8::from(!(0x20..0x7f).contains(&byte)) | u8::from(byte == b'"') | u8::from(byte == b'\\')
    };
    let are_plain = |bytes: &[u8]| bytes.iter().fold(0, |odd, &byte| odd | is_odd(byte)) == 0;
    let (chunks, rest) = text.as_chunks::<16>();
    chunks.iter().all(|chunk| are_plain(chunk)) && are_plain(rest)
}

/// Splits before and after the first byte JSON wants escaped; `None` if there is none.
pub(super) fn split_at_escape(bytes: &[u8]) -> Option<(&[u8], u8, &[u8])> {
    let whole_words = bytes.chunks_exact(8).take_while(|chunk| !wants_escape(chunk)).count() * 8;
    let (plain, rest) = bytes.split_at_checked(whole_words)?;
    let found = rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\')?;
    let (byte, after) = rest.get(found..)?.split_first()?;
    let plain = bytes.get(..plain.len() + found)?;
    Some((plain, *byte, after))
}

/// Eight bytes at once: whether any is below 0x20, a quote or a backslash. May say yes for nothing,
/// never no for one.
fn wants_escape(chunk: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let Some(word) = chunk.first_chunk::<8>().map(|bytes| u64::from_ne_bytes(*bytes)) else {
        return true;
    };
    let zero_in = |x: u64| x.wrapping_sub(ONES) & !x & HIGHS;
    let below_space = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
    below_space | zero_in(word ^ (ONES * 0x22)) | zero_in(word ^ (ONES * 0x5c)) != 0
}

pub(super) fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            out.push(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 });
        }
    }
}
