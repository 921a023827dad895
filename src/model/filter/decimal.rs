//! Decimal128 as a number to compare: IEEE 754-2008, with the coefficient as a binary integer.

use std::cmp::Ordering;
use std::fmt::{self, Write};

/// The most digits that one holds.
const DIGITS: u32 = 34;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decimal {
    NaN,
    Infinite {
        is_negative: bool,
    },
    /// `coefficient · 10 ^ exponent`.
    Finite {
        is_negative: bool,
        coefficient: u128,
        exponent: i32,
    },
}

impl Decimal {
    pub fn of_bytes(bytes: [u8; 16]) -> Self {
        const EXPONENT_BITS: u128 = (1 << 14) - 1;
        let bits = u128::from_le_bytes(bytes);
        let is_negative = bits >> 127 == 1;
        match bits >> 122 & 0b11111 {
            0b11111 => return Self::NaN,
            0b11110 => return Self::Infinite { is_negative },
            _ => {}
        }
        // With both bits set the coefficient has more digits than there may be: that is zero.
        let is_large = bits >> 125 & 0b11 == 0b11;
        let (at, mask) = if is_large { (111, 0) } else { (113, (1 << 113) - 1) };
        let coefficient = Some(bits & mask).filter(|number| *number < 10_u128.pow(DIGITS));
        let exponent = i32::try_from(bits >> at & EXPONENT_BITS).unwrap_or_default() - 6176;
        Self::Finite { is_negative, coefficient: coefficient.unwrap_or_default(), exponent }
    }

    pub fn of_whole(number: i64) -> Self {
        let coefficient = number.unsigned_abs().into();
        Self::Finite { is_negative: number < 0, coefficient, exponent: 0 }
    }

    /// Rounded to as many digits as there may be, as the server does before it compares.
    pub fn of_double(number: f64) -> Self {
        let is_negative = number.is_sign_negative();
        if number.is_nan() {
            return Self::NaN;
        }
        if number.is_infinite() {
            return Self::Infinite { is_negative };
        }
        let mut digits = Digits::default();
        let _ = write!(digits, "{:.*e}", 33, number.abs());
        let Digits { coefficient, exponent, .. } = digits;
        let exponent = exponent.signed() - 33;
        Self::Finite { is_negative, coefficient, exponent }
    }

    pub const fn is_nan(&self) -> bool {
        matches!(self, Self::NaN)
    }

    /// What is no number comes before all that are.
    pub fn order(&self, other: &Self) -> Ordering {
        self.sign().cmp(&other.sign()).then_with(|| match (self, other) {
            (
                Self::Finite { is_negative, coefficient, exponent },
                Self::Finite { coefficient: other, exponent: others, .. },
            ) => {
                let magnitudes =
                    magnitude(*coefficient, *exponent).cmp(&magnitude(*other, *others));
                if *is_negative { magnitudes.reverse() } else { magnitudes }
            }
            _ => Ordering::Equal,
        })
    }

    const fn sign(&self) -> i8 {
        match self {
            Self::NaN => -3,
            Self::Infinite { is_negative: true } => -2,
            Self::Finite { coefficient: 0, .. } => 0,
            Self::Finite { is_negative: true, .. } => -1,
            Self::Finite { .. } => 1,
            Self::Infinite { .. } => 2,
        }
    }
}

/// Where the first digit stands, and all digits, as many as there may be.
const fn magnitude(coefficient: u128, exponent: i32) -> (i32, u128) {
    if coefficient == 0 {
        return (0, 0);
    }
    let digits = coefficient.ilog10() + 1;
    let missing = DIGITS.saturating_sub(digits);
    (exponent.saturating_add(digits.cast_signed()), coefficient * 10_u128.pow(missing))
}

/// Reads what `{:e}` writes of a number that is not negative.
#[derive(Default)]
struct Digits {
    coefficient: u128,
    exponent: Exponent,
    is_exponent: bool,
}

#[derive(Default)]
struct Exponent {
    is_negative: bool,
    number: i32,
}

impl Exponent {
    const fn signed(&self) -> i32 {
        if self.is_negative { -self.number } else { self.number }
    }
}

impl Write for Digits {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            match byte {
                b'e' => self.is_exponent = true,
                b'-' => self.exponent.is_negative = true,
                b'0'..=b'9' if self.is_exponent => {
                    self.exponent.number = self.exponent.number * 10 + i32::from(byte - b'0');
                }
                b'0'..=b'9' => {
                    self.coefficient = self.coefficient * 10 + u128::from(byte - b'0');
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Decimal {
        Decimal::of_bytes(text.parse::<bson::Decimal128>().unwrap().bytes())
    }

    #[test]
    fn what_is_written_otherwise_is_the_same_number() {
        let ascending = [
            of("NaN"),
            of("-Infinity"),
            Decimal::of_double(f64::MIN),
            of("-9223372036854775808"),
            of("-1.5"),
            of("-1E-6176"),
            of("-0"),
            of("1E-6176"),
            Decimal::of_double(5e-324),
            of("0.1"),
            Decimal::of_double(0.1),
            of("1.000"),
            of("9007199254740993"),
            of("9.999999999999999999999999999999999E+6144"),
            of("Infinity"),
        ];
        for (place, one) in ascending.iter().enumerate() {
            for (other_place, other) in ascending.iter().enumerate() {
                assert_eq!(one.order(other), place.cmp(&other_place), "{one:?} {other:?}");
            }
        }
        let same = [
            (of("0E+3"), of("-0.00")),
            (of("1"), of("1.000")),
            (of("10E+1"), Decimal::of_whole(100)),
            (of("-9223372036854775808"), Decimal::of_whole(i64::MIN)),
            (of("0.5"), Decimal::of_double(0.5)),
            (of("0.1000000000000000055511151231257827"), Decimal::of_double(0.1)),
            (of("-Infinity"), Decimal::of_double(f64::NEG_INFINITY)),
            (of("NaN"), Decimal::of_double(f64::NAN)),
        ];
        for (one, other) in same {
            assert_eq!(one.order(&other), Ordering::Equal, "{one:?} {other:?}");
        }
    }
}
