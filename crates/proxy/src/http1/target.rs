//! The request target and the authority (RFC 9112, sections 3.2 and 3.3).

use std::ops::Range;

use super::error::HeadError;

/// In which form a request names its target (RFC 9112, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetForm {
    /// `/path?query`
    Origin,
    /// `http://authority/path?query`, as to an explicit proxy, which every server must take. Its
    /// authority counts, not `Host`.
    Absolute,
    /// `host:port`, for CONNECT.
    Authority,
    /// `*`, for OPTIONS.
    Asterisk,
}

/// A target taken apart: ranges within it.
///
/// The path of an absolute target may be empty, also before a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) form: TargetForm,
    /// Whether the scheme `https` is written out.
    pub(super) https: bool,
    pub(super) authority: Range<usize>,
    pub(super) path: Range<usize>,
}

/// Takes a target apart.
pub(super) fn parse(method: &[u8], target: &[u8]) -> Result<Target, HeadError> {
    if target.is_empty() || !target.iter().all(|byte| is_target_byte(*byte)) {
        return Err(HeadError::Target);
    }
    let (end, https) = (target.len(), false);
    let form = match (method, target) {
        (b"CONNECT", _) => {
            let has_port = target.iter().rposition(|b| *b == b':').is_some_and(|at| at + 1 < end);
            if !has_port || !is_authority(target) {
                return Err(HeadError::Target);
            }
            let form = TargetForm::Authority;
            return Ok(Target { form, https, authority: 0..end, path: 0..0 });
        }
        (_, [b'/', ..]) => TargetForm::Origin,
        (b"OPTIONS", b"*") => TargetForm::Asterisk,
        _ => return absolute(target),
    };
    Ok(Target { form, https, authority: 0..0, path: 0..end })
}

fn absolute(target: &[u8]) -> Result<Target, HeadError> {
    let scheme = ["http", "https"]
        .into_iter()
        .find(|scheme| {
            target.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme.as_bytes()))
                && target[scheme.len()..].starts_with(b"://")
        })
        .ok_or(HeadError::Target)?;
    let start = scheme.len() + 3;
    let end = target[start..]
        .iter()
        .position(|b| matches!(b, b'/' | b'?'))
        .map_or(target.len(), |at| start + at);
    if !is_authority(&target[start..end]) {
        return Err(HeadError::Target);
    }
    Ok(Target {
        form: TargetForm::Absolute,
        https: scheme == "https",
        authority: start..end,
        path: end..target.len(),
    })
}

/// Whether a target is a path with perhaps a query, or the `*` of OPTIONS: what HTTP/2 may have as
/// its `:path` (RFC 9113, section 8.3.1), so that HTTP/1 can say it, too.
pub fn is_path(method: &str, target: &str) -> bool {
    let begins = target.starts_with('/') || (method == "OPTIONS" && target == "*");
    begins && target.bytes().all(is_target_byte)
}

fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

/// Whether bytes are `uri-host [ ":" port ]` (RFC 3986, sections 3.2.2 and 3.2.3), not empty and
/// without user information. The writer's input from HTTP/2 is to pass this too.
pub fn is_authority(authority: &[u8]) -> bool {
    let (host, rest) = if authority.first() == Some(&b'[') {
        let Some(end) = authority.iter().position(|b| *b == b']') else { return false };
        let inside = &authority[1..end];
        let address = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.');
        if !inside.contains(&b':') || !inside.iter().all(address) {
            return false;
        }
        authority.split_at(end + 1)
    } else {
        let end = authority.iter().position(|b| *b == b':').unwrap_or(authority.len());
        if !authority[..end].iter().all(|b| is_host_byte(*b)) {
            return false;
        }
        authority.split_at(end)
    };
    let port_ok = match rest {
        [] => true,
        [b':', port @ ..] => {
            port.len() <= 5
                && port.iter().all(u8::is_ascii_digit)
                && port.iter().fold(0_u32, |n, b| n * 10 + u32::from(b - b'0')) <= 0xffff
        }
        _ => false,
    };
    !host.is_empty() && port_ok
}

/// Unreserved, sub-delims and `%`.
fn is_host_byte(byte: u8) -> bool {
    matches!(
        byte,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'%'
            | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
    )
}
