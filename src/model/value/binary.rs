//! Postgres's binary format, read back.

/// Reads one length-prefixed field, advancing `at`; `None` is NULL (or the end).
pub fn read_field<'t>(tuple: &'t [u8], at: &mut usize) -> Option<&'t [u8]> {
    let length = i32::from_be_bytes(*tuple.get(*at..)?.first_chunk::<4>()?);
    *at += 4;
    let length = usize::try_from(length).ok()?;
    let value = tuple.get(*at..*at + length)?;
    *at += length;
    Some(value)
}

/// A binary `text[]` as the literal `{"a",NULL}`.
pub fn array_literal(binary: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![b'{'];
    let mut at = 20;
    while at < binary.len() {
        if out.len() > 1 {
            out.push(b',');
        }
        let is_null = binary.get(at..)?.first_chunk::<4>()? == &(-1_i32).to_be_bytes();
        match read_field(binary, &mut at) {
            None if is_null => out.extend_from_slice(b"NULL"),
            None => return None,
            Some(element) => {
                out.push(b'"');
                for &byte in element {
                    if matches!(byte, b'"' | b'\\') {
                        out.push(b'\\');
                    }
                    out.push(byte);
                }
                out.push(b'"');
            }
        }
    }
    out.push(b'}');
    Some(out)
}
