//! Values of header operations: text with Envoy's command operators (`%REQ(x)%`), which stand for what
//! is known of the request.

/// A part of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// As it stands.
    Text(&'a str),
    /// Something of the request.
    Operator(Operator<'a>),
}

/// An operator: `%NAME%`, `%NAME(ARGUMENT)%`, `%NAME(ARGUMENT):LENGTH%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operator<'a> {
    /// Its name.
    pub name: &'a str,
    /// What is between the parentheses; empty without.
    pub argument: &'a str,
    /// Characters of what it stands for; the rest is left out.
    length_max: Option<usize>,
}

/// Operators of which the proxy knows what they stand for.
pub const KNOWN: [&str; 24] = [
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_DIRECT_REMOTE_PORT",
    "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_PORT",
    "DOWNSTREAM_PEER_URI_SAN",
    "DOWNSTREAM_REMOTE_ADDRESS",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_REMOTE_PORT",
    "HOSTNAME",
    "PROTOCOL",
    "REQ",
    "REQUESTED_SERVER_NAME",
    "REQUEST_HEADER",
    "RESP",
    "RESPONSE_CODE",
    "RESPONSE_HEADER",
    "ROUTE_NAME",
    "START_TIME",
    "UPSTREAM_CLUSTER",
    "UPSTREAM_HOST",
    "UPSTREAM_REMOTE_ADDRESS",
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
];

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
        if let Some((operator, from)) = operator(rest) {
            rest = from;
            return Some(Part::Operator(operator));
        }
        let (percent, from) = rest.split_at(1);
        rest = from;
        Some(Part::Text(percent))
    })
}

/// The operator that a text begins with, and what follows it.
fn operator(text: &str) -> Option<(Operator<'_>, &str)> {
    let inside = text.strip_prefix('%')?;
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let (name, mut rest) = inside.split_at(inside.find(|c| !is_name(c))?);
    let mut argument = "";
    if let Some(from) = rest.strip_prefix('(') {
        (argument, rest) = from.split_once(')')?;
    }
    let mut length_max = None;
    if let Some(from) = rest.strip_prefix(':') {
        let digits = from.find(|c: char| !c.is_ascii_digit())?;
        length_max = Some(from[..digits].parse().ok()?);
        rest = &from[digits..];
    }
    let rest = rest.strip_prefix('%')?;
    (!name.is_empty()).then_some((Operator { name, argument, length_max }, rest))
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
pub fn first_of(argument: &str, header: impl Fn(&str) -> Option<String>) -> Option<String> {
    argument.split('?').find_map(|name| header(&name.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_stand_for_what_is_known() {
        let known = |operator: Operator<'_>| match operator.name {
            "REQ" => {
                first_of(operator.argument, |name| (name == "x-b").then(|| "value".to_owned()))
            }
            "PROTOCOL" => Some("HTTP/1.1".to_owned()),
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
        assert_eq!(expand("%X%", |_| Some("a\r\nb: c\0".to_owned())), "ab: c");
    }

    #[test]
    fn names_are_known_in_order() {
        assert!(KNOWN.is_sorted());
    }
}
