//! Chunk-size lines and trailer lines (RFC 9112, section 7.1).

use crate::words::is_control;

use super::error::BodyError;
use super::field::{self, is_token};
use super::name::Known;

/// `chunk-size [ chunk-ext ]`, without the CRLF.
pub(super) fn size_line(line: &[u8]) -> Result<u64, BodyError> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    if digits == 0 {
        return Err(BodyError::ChunkSize);
    }
    let (size, extension) = line.split_at(digits);
    let size = size
        .iter()
        .try_fold(0_u64, |size, digit| {
            (size >> 59 == 0).then(|| size << 4 | u64::from(hex_value(*digit)))
        })
        .ok_or(BodyError::ChunkSize)?;
    // What follows the digits begins with `;`, perhaps after whitespace; else it is a bad size.
    match extension.trim_ascii_start().first() {
        None if extension.is_empty() => Ok(size),
        Some(b';') => extensions(extension).map(|()| size),
        _ => Err(BodyError::ChunkSize),
    }
}

/// `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )`.
fn extensions(mut rest: &[u8]) -> Result<(), BodyError> {
    while !rest.is_empty() {
        rest = skip_space(rest).strip_prefix(b";").ok_or(BodyError::ChunkExtension)?;
        rest = token(skip_space(rest))?;
        if let Some(value) = skip_space(rest).strip_prefix(b"=") {
            let value = skip_space(value);
            rest = match value.strip_prefix(b"\"") {
                Some(quoted) => after_quoted(quoted)?,
                None => token(value)?,
            };
        }
    }
    Ok(())
}

fn skip_space(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    &text[spaces..]
}

fn token(text: &[u8]) -> Result<&[u8], BodyError> {
    match text.iter().take_while(|b| is_token(**b)).count() {
        0 => Err(BodyError::ChunkExtension),
        end => Ok(&text[end..]),
    }
}

/// What follows a quoted string whose opening quote is gone (RFC 9110, section 5.6.4).
fn after_quoted(text: &[u8]) -> Result<&[u8], BodyError> {
    let mut at = 0;
    loop {
        match text.get(at) {
            Some(b'"') => return Ok(&text[at + 1..]),
            Some(b'\\') if text.get(at + 1).is_some_and(|b| !is_control(*b)) => at += 2,
            Some(byte) if *byte != b'\\' && !is_control(*byte) => at += 1,
            _ => return Err(BodyError::ChunkExtension),
        }
    }
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// Takes one trailer line, without its CRLF.
pub(super) fn trailer(line: &[u8]) -> Result<field::Line<'_>, BodyError> {
    let line = field::parse_line(line).map_err(BodyError::Trailer)?;
    if is_forbidden(line.name) { Err(BodyError::TrailerForbidden) } else { Ok(line) }
}

/// Fields that frame, route, authenticate or say how to process a message may not come after it
/// (RFC 9110, section 6.5.1), nor those that the mesh trusts.
pub(super) fn is_forbidden(name: &[u8]) -> bool {
    let starts = |prefix: &&str| {
        name.get(..prefix.len()).is_some_and(|s| s.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    Known::of(name) != Known::Other
        || FORBIDDEN.iter().any(|f| f.as_bytes().eq_ignore_ascii_case(name))
        || FORBIDDEN_PREFIXES.iter().any(starts)
}

const FORBIDDEN_PREFIXES: [&str; 3] = ["x-forwarded-", "x-envoy-", "x-ironmesh-"];

const FORBIDDEN: [&str; 26] = [
    "age",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-range",
    "content-type",
    "cookie",
    "expires",
    "forwarded",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "retry-after",
    "set-cookie",
    "trailer",
    "vary",
    "www-authenticate",
    "x-request-id",
];
