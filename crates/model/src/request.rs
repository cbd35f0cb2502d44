//! Reading requests as decisions need them: headers, authority and query.

use std::borrow::Cow;

/// Reads headers of a request by lower-case name.
pub trait HeaderLookup {
    /// The value of a header; several joined by `,` as Envoy does, cookies by `; ` (RFC 9113,
    /// section 8.2.3). Bytes that are not UTF-8 become U+FFFD.
    fn value(&self, name: &str) -> Option<Cow<'_, str>>;
}

/// No headers at all.
#[derive(Clone, Copy, Debug)]
pub struct NoHeaders;

impl HeaderLookup for NoHeaders {
    fn value(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

/// A list of headers, for tests and `explain`.
impl HeaderLookup for Vec<(String, String)> {
    fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut values = self.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v);
        let first = values.next()?;
        let separator = if name == "cookie" { "; " } else { "," };
        Some(values.fold(Cow::Borrowed(first.as_str()), |all, value| {
            Cow::Owned(format!("{all}{separator}{value}"))
        }))
    }
}

/// Splits an authority into host (lower case, without a trailing dot or brackets) and port.
pub fn split_authority(authority: &str) -> (Cow<'_, str>, Option<u16>) {
    let (host, port) = match split_port(authority) {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    // Nearly every host is a name in lower case, without any of :;<=>?@A-Z[\].
    if !host.bytes().any(|byte| (b':'..=b']').contains(&byte)) {
        return (Cow::Borrowed(before_last(host, b'.').unwrap_or(host)), port);
    }
    // The last colon of a bare IPv6 address is no port's.
    let is_bare = host.contains(':') && !host.ends_with(']');
    let (host, port) = if is_bare { (authority, None) } else { (host, port) };
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let host = before_last(host, b'.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        (Cow::Owned(host.to_ascii_lowercase()), port)
    } else {
        (Cow::Borrowed(host), port)
    }
}

/// What is before the last colon and the port behind it, which is of digits only (RFC 3986, section
/// 3.2.3).
fn split_port(authority: &str) -> Option<(&str, u16)> {
    let bytes = authority.as_bytes();
    let (mut at, mut port, mut unit) = (bytes.len(), 0u32, 1u32);
    while at > 0 && bytes[at - 1].is_ascii_digit() {
        at -= 1;
        port = unit.checked_mul(u32::from(bytes[at] - b'0'))?.checked_add(port)?;
        unit = unit.saturating_mul(10);
    }
    let host = before_last(&authority[..at], b':')?;
    let port = u16::try_from(port).ok().filter(|_| at < bytes.len());
    Some((host, port?))
}

/// What is before the last character, if that is this one of ASCII. (`strip_suffix` calls `memcmp`.)
fn before_last(text: &str, last: u8) -> Option<&str> {
    if text.as_bytes().last() == Some(&last) { text.get(..text.len() - 1) } else { None }
}

/// The first value of a query parameter, as it was sent: as for Envoy, `a%62` is not `ab`.
pub(crate) fn query_value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.into_iter().find_map(|(key, value)| (key == name).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_split() {
        for (authority, host, port) in [
            ("reviews", "reviews", None),
            ("Reviews:9080", "reviews", Some(9080)),
            ("reviews.default.", "reviews.default", None),
            ("[::1]:80", "::1", Some(80)),
            ("[::1]", "::1", None),
            ("10.0.0.1:80", "10.0.0.1", Some(80)),
            ("host:http", "host:http", None),
            ("host:+80", "host:+80", None),
            ("host:65536", "host:65536", None),
            ("host:", "host:", None),
            ("a:b:80", "a:b:80", None),
            ("::1", "::1", None),
            ("80", "80", None),
            (":80", "", Some(80)),
            ("[::1]:", "[::1]:", None),
            ("h\u{e9}:80", "h\u{e9}", Some(80)),
            ("", "", None),
        ] {
            let (got, got_port) = split_authority(authority);
            assert_eq!((&*got, got_port), (host, port), "{authority}");
        }
    }

    #[test]
    fn values_of_one_header_are_joined_as_the_proxy_joins_them() {
        let pairs = [("x-a", "1"), ("Cookie", "a=1"), ("X-A", "2"), ("cookie", "b=2")];
        let headers: Vec<(String, String)> =
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(headers.value("x-a").as_deref(), Some("1,2"));
        assert_eq!(headers.value("cookie").as_deref(), Some("a=1; b=2"));
        assert_eq!(headers.value("x-b"), None);
    }

    #[test]
    fn a_parameter_is_taken_as_it_was_sent() {
        for (query, name, value) in [
            ("a=1&b=x%20y+z", "b", Some("x%20y+z")),
            ("a=1&a=2", "a", Some("1")),
            ("a", "a", Some("")),
            ("a=b=c", "a", Some("b=c")),
            ("%61=1&ab=2", "a", None),
        ] {
            assert_eq!(query_value(query, name), value, "{query} {name}");
        }
    }
}
