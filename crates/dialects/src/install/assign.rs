//! Values given on a command line, as Helm and istioctl take them: `a.b[0].c=VALUE`.

use serde_json::{Value, json};

/// An assignment that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--set {text:?}: {why}")]
pub struct BadAssignment {
    text: String,
    why: &'static str,
}

/// Sets one value: `PATH=VALUE`. In the path dots lead on, `\.` is a dot of a name, `[N]` an element.
///
/// # Limits
///
/// At most 64 steps, and elements up to 1 000.
///
/// # Errors
///
/// If there is no `=`, a step of the path is empty, or an index is none.
pub fn assign(values: &mut Value, text: &str) -> Result<(), BadAssignment> {
    let bad = |why| BadAssignment { text: text.to_owned(), why };
    let at = end_of(text, &['=']).ok_or(bad("there is no ="))?;
    let value = scalar(&text[at + 1..]);
    let steps = steps(&text[..at]).map_err(bad)?;
    let mut place = values;
    for step in steps {
        place = match step {
            Step::Field(name) => {
                if !place.is_object() {
                    *place = json!({});
                }
                &mut place[name.as_str()]
            }
            Step::Element(index) => {
                if !place.is_array() {
                    *place = json!([]);
                }
                let Some(list) = place.as_array_mut() else { return Ok(()) };
                while list.len() <= index {
                    list.push(Value::Null);
                }
                &mut list[index]
            }
        };
    }
    *place = value;
    Ok(())
}

/// Sets the values of a text with commas between them, as Helm's `--set` has it.
///
/// # Errors
///
/// As [`assign`].
pub fn assign_all(values: &mut Value, text: &str) -> Result<(), BadAssignment> {
    let mut rest = text;
    while !rest.is_empty() {
        let end = end_of(rest, &[',']).unwrap_or(rest.len());
        assign(values, &rest[..end])?;
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    Ok(())
}

enum Step {
    Field(String),
    Element(usize),
}

fn steps(path: &str) -> Result<Vec<Step>, &'static str> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let end = end_of(rest, &['.', '[']).unwrap_or(rest.len());
        let name = unescaped(&rest[..end]);
        let is_element = rest[end..].starts_with('[');
        if !name.is_empty() {
            steps.push(Step::Field(name));
        } else if !is_element || steps.is_empty() {
            return Err("a name is empty");
        }
        rest = &rest[end..];
        if is_element {
            let close = rest.find(']').ok_or("a [ has no ]")?;
            let index = rest[1..close].parse().map_err(|_| "between [ and ] must be a number")?;
            if index > ELEMENTS_MAX {
                return Err("an index is too large");
            }
            steps.push(Step::Element(index));
            rest = &rest[close + 1..];
        }
        match rest.strip_prefix('.') {
            Some("") => return Err("a name is empty"),
            Some(more) => rest = more,
            None if rest.is_empty() || rest.starts_with('[') => {}
            None => return Err("behind ] must come . or ="),
        }
    }
    match steps.len() {
        0 => Err("a name is empty"),
        many if many > STEPS_MAX => Err("the path is too long"),
        _ => Ok(steps),
    }
}

/// Where one of these characters first stands, not escaped and not between braces.
fn end_of(text: &str, ends: &[char]) -> Option<usize> {
    let (mut escaped, mut depth) = (false, 0_usize);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            c if depth == 0 && ends.contains(&c) => return Some(at),
            _ => {}
        }
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or('\\') } else { c });
    }
    out
}

/// A value: a list between braces, a word of YAML, a whole number, or text.
fn scalar(text: &str) -> Value {
    if let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        return inner.split(',').filter(|item| !item.is_empty()).map(scalar).collect();
    }
    match text {
        "true" => json!(true),
        "false" => json!(false),
        "null" => Value::Null,
        _ => match text.parse::<i64>() {
            Ok(number) if number == 0 || !text.trim_start_matches('-').starts_with('0') => {
                json!(number)
            }
            _ => json!(unescaped(text)),
        },
    }
}

/// Steps of a path.
const STEPS_MAX: usize = 64;
/// Largest index.
const ELEMENTS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_helm_reads_them() {
        for (text, expected) in [
            ("a=1", json!({"a": 1})),
            ("a.b=x,a.c=true", json!({"a": {"b": "x", "c": true}})),
            (
                r"sel.beta\.kubernetes\.io/os=linux",
                json!({"sel": {"beta.kubernetes.io/os": "linux"}}),
            ),
            ("a[1].b=x", json!({"a": [null, {"b": "x"}]})),
            ("a={x,y}", json!({"a": ["x", "y"]})),
            (r"a=x\,y", json!({"a": "x,y"})),
            ("a=", json!({"a": ""})),
            ("a=b=c", json!({"a": "b=c"})),
            ("a=007,b=-3,c=0,d=null", json!({"a": "007", "b": -3, "c": 0, "d": null})),
            ("a=1,a.b=2", json!({"a": {"b": 2}})),
        ] {
            let mut values = json!({});
            assign_all(&mut values, text).unwrap();
            assert_eq!(values, expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_assignment_is_said() {
        for (text, why) in [
            ("a", "there is no ="),
            ("=1", "a name is empty"),
            ("a..b=1", "a name is empty"),
            ("a.=1", "a name is empty"),
            ("[0]=1", "a name is empty"),
            ("a[x]=1", "between [ and ] must be a number"),
            ("a[0=1", "a [ has no ]"),
            ("a[0]b=1", "behind ] must come . or ="),
            ("a[4000000000]=1", "an index is too large"),
        ] {
            let error = assign_all(&mut json!({}), text).unwrap_err();
            assert_eq!(error.to_string(), format!("--set {text:?}: {why}"));
        }
        assert!(assign(&mut json!({}), &format!("{}a=1", "a.".repeat(100_000))).is_err());
    }
}
