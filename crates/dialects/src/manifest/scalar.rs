//! Plain scalars as `kubectl` reads them: YAML 1.1 as far as go-yaml v2 has it.

use serde_json::{Number, Value};

/// The value of a plain (unquoted) scalar.
pub(super) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            Value::Bool(false)
        }
        _ => number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let negative = text.starts_with('-');
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let digits = unsigned.replace('_', "");
    let radix = match digits.as_bytes() {
        [b'0', b'x', ..] => Some((16, 2)),
        [b'0', b'b', ..] => Some((2, 2)),
        [b'0', b'o', ..] => Some((8, 2)),
        [b'0', b'0'..=b'7', ..] => Some((8, 1)),
        _ => None,
    };
    let integer = match radix {
        Some((radix, skip)) => u64::from_str_radix(&digits[skip..], radix).ok(),
        None => digits.parse().ok(),
    };
    match integer {
        Some(value) if !negative => return Some(value.into()),
        Some(value) => return 0i64.checked_sub_unsigned(value).map(Number::from),
        None => {}
    }
    if !digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
    {
        return None;
    }
    let value: f64 = digits.parse().ok()?;
    let value = if negative { -value } else { value };
    // As in JSON made by Go: 1.0 is the number 1.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        return Some(Number::from(value as i64));
    }
    Number::from_f64(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_are_what_kubectl_makes_of_them() {
        for (text, value) in [
            ("", json!(null)),
            ("~", json!(null)),
            ("yes", json!(true)),
            ("off", json!(false)),
            ("y", json!("y")),
            ("12", json!(12)),
            ("-3", json!(-3)),
            ("0644", json!(420)),
            ("0x1F", json!(31)),
            ("1_000", json!(1000)),
            ("1.5", json!(1.5)),
            ("1.0", json!(1)),
            ("1e3", json!(1000)),
            (".5", json!(0.5)),
            ("18446744073709551615", json!(u64::MAX)),
            ("1.2.3", json!("1.2.3")),
            ("10.0.0.1", json!("10.0.0.1")),
            ("900m", json!("900m")),
            ("12:30", json!("12:30")),
            ("2024-01-01", json!("2024-01-01")),
            ("inf", json!("inf")),
            (".inf", json!(".inf")),
            ("-", json!("-")),
            ("1_", json!(1)),
            ("v1", json!("v1")),
        ] {
            assert_eq!(plain(text), value, "{text:?}");
        }
    }
}
