//! `--sort-by`: the order of objects by one of their fields.

use std::cmp::Ordering;
use std::str::FromStr;

use jiff::Timestamp;
use serde_json::Value;

use crate::output::jsonpath::{BadTemplate, JsonPath};
use crate::output::relaxed_path;

/// The field by which objects are sorted.
#[derive(Clone, Debug)]
pub(super) struct SortBy(JsonPath);

impl FromStr for SortBy {
    type Err = BadTemplate;

    fn from_str(text: &str) -> Result<Self, BadTemplate> {
        relaxed_path(text).parse().map(Self)
    }
}

impl SortBy {
    /// Sorts values by the field in what a pointer leads to; those without it come first, and equal
    /// ones stay in their order.
    pub(super) fn sort(&self, values: &mut [Value], pointer: &str) {
        values.sort_by_cached_key(|value| {
            let object = value.pointer(pointer).unwrap_or(&Value::Null);
            Key(self
                .0
                .values(object)
                .first()
                .filter(|value| !value.is_null())
                .map(|value| (*value).clone()))
        });
    }
}

/// The value of a field, in the order of its type: numbers, times and sizes before text.
#[derive(Debug)]
struct Key(Option<Value>);

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let (Some(a), Some(b)) = (&self.0, &other.0) else {
            return self.0.is_some().cmp(&other.0.is_some());
        };
        if let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) {
            return a.total_cmp(&b);
        }
        let (Some(a), Some(b)) = (a.as_str(), b.as_str()) else {
            return a.to_string().cmp(&b.to_string());
        };
        if let (Ok(a), Ok(b)) = (a.parse::<Timestamp>(), b.parse::<Timestamp>()) {
            return a.cmp(&b);
        }
        natural(a, b)
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key {}

/// Text with the numbers in it in their order, as kubectl sorts: `pod-2` before `pod-10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        match (a, b) {
            ([], _) | (_, []) => return a.len().cmp(&b.len()),
            ([x, ..], [y, ..]) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (x, rest_a) = number(a);
                let (y, rest_b) = number(b);
                let order = x.len().cmp(&y.len()).then_with(|| x.cmp(y));
                if order != Ordering::Equal {
                    return order;
                }
                (a, b) = (rest_a, rest_b);
            }
            ([x, rest_a @ ..], [y, rest_b @ ..]) => {
                if x != y {
                    return x.cmp(y);
                }
                (a, b) = (rest_a, rest_b);
            }
        }
    }
}

/// The digits at the beginning, without zeros before them, and what follows.
fn number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    (&digits[zeros..], rest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sorted(path: &str, values: Value) -> Value {
        let mut values = values.as_array().unwrap().clone();
        path.parse::<SortBy>().unwrap().sort(&mut values, "");
        Value::Array(values)
    }

    #[test]
    fn by_the_type_of_the_field() {
        for (values, expected) in [
            (json!([10, 9, 100]), json!([9, 10, 100])),
            (json!(["pod-10", "pod-9", "pod-09a"]), json!(["pod-9", "pod-09a", "pod-10"])),
            (
                json!(["2026-01-02T00:00:00Z", "2026-01-01T23:00:00-05:00"]),
                json!(["2026-01-02T00:00:00Z", "2026-01-01T23:00:00-05:00"]),
            ),
            (json!([null, "b", "a"]), json!([null, "a", "b"])),
        ] {
            let of = |values: &Value| -> Value {
                values.as_array().unwrap().iter().map(|x| json!({ "a": x })).collect()
            };
            for path in [".a", "a", "{.a}"] {
                assert_eq!(sorted(path, of(&values)), of(&expected), "{path}");
            }
        }
        assert_eq!(sorted(".a", json!([{ "a": 1 }, {}])), json!([{}, { "a": 1 }]));
        assert!("{.a".parse::<SortBy>().is_err());
    }
}
