//! Values of header operations: text with Envoy's [command operators](crate::operator).

use std::borrow::Cow;

use crate::operator::Operator;

/// A part of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// As it stands.
    Text(&'a str),
    /// Something of the request.
    Operator(Operator<'a>),
}

/// The parts of a value, in order. What is no operator stands as it is; `%%` is a percent sign.
pub fn parts(value: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = value;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(start) = rest.find('%') else {
            return Some(Part::Text(std::mem::take(&mut rest)));
        };
        if start > 0 {
            let (text, from) = rest.split_at(start);
            rest = from;
            return Some(Part::Text(text));
        }
        if let Some(from) = rest.strip_prefix("%%") {
            rest = from;
            return Some(Part::Text("%"));
        }
        if let Some((operator, from)) = Operator::at_start(rest) {
            rest = from;
            return Some(Part::Operator(operator));
        }
        let (percent, from) = rest.split_at(1);
        rest = from;
        Some(Part::Text(percent))
    })
}

/// A value with what its operators stand for; what is not known stands for nothing, as in Envoy.
pub fn expand(value: &str, known: impl Fn(Operator<'_>) -> Option<String>) -> String {
    let mut text = String::with_capacity(value.len());
    for part in parts(value) {
        match part {
            Part::Text(own) => text.push_str(own),
            Part::Operator(operator) => {
                let found = known(operator).unwrap_or_default();
                text.extend(found.chars().take(operator.length_max.unwrap_or(usize::MAX)));
            }
        }
    }
    // What came from a header is one line already; nothing else breaks one.
    text.retain(|c| !c.is_control());
    text
}

/// The value of a header that `%REQ(NAME?OTHER)%` names: the first of the two that there is.
pub fn first_of<T>(argument: &str, header: impl Fn(&str) -> Option<T>) -> Option<T> {
    argument.split('?').find_map(|name| {
        let has_upper = name.bytes().any(|byte| byte.is_ascii_uppercase());
        header(&if has_upper { name.to_ascii_lowercase().into() } else { Cow::Borrowed(name) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_stand_for_what_is_known() {
        let known = |operator: Operator<'_>| match operator.name {
            "REQ" => first_of(operator.argument, |name| (name == "x-b").then(|| "value".into())),
            "PROTOCOL" => Some("HTTP/1.1".into()),
            _ => None,
        };
        for (value, expected) in [
            ("plain", "plain"),
            ("%PROTOCOL%", "HTTP/1.1"),
            ("a %REQ(X-A?x-b)% b", "a value b"),
            ("%REQ(X-B):3%", "val"),
            ("%REQ(X-B):99999999%", "value"),
            ("%REQ(X-B):99999999999999999999%", "%REQ(X-B):99999999999999999999%"),
            ("%REQ(x-c)%", ""),
            ("%HOSTNAME%", ""),
            ("100%%", "100%"),
            ("100%", "100%"),
            ("50% off, 20% on", "50% off, 20% on"),
            ("%REQ(x-b", "%REQ(x-b"),
            ("%req(x-b)%", "%req(x-b)%"),
            ("%REQ(x-b):x%", "%REQ(x-b):x%"),
            ("%PROTOCOL%%PROTOCOL%", "HTTP/1.1HTTP/1.1"),
            ("%é%", "%é%"),
        ] {
            assert_eq!(expand(value, known), expected, "{value}");
        }
    }

    /// A header of a request cannot begin another one.
    #[test]
    fn what_it_stands_for_is_one_line() {
        assert_eq!(expand("%X%", |_| Some("a\r\nb: c\0".into())), "ab: c");
    }
}
