//! What the first bytes of a connection say about its protocol.

use super::field::is_token;

/// What a connection seems to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sniffed {
    /// HTTP/1.
    Http1,
    /// HTTP/2 with prior knowledge: its connection preface.
    Http2,
    /// TLS: a handshake record with a ClientHello.
    Tls,
    /// Something else.
    Other,
    /// Could be more than one of these; more bytes are needed.
    Undecided,
}

/// Looks at the first bytes of a connection.
///
/// A common method with a space after it is taken for HTTP/1 at once, an uncommon one only after the
/// whole line, since `EHLO example` of SMTP begins alike. Lines of more than `bytes_max` with an
/// uncommon method are not HTTP.
pub fn sniff(bytes: &[u8], bytes_max: usize) -> Sniffed {
    if bytes.is_empty() {
        return Sniffed::Undecided;
    }
    let common = bytes.len().min(HTTP2_PREFACE.len());
    if bytes[..common] == HTTP2_PREFACE[..common] {
        return match common == HTTP2_PREFACE.len() {
            true => Sniffed::Http2,
            // `P` and `PR` begin other methods too, but more is to come then as well.
            false => Sniffed::Undecided,
        };
    }
    if bytes[0] == TLS_HANDSHAKE {
        return match bytes {
            [_, 3, _, _, _, TLS_CLIENT_HELLO, ..] => Sniffed::Tls,
            [_] | [_, 3] | [_, 3, _] | [_, 3, _, _] | [_, 3, _, _, _] => Sniffed::Undecided,
            _ => Sniffed::Other,
        };
    }
    http1(bytes, bytes_max)
}

fn http1(bytes: &[u8], bytes_max: usize) -> Sniffed {
    // Empty lines before a request line are ignored, as by the parser.
    let bytes = &bytes[bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count()..];
    let method_end = bytes.iter().position(|b| !is_token(*b)).unwrap_or(bytes.len());
    match bytes.get(method_end) {
        None if method_end <= METHOD_BYTES_MAX => return Sniffed::Undecided,
        Some(b' ') if method_end > 0 && method_end <= METHOD_BYTES_MAX => {}
        _ => return Sniffed::Other,
    }
    if COMMON_METHODS.contains(&&bytes[..method_end]) {
        return Sniffed::Http1;
    }
    let seen = &bytes[..bytes.len().min(bytes_max)];
    match memchr::memchr(b'\n', seen) {
        None if seen.len() >= bytes_max => Sniffed::Other,
        None => Sniffed::Undecided,
        Some(end) => {
            let line = seen[..end].trim_ascii_end();
            let is_http1 = line.len() > 9
                && line[..line.len() - 1].ends_with(b" HTTP/1.")
                && line[line.len() - 1].is_ascii_digit();
            if is_http1 { Sniffed::Http1 } else { Sniffed::Other }
        }
    }
}

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const TLS_HANDSHAKE: u8 = 22;
const TLS_CLIENT_HELLO: u8 = 1;
const METHOD_BYTES_MAX: usize = 32;
const COMMON_METHODS: [&[u8]; 9] =
    [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"CONNECT", b"TRACE"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_protocol() {
        for (bytes, sniffed) in [
            (&b""[..], Sniffed::Undecided),
            (b"G", Sniffed::Undecided),
            (b"GET ", Sniffed::Http1),
            (b"\r\nGET /", Sniffed::Http1),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n", Sniffed::Undecided),
            (HTTP2_PREFACE, Sniffed::Http2),
            (b"PROPFIND / HTTP", Sniffed::Undecided),
            (b"PROPFIND / HTTP/1.1\r\n", Sniffed::Http1),
            (b"EHLO example.com\r\n", Sniffed::Other),
            (b"PING\r\n", Sniffed::Other),
            (b"*1\r\n$4\r\nPING\r\n", Sniffed::Other),
            (b"\x16\x03\x01", Sniffed::Undecided),
            (b"\x16\x03\x01\x02\x00\x01", Sniffed::Tls),
            (b"\x16\x03\x01\x02\x00\x02", Sniffed::Other),
            (b"\x00\x01", Sniffed::Other),
            (b"{\"a\":1}", Sniffed::Other),
        ] {
            assert_eq!(sniff(bytes, 8 << 10), sniffed, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
