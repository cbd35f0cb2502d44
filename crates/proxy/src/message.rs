//! Heads of messages, the same for HTTP/1 and HTTP/2, so that either codec can read what the other
//! writes.
//!
//! A head owns its bytes and is used again for the next message: a connection in its steady state
//! allocates nothing for them. Field names are lower case always. The authority of a request is
//! kept apart from the fields, as HTTP/2 has it; a `host` field never stands among them.

use std::borrow::Cow;
use std::fmt;

use ironmesh_model::HeaderLookup;

use crate::words::has_upper;

/// Where a piece of text stands in a byte store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    fn of(self, bytes: &[u8]) -> &[u8] {
        let start = self.start as usize;
        bytes.get(start..start + self.len as usize).unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug)]
struct Field {
    name: Span,
    value: Span,
}

/// Header or trailer fields in order, names in lower case.
#[derive(Clone, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    fields: Vec<Field>,
}

impl Fields {
    /// Forgets all fields; keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
    }

    /// Bytes of memory for names and values.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// All fields in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + DoubleEndedIterator {
        self.fields.iter().map(|f| (f.name.of(&self.bytes), f.value.of(&self.bytes)))
    }

    /// The first value of a field.
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(n, _)| *n == name.as_bytes()).map(|(_, v)| v)
    }

    /// All values of a field, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(n, _)| *n == name.as_bytes()).map(|(_, v)| v)
    }

    /// Whether there is such a field.
    pub fn contains(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// Adds a field at the end; the name is written in lower case.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let to_lower = has_upper(name);
        let name = self.store(name);
        if to_lower {
            self.bytes[name.start as usize..].make_ascii_lowercase();
        }
        let value = self.store(value);
        self.fields.push(Field { name, value });
    }

    /// Removes all fields of this name; tells whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        // Most often there is none, and looking for one costs a third of keeping all.
        self.contains(name) && self.retain(|n, _| n != name.as_bytes())
    }

    /// Keeps the fields for which `keep` says so; tells whether one was removed.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) -> bool {
        let Self { bytes, fields } = self;
        let before = fields.len();
        fields.retain(|f| keep(f.name.of(bytes), f.value.of(bytes)));
        fields.len() != before
    }

    /// Replaces all fields of this name by one.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        self.remove(name);
        self.push(name.as_bytes(), value);
    }

    /// Appends to the last value of a field, after a comma, or adds the field.
    pub fn append(&mut self, name: &str, value: &[u8]) {
        let last = self.iter().rposition(|(n, _)| n == name.as_bytes());
        let Some(at) = last else { return self.push(name.as_bytes(), value) };
        let old = self.fields[at].value;
        let start = self.bytes.len();
        self.bytes.extend_from_within(old.start as usize..(old.start + old.len) as usize);
        self.bytes.push(b',');
        self.bytes.extend_from_slice(value);
        self.fields[at].value = self.span_from(start);
    }

    fn store(&mut self, text: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text);
        self.span_from(start)
    }

    /// Offsets are 32 bits: a head is bounded by `head_bytes_max`, far below.
    fn span_from(&self, start: usize) -> Span {
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Span { start: narrow(start), len: narrow(self.bytes.len() - start) }
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.iter().map(|(n, v)| (String::from_utf8_lossy(n), String::from_utf8_lossy(v))),
            )
            .finish()
    }
}

impl HeaderLookup for Fields {
    fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut values = self.iter().filter(|(n, _)| *n == name.as_bytes()).map(|(_, v)| v);
        let first = String::from_utf8_lossy(values.next()?);
        let separator = if name == "cookie" { "; " } else { "," };
        Some(values.fold(first, |all, value| {
            Cow::Owned(format!("{all}{separator}{}", String::from_utf8_lossy(value)))
        }))
    }
}

/// Version of HTTP that a message came by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
}

impl Version {
    /// As an access log writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// Head of a request.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// Version that it came by.
    pub version: Version,
    /// Header fields, without `host`.
    pub fields: Fields,
    method: String,
    target: String,
    authority: String,
    https: bool,
}

impl RequestHead {
    /// Forgets everything; keeps the memory.
    pub fn clear(&mut self) {
        self.version = Version::default();
        self.fields.clear();
        self.method.clear();
        self.target.clear();
        self.authority.clear();
        self.https = false;
    }

    /// Method, as sent.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Path and query in origin form, or `*`; as sent for other forms.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Authority: the `host` field of HTTP/1, `:authority` of HTTP/2; empty if none was sent.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Scheme of the target: `https` if the sender wrote it out (RFC 9112, section 3.2.2), else
    /// `http`.
    pub fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// Says whether the sender wrote out the scheme `https`.
    pub fn set_https(&mut self, https: bool) {
        self.https = https;
    }

    /// Replaces the method.
    pub fn set_method(&mut self, method: &str) {
        replace(&mut self.method, method);
    }

    /// Replaces the target.
    pub fn set_target(&mut self, target: &str) {
        replace(&mut self.target, target);
    }

    /// Replaces the authority.
    pub fn set_authority(&mut self, authority: &str) {
        replace(&mut self.authority, authority);
    }

    /// Whether it is gRPC, whose local answers are trailers-only (gRPC over HTTP/2, "Responses").
    pub fn is_grpc(&self) -> bool {
        self.fields.first("content-type").is_some_and(|value| {
            value
                .strip_prefix(b"application/grpc")
                .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
        })
    }

    /// Whether sending it twice does what sending it once does (RFC 9110, section 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        matches!(&*self.method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
    }
}

/// Head of a response.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// Version that it came by.
    pub version: Version,
    /// Status code.
    pub status: u16,
    /// Header fields.
    pub fields: Fields,
    reason: Vec<u8>,
}

impl ResponseHead {
    /// A head without fields.
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// Forgets everything; keeps the memory.
    pub fn clear(&mut self) {
        self.version = Version::default();
        self.status = 0;
        self.fields.clear();
        self.reason.clear();
    }

    /// Reason phrase of HTTP/1; empty if there was none.
    pub fn reason(&self) -> &[u8] {
        &self.reason
    }

    /// Replaces the reason phrase.
    pub fn set_reason(&mut self, reason: &[u8]) {
        self.reason.clear();
        self.reason.extend_from_slice(reason);
    }

    /// Whether another head follows for the same request (RFC 9110, section 15.2); 101 is an end.
    pub fn is_informational(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

fn replace(text: &mut String, by: &str) {
    text.clear();
    text.push_str(by);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_edited_in_order() {
        let mut fields = Fields::default();
        for (name, value) in [("Host", "a"), ("Via", "x"), ("VIA", "y"), ("cookie", "c")] {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        assert_eq!(HeaderLookup::value(&fields, "via").as_deref(), Some("x,y"));
        fields.append("via", b"z");
        assert_eq!(HeaderLookup::value(&fields, "via").as_deref(), Some("x,y,z"));
        fields.set("host", b"b");
        assert!(fields.remove("cookie"));
        assert!(!fields.remove("cookie"));
        let all: Vec<_> = fields.iter().collect();
        let expected: [(&[u8], &[u8]); 3] = [(b"via", b"x"), (b"via", b"y,z"), (b"host", b"b")];
        assert_eq!(all, expected);
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        for (value, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let mut head = RequestHead::default();
            head.fields.push(b"content-type", value.as_bytes());
            assert_eq!(head.is_grpc(), is, "{value}");
        }
    }
}
