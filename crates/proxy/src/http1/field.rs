//! Field lines (RFC 9112, section 5), and which fields a proxy forwards.

use crate::message::Fields;
use crate::words::has_control;

use super::error::HeadError;
use super::name::Known;

/// A field line taken apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    pub(super) known: Known,
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
}

/// Takes a field line apart: `field-name ":" OWS field-value OWS`, without its CRLF.
pub(super) fn parse_line(line: &[u8]) -> Result<Line<'_>, HeadError> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(HeadError::FoldedLine);
    }
    let colon = line.iter().position(|b| !is_token(*b)).ok_or(HeadError::FieldName)?;
    match line[colon] {
        b':' if colon > 0 => {}
        b' ' | b'\t' if line[colon..].trim_ascii_start().starts_with(b":") => {
            return Err(HeadError::SpaceBeforeColon);
        }
        _ => return Err(HeadError::FieldName),
    }
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    // `trim_ascii` takes more than OWS, so the check is of all that follows the colon.
    if has_control(&line[colon + 1..]) {
        return Err(HeadError::FieldValue);
    }
    Ok(Line { known: Known::of(name), name, value })
}

/// The members of a list-valued field (RFC 9110, section 5.6.1), without empty ones.
pub(super) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// Whether a byte may be in a token (RFC 9110, section 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// Removes what concerns one connection only: the fields of RFC 9110, section 7.6.1, and those that
/// `Connection` names.
///
/// Names on which routing, trust or the meaning of the message depend stay even if `Connection`
/// names them, so that a client cannot strip what a proxy before us has set: only fields that
/// nobody has standardised as end-to-end go.
pub fn remove_hop_by_hop(fields: &mut Fields) {
    let nominated: Vec<Vec<u8>> = fields
        .all("connection")
        .flat_map(members)
        .filter(|name| may_be_nominated(name))
        .map(<[u8]>::to_ascii_lowercase)
        .collect();
    fields.retain(|name, _| {
        !Known::of(name).is_hop_by_hop() && !nominated.iter().any(|other| other == name)
    });
}

fn may_be_nominated(name: &[u8]) -> bool {
    let is_option = ["close", "keep-alive", "upgrade", "te", "http2-settings"];
    let starts = |prefix: &str| {
        name.get(..prefix.len()).is_some_and(|s| s.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    !KEPT.iter().chain(&is_option).any(|kept| kept.as_bytes().eq_ignore_ascii_case(name))
        && !KEPT_PREFIXES.iter().any(|prefix| starts(prefix))
}

/// Fields that `Connection` cannot make hop-by-hop.
const KEPT: [&str; 18] = [
    "accept",
    "authorization",
    "b3",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "range",
    "set-cookie",
    "traceparent",
    "tracestate",
    "x-request-id",
    "x-real-ip",
];

const KEPT_PREFIXES: [&str; 5] = ["x-forwarded-", "x-envoy-", "x-ironmesh-", "x-b3-", "grpc-"];

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};
