//! Exact numbers: Decimal128 to text, and text to Postgres's binary `numeric`.

use crate::model::bson::{Value, kind};

/// A Decimal128's exact text: digits with an exponent where one is needed, or `NaN`, `Infinity`,
/// `-Infinity`.
pub(super) fn decimal128_text(bytes: [u8; 16]) -> String {
    bson::Decimal128::from_bytes(bytes).to_string()
}

/// Writes a decimal text (`-12.5`, `1E+3`, `NaN`, `Infinity`) as a binary `numeric`. Returns false,
/// having written nothing, if the text is no such number or is out of `numeric`'s range.
///
/// Layout, all big-endian 16 bit: digit count, weight, sign, display scale, base-10000 digits.
/// Source: `numeric_send` in Postgres's `src/backend/utils/adt/numeric.c`.
pub fn encode_numeric(text: &str, out: &mut Vec<u8>) -> bool {
    match text {
        "NaN" => head(out, 0, 0, 0xC000, 0),
        "Infinity" => head(out, 0, 0, 0xD000, 0x20),
        "-Infinity" => head(out, 0, 0, 0xF000, 0x20),
        _ => return finite(text, out).is_some(),
    }
    true
}

fn finite(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let (sign, text) = text.strip_prefix('-').map_or((0, text), |rest| (0x4000, rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: Vec<u8> =
        whole.bytes().chain(fraction.bytes()).map(|b| b.wrapping_sub(b'0')).collect();
    if digits.iter().any(|&d| d > 9) {
        return None;
    }
    // The value is 0.d1d2d3… × 10^point.
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
    let scale = i32::try_from(digits.len()).ok()?.checked_sub(point)?.max(0);
    let groups = group(&digits, point);
    let first = groups.iter().position(|&g| g != 0);
    let last = groups.iter().rposition(|&g| g != 0);
    let weight = point.div_euclid(4) + i32::from(point.rem_euclid(4) != 0) - 1;
    let scale = u16::try_from(scale).ok().filter(|&s| s <= 16_383)?;
    let (Some(first), Some(last)) = (first, last) else {
        head(out, 0, 0, 0, scale);
        return Some(());
    };
    let weight = i16::try_from(weight - i32::try_from(first).ok()?).ok()?;
    let kept = groups.get(first..=last)?;
    head(out, u16::try_from(kept.len()).ok()?, weight, sign, scale);
    for digit in kept {
        out.extend_from_slice(&digit.to_be_bytes());
    }
    Some(())
}

/// Decimal digits in groups of four, aligned on the decimal point.
fn group(digits: &[u8], point: i32) -> Vec<u16> {
    let lead = usize::try_from((4 - point.rem_euclid(4)) % 4).unwrap_or_default();
    let padded: Vec<u8> = std::iter::repeat_n(0, lead).chain(digits.iter().copied()).collect();
    padded
        .chunks(4)
        .map(|chunk| {
            (0..4).fold(0, |sum, i| sum * 10 + u16::from(chunk.get(i).copied().unwrap_or_default()))
        })
        .collect()
}

fn head(out: &mut Vec<u8>, count: u16, weight: i16, sign: u16, scale: u16) {
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&scale.to_be_bytes());
}

/// Writes a number's text; returns whether it is finite (and so a JSON number).
pub(super) fn write_number(value: Value<'_>, out: &mut Vec<u8>) -> Option<bool> {
    match value.kind {
        kind::INT32 => {
            out.extend_from_slice(itoa::Buffer::new().format(value.as_i32()?).as_bytes());
        }
        kind::INT64 => {
            out.extend_from_slice(itoa::Buffer::new().format(value.as_i64()?).as_bytes());
        }
        kind::DOUBLE => {
            let number = value.as_f64()?;
            if !number.is_finite() {
                let name: &[u8] = if number.is_nan() {
                    b"NaN"
                } else if number > 0.0 {
                    b"Infinity"
                } else {
                    b"-Infinity"
                };
                out.extend_from_slice(name);
                return Some(false);
            }
            out.extend_from_slice(ryu::Buffer::new().format_finite(number).as_bytes());
        }
        _ => {
            let text = decimal128_text(value.bytes.try_into().ok()?);
            out.extend_from_slice(text.as_bytes());
            return Some(!matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity"));
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<i32> {
        let mut out = Vec::new();
        assert!(encode_numeric(text, &mut out), "{text}");
        out.chunks(2).map(|w| i32::from(u16::from_be_bytes([w[0], w[1]]).cast_signed())).collect()
    }

    #[test]
    fn numbers_have_the_layout_postgres_sends() {
        assert_eq!(words("0"), [0, 0, 0, 0]);
        assert_eq!(words("1"), [1, 0, 0, 0, 1]);
        assert_eq!(words("-12.5"), [2, 0, 0x4000, 1, 12, 5000]);
        assert_eq!(words("10000"), [1, 1, 0, 0, 1]);
        assert_eq!(words("1E+3"), [1, 0, 0, 0, 1000]);
        assert_eq!(words("0.0001"), [1, -1, 0, 4, 1]);
        assert_eq!(words("1E-5"), [1, -2, 0, 5, 1000]);
        assert_eq!(words("1.50"), [2, 0, 0, 2, 1, 5000]);
        assert_eq!(words("123456.789"), [3, 1, 0, 3, 12, 3456, 7890]);
        assert!(!encode_numeric("abc", &mut Vec::new()));
        assert!(!encode_numeric("", &mut Vec::new()));
    }
}
