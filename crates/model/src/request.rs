//! One request as the decision sees it: never the body.

use std::borrow::Cow;
use std::net::SocketAddr;

use crate::name::{Labels, Name};
use crate::resource::ListenerKind;

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

/// Who calls: the workload whose proxy decides (at an outbound listener and a gateway: its own).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Its namespace.
    pub namespace: Name,
    /// Its labels.
    pub labels: Labels,
}

/// One request.
#[derive(Clone, Copy)]
pub struct RequestMeta<'a> {
    /// Where it entered the proxy.
    pub listener: ListenerKind,
    /// Original destination of its connection; at a gateway only the port counts, and it is the
    /// port of the server.
    pub destination: SocketAddr,
    /// Who calls.
    pub source: &'a Source,
    /// Method, as sent.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Authority as sent, port included; empty if none was.
    pub authority: &'a str,
    /// Normalised path, without query (see [`normalize_path`]).
    pub path: &'a str,
    /// Query without the question mark, if there was one.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a dyn HeaderLookup,
}

impl std::fmt::Debug for RequestMeta<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}{} at {}", self.method, self.authority, self.path, self.listener.word())
    }
}

/// Splits an authority into host (lower case, without a trailing dot or brackets) and port.
pub fn split_authority(authority: &str) -> (Cow<'_, str>, Option<u16>) {
    let (host, port) = match authority.rsplit_once(':') {
        // The last colon of a bare IPv6 address is no port's.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (authority, None),
        },
        _ => (authority, None),
    };
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        (Cow::Owned(host.to_ascii_lowercase()), port)
    } else {
        (Cow::Borrowed(host), port)
    }
}

/// Splits a request target in origin form into path and query, and normalises the path as Istio's
/// `BASE` does: percent-encoded unreserved characters are decoded, hex digits upper-cased, `.` and
/// `..` segments resolved (RFC 3986, sections 5.2.4 and 6.2.2), and `\` read as `/`. Slashes are
/// not merged.
/// Borrows if nothing changes, which is nearly always.
pub fn normalize_path(target: &str) -> (Cow<'_, str>, Option<&str>) {
    let target = target.split_once('#').map_or(target, |(target, _)| target);
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    if !needs_normalizing(path) {
        return (Cow::Borrowed(path), query);
    }
    (Cow::Owned(resolve_dots(&decode_unreserved(path))), query)
}

fn needs_normalizing(path: &str) -> bool {
    path.contains(['%', '\\']) || path.split('/').any(|segment| matches!(segment, "." | ".."))
}

fn decode_unreserved(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find(['%', '\\']) {
        out.push_str(&rest[..at]);
        if rest.as_bytes()[at] == b'\\' {
            out.push('/');
            rest = &rest[at + 1..];
            continue;
        }
        let hex = rest.get(at + 1..at + 3).filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()));
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok().map(|byte| (hex, byte))) {
            Some((_, byte))
                if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') =>
            {
                out.push(char::from(byte));
                rest = &rest[at + 3..];
            }
            Some((hex, _)) => {
                out.push('%');
                out.push_str(&hex.to_ascii_uppercase());
                rest = &rest[at + 3..];
            }
            None => {
                out.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn resolve_dots(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_in_directory = false;
    for segment in path.split('/').skip(1) {
        ends_in_directory = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &segments {
        out.push('/');
        out.push_str(segment);
    }
    if ends_in_directory || out.is_empty() {
        out.push('/');
    }
    out
}

/// The first value of a query parameter, percent-decoded, `+` read as a space.
pub fn query_value<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode_query(key) == name).then(|| decode_query(value))
    })
}

fn decode_query(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(if first == b'+' { b' ' } else { first });
                rest = tail;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_once_as_istio_base() {
        for (target, path, query) in [
            ("/productpage?u=1", "/productpage", Some("u=1")),
            ("/", "/", None),
            ("/a/../b", "/b", None),
            ("/a/./b/..", "/a/", None),
            ("/%61%2fb", "/a%2Fb", None),
            ("/a%2e%2e/b", "/a../b", None),
            ("/%2e%2e/b", "/b", None),
            ("/../../x", "/x", None),
            ("/a\\..\\b", "/b", None),
            ("/a//b", "/a//b", None),
            ("/%zz%", "/%zz%", None),
            ("/a?x=/../y", "/a", Some("x=/../y")),
            ("*", "*", None),
        ] {
            let (got, got_query) = normalize_path(target);
            assert_eq!((&*got, got_query), (path, query), "{target}");
        }
    }

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
            ("", "", None),
        ] {
            let (got, got_port) = split_authority(authority);
            assert_eq!((&*got, got_port), (host, port), "{authority}");
        }
    }

    #[test]
    fn query_values_are_decoded() {
        assert_eq!(query_value("a=1&b=x%20y+z", "b").as_deref(), Some("x y z"));
        assert_eq!(query_value("a=1&a=2", "a").as_deref(), Some("1"));
        assert_eq!(query_value("a", "a").as_deref(), Some(""));
        assert_eq!(query_value("b%3D=1", "b=").as_deref(), Some("1"));
        assert_eq!(query_value("a=1", "b"), None);
    }
}
