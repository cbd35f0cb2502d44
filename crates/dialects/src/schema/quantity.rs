//! Kubernetes' quantities: `250m`, `0.5`, `64Mi`, `1e3`, as a text or as a bare number.

use std::fmt;

use serde_json::Value;

use super::{Type, Typed};

/// An amount as Kubernetes writes it: `0.5`, `500m`, `1Gi`. As it was sent, a number as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quantity(pub String);

impl Quantity {
    /// The amount in thousandths, rounded up; `None` if it is none, is negative, or is too large.
    ///
    /// Suffixes are those of Kubernetes: `n u m k M G T P E`, `Ki` to `Ei`, and exponents of ten.
    pub fn thousandths(&self) -> Option<u128> {
        let text = self.0.strip_prefix('+').unwrap_or(&self.0);
        let (whole, fraction, unit) = parts(text)?;
        if fraction.len() > FRACTION_DIGITS_MAX {
            return None;
        }
        let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
        let (binary, decimal) = scale(unit)?;
        if decimal.unsigned_abs() > EXPONENT_MAX {
            return None;
        }
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

    /// Whether a value is an amount: a number, or one as text with a suffix or an exponent.
    pub(super) fn is_one(value: &Value) -> bool {
        let Some(text) = value.as_str() else { return value.is_number() };
        let text = text.strip_prefix(['+', '-']).unwrap_or(text);
        parts(text).is_some_and(|(_, _, unit)| scale(unit).is_some())
    }
}

/// The whole number, the digits after the point, and the suffix of an amount without sign.
fn parts(text: &str) -> Option<(&str, &str, &str)> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let end = text.find(|c| !is_number(c)).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let has_digits = !(whole.is_empty() && fraction.is_empty());
    (has_digits && !fraction.contains('.')).then_some((whole, fraction, unit))
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
        _ => (0, unit.strip_prefix(['e', 'E'])?.parse::<i16>().ok()?.into()),
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

impl Typed for Quantity {
    type Ref<'a> = Self;

    const TYPE: Type = Type::Quantity;

    fn typed(value: Value) -> Self {
        match value {
            Value::String(text) => Self(text),
            value => Self(value.to_string()),
        }
    }

    fn value(&self) -> Value {
        Value::String(self.0.clone())
    }

    fn if_of_type(value: &Value) -> Option<Self> {
        Self::is_one(value).then(|| Self::typed(value.clone()))
    }

    fn absent<'a>() -> Self::Ref<'a> {
        Self::default()
    }
}

/// Digits after the point that are looked at.
const FRACTION_DIGITS_MAX: usize = 18;
/// Exponents of ten that are looked at.
const EXPONENT_MAX: u32 = 36;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::parse;

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
        let read = |value: Value| parse::<Quantity>(&value).map(|amount| amount.thousandths());
        for (value, thousandths) in [
            (json!(0.5), 500),
            (json!(2), 2_000),
            (json!(1e3), 1_000_000),
            (json!("1Gi"), 1000 << 30),
        ] {
            assert_eq!(read(value.clone()), Ok(Some(thousandths)), "{value}");
        }
        for value in [json!(true), json!("many"), json!("1.2.3"), json!({})] {
            assert!(read(value.clone()).unwrap_err().message.contains("a quantity"), "{value}");
        }
    }
}
