//! What a template makes of a value.

use serde_json::Value;

use super::{Comparison, Operand, Part, Path, Selector};

/// Renders parts; `here` is what `@` and paths without a start mean.
pub(super) fn parts(parts_of: &[Part], root: &Value, here: &Value, text: &mut String) {
    for part in parts_of {
        match part {
            Part::Text(words) => text.push_str(words),
            Part::Path(path) => {
                let found = walk(path, root, here);
                let shown: Vec<String> = found.into_iter().map(show).collect();
                text.push_str(&shown.join(" "));
            }
            Part::Range(path, inner) => {
                for item in walk(path, root, here) {
                    parts(inner, root, item, text);
                }
            }
        }
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) fn walk<'a>(path: &Path, root: &'a Value, here: &'a Value) -> Vec<&'a Value> {
    let mut found = vec![if path.from_root { root } else { here }];
    for step in &path.steps {
        found = found.into_iter().flat_map(|value| take(step, root, value)).collect();
    }
    found
}

fn take<'a>(step: &Selector, root: &'a Value, value: &'a Value) -> Vec<&'a Value> {
    match step {
        Selector::Field(name) => value.get(name).into_iter().collect(),
        Selector::All => children(value),
        Selector::Index(at) => {
            let Some(items) = value.as_array() else { return Vec::new() };
            place(*at, items.len()).and_then(|at| items.get(at)).into_iter().collect()
        }
        Selector::Slice(first, last, every) => {
            let Some(items) = value.as_array() else { return Vec::new() };
            let bound = |at: Option<i64>, default| match at {
                Some(at) => place(at, items.len()).unwrap_or(0).min(items.len()),
                None => default,
            };
            let (first, last) = (bound(*first, 0), bound(*last, items.len()));
            let every = usize::try_from(*every).unwrap_or(usize::MAX);
            items.get(first..last).into_iter().flatten().step_by(every).collect()
        }
        Selector::Descend => {
            let mut all = vec![value];
            let mut next = 0;
            while next < all.len() {
                all.extend(children(all[next]));
                next += 1;
            }
            all
        }
        Selector::Union(steps) => steps.iter().flat_map(|step| take(step, root, value)).collect(),
        Selector::Filter(left, right) => children(value)
            .into_iter()
            .filter(|item| holds(left, right.as_ref(), root, item))
            .collect(),
    }
}

/// An index counted from the end if it is negative.
fn place(at: i64, length: usize) -> Option<usize> {
    match usize::try_from(at) {
        Ok(at) => Some(at),
        Err(_) => length.checked_sub(usize::try_from(at.unsigned_abs()).ok()?),
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    }
}

fn holds(
    left: &Operand,
    right: Option<&(Comparison, Operand)>,
    root: &Value,
    here: &Value,
) -> bool {
    let value = |operand: &Operand| match operand {
        Operand::Value(value) => Some(value.clone()),
        Operand::Path(path) => walk(path, root, here).first().copied().cloned(),
    };
    let Some(left) = value(left) else { return false };
    let Some((comparison, right)) = right else { return true };
    value(right).is_some_and(|right| compare(&left, *comparison, &right))
}

fn compare(left: &Value, comparison: Comparison, right: &Value) -> bool {
    let order = match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    };
    match comparison {
        Comparison::Equal => left == right || order.is_some_and(|order| order.is_eq()),
        Comparison::NotEqual => left != right && order.is_none_or(|order| order.is_ne()),
        Comparison::Less => order.is_some_and(|order| order.is_lt()),
        Comparison::LessOrEqual => order.is_some_and(|order| order.is_le()),
        Comparison::Greater => order.is_some_and(|order| order.is_gt()),
        Comparison::GreaterOrEqual => order.is_some_and(|order| order.is_ge()),
    }
}
