//! The target of a request, normalised once: deciding, authorizing and forwarding all read the same
//! string, so that none of them sees another path than the application does.

use std::borrow::Cow;

/// The path holds an escaped NUL, which most applications cut the path at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path contains %00")]
pub struct EscapedNul;

/// Splits a target into path and query (without the question mark).
pub fn split_target(target: &str) -> (&str, Option<&str>) {
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

/// Normalises a target in origin form as Istio's `BASE` does (`MeshConfig.pathNormalization`), which
/// is Envoy's `normalize_path`: escaped unreserved characters are decoded (RFC 3986, section
/// 6.2.2.2), `\` is read as `/`, and `.` and `..` segments are resolved (section 5.2.4). All else
/// stays as it was sent, byte for byte: the case of escapes, escaped slashes, repeated slashes, the
/// query. Envoy also escapes raw characters that RFC 3986 does not allow, such as `|`; here they
/// stay, since whoever signs a URL signs what was sent.
///
/// Borrows if nothing changes, which is nearly always. Other forms, such as `*`, stay as they are.
///
/// # Errors
///
/// If the path contains `%00`.
pub fn normalize_target(target: &str) -> Result<Cow<'_, str>, EscapedNul> {
    let path = split_target(target).0;
    if !path.starts_with('/') || is_normal(path) {
        return Ok(Cow::Borrowed(target));
    }
    let mut normal = resolve_dots(&decode_unreserved(path)?);
    if normal == path {
        return Ok(Cow::Borrowed(target));
    }
    normal.push_str(&target[path.len()..]);
    Ok(Cow::Owned(normal))
}

/// Whether nothing can be there to normalise.
fn is_normal(path: &str) -> bool {
    !path.contains(['%', '\\']) && !path.split('/').any(|segment| matches!(segment, "." | ".."))
}

fn decode_unreserved(path: &str) -> Result<String, EscapedNul> {
    let mut out = String::with_capacity(path.len());
    // Where `out` has a `%` that begins no escape.
    let mut strays = Vec::new();
    let mut rest = path;
    while let Some(at) = rest.find(['%', '\\']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = match (rest.as_bytes()[0], escaped(rest)) {
            (b'\\', _) => {
                out.push('/');
                1
            }
            (_, Some(0)) => return Err(EscapedNul),
            (_, Some(byte)) if is_unreserved(byte) => {
                out.push(char::from(byte));
                ESCAPE_LENGTH
            }
            (_, Some(_)) => {
                out.push_str(&rest[..ESCAPE_LENGTH]);
                ESCAPE_LENGTH
            }
            (_, None) => {
                strays.push(out.len());
                out.push('%');
                1
            }
        };
        rest = &rest[taken..];
    }
    out.push_str(rest);
    // Decoding must not complete an escape (`%2%65` is no dot): whoever decodes the result would
    // see another path than we do.
    for at in strays.into_iter().rev() {
        if escaped(&out[at..]).is_some() {
            out.insert_str(at + 1, "25");
        }
    }
    Ok(out)
}

/// The byte for which the escape at the beginning of `text` stands; `None` if there is none.
fn escaped(text: &str) -> Option<u8> {
    let hex = text.strip_prefix('%')?.get(..2)?;
    let is_hex = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u8::from_str_radix(hex, 16).ok()).flatten()
}

/// Bytes of an escape such as `%2F`.
const ESCAPE_LENGTH: usize = 3;

/// RFC 3986, section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_normalised_as_istio_base() {
        for (target, normal) in [
            ("/productpage?u=1", "/productpage?u=1"),
            ("/", "/"),
            ("/a/../b", "/b"),
            ("/a/./b/..", "/a/"),
            ("/a%2e%2e/b", "/a../b"),
            ("/%2e%2e/b", "/b"),
            ("/a/%2E%2e", "/"),
            ("/a/.%2e/b", "/b"),
            ("/../../x", "/x"),
            ("/a\\..\\b", "/b"),
            ("/a//b", "/a//b"),
            ("/a//../b", "/a/b"),
            ("/a?x=/../y", "/a?x=/../y"),
            ("/a/..?x=%61%00", "/?x=%61%00"),
            ("/a%3Fb/../c?d", "/c?d"),
            ("*", "*"),
        ] {
            assert_eq!(normalize_target(target).as_deref(), Ok(normal), "{target}");
        }
    }

    /// The bytes of a signed URL, and what a rule was written for.
    #[test]
    fn all_else_stays_as_it_was_sent() {
        for target in [
            "/sign/a%2fb%C3%bc",
            "/a%2Fb%2f",
            "/%c0%af",
            "/%5c%25%5C",
            "/a%23b%3Fc%0a",
            "/%zz%",
            "/a;b=c/d|e{f}[g]",
            "/%20+%20",
            "/...",
            "/a/.b/..c/d.",
        ] {
            let normal = normalize_target(target);
            assert!(matches!(normal, Ok(Cow::Borrowed(same)) if same == target), "{target}");
        }
    }

    #[test]
    fn an_escaped_nul_is_refused_wherever_the_path_has_it() {
        for target in ["/a%00b", "/%00", "/a%00/../b", "/%61%00?q", "/a\\%00"] {
            assert_eq!(normalize_target(target), Err(EscapedNul), "{target}");
        }
    }

    /// Otherwise whoever decodes once more would see `..` where we saw none.
    #[test]
    fn decoding_completes_no_escape() {
        for (target, normal) in [
            ("/%2%65%2%65/x", "/%252e%252e/x"),
            ("/%%32e%%32e/x", "/%252e%252e/x"),
            ("/%%30%30", "/%2500"),
            ("/%%%30%30", "/%%2500"),
            ("/%252e%252e/x", "/%252e%252e/x"),
            ("/%%2e/x", "/%./x"),
            ("/%2%2e", "/%2."),
        ] {
            assert_eq!(normalize_target(target).as_deref(), Ok(normal), "{target}");
        }
    }

    #[test]
    fn what_is_normal_stays() {
        let pieces = ["/", "%", "2", "e", ".", "..", "%2e", "%2F", "\\", "%65", "a", "%32", "?"];
        for seed in 0..20_000_usize {
            let mut left = seed;
            let mut target = "/".to_owned();
            for _ in 0..6 {
                target.push_str(pieces[left % pieces.len()]);
                left = left / pieces.len() + seed / 7;
            }
            let once = normalize_target(&target).map(Cow::into_owned);
            let Ok(once) = once else { continue };
            assert_eq!(normalize_target(&once).as_deref(), Ok(&*once), "{target}");
        }
    }
}
