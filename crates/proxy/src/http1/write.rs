//! Heads into bytes.

use std::io::Write as _;

use crate::message::{Fields, RequestHead, ResponseHead, Version};

use super::encode::write_field;

/// Appends the head of a request: always HTTP/1.1, `host` first, then the fields as they are. The
/// caller has removed the hop-by-hop ones and stated the framing
/// ([`Framing::state`](super::Framing::state)).
///
/// Neither the target nor a value can end its line, wherever it came from: in values control bytes
/// become spaces.
pub fn write_request(head: &RequestHead, out: &mut Vec<u8>) {
    out.reserve(head.method().len() + head.target().len() + FIELDS_BYTES);
    out.extend_from_slice(head.method().as_bytes());
    out.push(b' ');
    write_target(head.target(), out);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_field(out, b"host", head.authority().as_bytes());
    write_fields(&head.fields, out);
}

/// Appends the head of a response, HTTP/1.0 or HTTP/1.1 as its version says. Without a reason it
/// gets the standard one of its status. The rest is as in [`write_request`].
pub fn write_response(head: &ResponseHead, out: &mut Vec<u8>) {
    out.reserve(FIELDS_BYTES);
    out.extend_from_slice(match head.version {
        Version::Http10 => b"HTTP/1.0 ",
        Version::Http11 | Version::Http2 => b"HTTP/1.1 ",
    });
    // Writing to a vector never fails.
    let _ = write!(out, "{:03} ", head.status);
    if head.reason().is_empty() {
        let status = http::StatusCode::from_u16(head.status).ok();
        let reason = status.and_then(|status| status.canonical_reason()).unwrap_or_default();
        out.extend_from_slice(reason.as_bytes());
    } else {
        out.extend_from_slice(head.reason());
    }
    out.extend_from_slice(b"\r\n");
    write_fields(&head.fields, out);
}

/// A target that was parsed is written as it is; of one that was rewritten, what cannot be in a
/// request line is percent-encoded.
fn write_target(target: &str, out: &mut Vec<u8>) {
    if target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return out.extend_from_slice(target.as_bytes());
    }
    for byte in target.bytes() {
        if byte.is_ascii_graphic() {
            out.push(byte);
        } else {
            // Writing to a vector never fails.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

fn write_fields(fields: &Fields, out: &mut Vec<u8>) {
    for (name, value) in fields.iter() {
        write_field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

/// Room for common fields, so that the buffer grows once.
const FIELDS_BYTES: usize = 512;
