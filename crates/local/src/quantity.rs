//! Kubernetes' quantities: `250m`, `0.5`, `64Mi`, `1e3`, as text or as a bare number.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error};
use serde_json::Value;

/// An amount of a resource as it was written. Any number or text can be one; whether the text
/// means an amount is known by [`thousandths`](Self::thousandths).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quantity(String);

impl Quantity {
    /// The amount in thousandths, rounded up; `None` if it is none, is negative, or is too large.
    ///
    /// Suffixes are those of Kubernetes: `n u m k M G T P E`, `Ki` to `Ei`, and exponents of ten.
    pub(crate) fn thousandths(&self) -> Option<u128> {
        let text = self.0.strip_prefix('+').unwrap_or(&self.0);
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let split = text.find(|c| !is_number(c)).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.len() > FRACTION_DIGITS_MAX {
            return None;
        }
        let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
        let (binary, decimal) = scale(unit)?;
        let exponent = decimal + 3 - i32::try_from(fraction.len()).ok()?;
        let digits = digits.checked_mul(1 << binary)?;
        let power = 10_u128.checked_pow(exponent.unsigned_abs());
        match power {
            Some(power) if exponent >= 0 => digits.checked_mul(power),
            Some(power) => Some(digits.div_ceil(power)),
            None if digits == 0 => Some(0),
            // Far below a thousandth, or far above what there is.
            None => (exponent < 0).then_some(1),
        }
    }
}

/// What a suffix stands for: powers of two and of ten.
fn scale(unit: &str) -> Option<(u32, i32)> {
    Some(match unit {
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "" => (0, 0),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        _ => {
            let exponent = unit.strip_prefix(['e', 'E'])?;
            (0, exponent.parse().ok().filter(|e: &i32| e.unsigned_abs() <= EXPONENT_MAX)?)
        }
    })
}

impl From<&str> for Quantity {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Number(number) => Ok(Self(number.to_string())),
            Value::String(text) => Ok(Self(text)),
            other => Err(D::Error::custom(format!("{other} is no quantity, such as 500m or 64Mi"))),
        }
    }
}

/// Digits after the point that are looked at.
const FRACTION_DIGITS_MAX: usize = 18;
/// Exponents of ten that are looked at.
const EXPONENT_MAX: u32 = 36;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_in_every_notation() {
        for (text, thousandths) in [
            ("0.5", Some(500)),
            ("250m", Some(250)),
            ("1.5", Some(1_500)),
            (".5", Some(500)),
            ("+2", Some(2_000)),
            ("1e3", Some(1_000_000)),
            ("1E3", Some(1_000_000)),
            ("1E", Some(10_u128.pow(21))),
            ("12e-1", Some(1_200)),
            ("1P", Some(10_u128.pow(18))),
            ("1Pi", Some(1000 << 50)),
            ("64Mi", Some(1000 * (64 << 20))),
            ("100n", Some(1)),
            ("0", Some(0)),
            ("0e-30", Some(0)),
            ("", None),
            (".", None),
            ("m", None),
            ("-1", None),
            ("1Zi", None),
            ("1e99", None),
            ("many", None),
        ] {
            assert_eq!(Quantity::from(text).thousandths(), thousandths, "{text}");
        }
    }

    #[test]
    fn numbers_and_texts_are_read_alike() {
        let read = |text: &str| serde_json::from_str::<Quantity>(text);
        assert_eq!(read("0.5").unwrap().thousandths(), Some(500));
        assert_eq!(read("2").unwrap().thousandths(), Some(2_000));
        assert_eq!(read("1e3").unwrap().thousandths(), Some(1_000_000));
        assert_eq!(read("\"1Gi\"").unwrap().thousandths(), Some(1000 << 30));
        assert!(read("true").unwrap_err().to_string().contains("no quantity"));
    }
}
