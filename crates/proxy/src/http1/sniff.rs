//! What the first bytes of a connection say about its protocol.

use super::field::is_token;
use super::parse::EMPTY_LINES_MAX;

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

/// Looks at the first bytes of a connection as they arrive.
///
/// A common method with a space after it is taken for HTTP/1 at once, an uncommon one only after the
/// whole line, since `EHLO example` of SMTP begins alike. Lines of more than `bytes_max` with an
/// uncommon method are not HTTP, nor is what begins with more empty lines than the parser ignores.
///
/// It remembers how far it has looked: bytes that come one by one cost no more than all at once,
/// and however they come it is undecided for a bounded number of them only.
#[derive(Clone, Copy, Debug)]
pub struct Sniffer {
    bytes_max: usize,
    /// Up to where the end of the first line was looked for.
    scanned: usize,
}

impl Sniffer {
    /// A sniffer for a new connection. `bytes_max`: see
    /// [`ProxyLimits::sniff_bytes_max`](ironmesh_model::limits::ProxyLimits::sniff_bytes_max).
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, scanned: 0 }
    }

    /// Looks at all that came so far. Between two calls, bytes are only appended.
    pub fn look(&mut self, bytes: &[u8]) -> Sniffed {
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
        self.http1(bytes)
    }

    fn http1(&mut self, bytes: &[u8]) -> Sniffed {
        // Empty lines before a request line are ignored, as many as by the parser.
        let is_blank = |byte: &&u8| matches!(byte, b'\r' | b'\n');
        let blank = bytes.iter().take(BLANK_BYTES_MAX + 1).take_while(is_blank).count();
        if blank > BLANK_BYTES_MAX {
            return Sniffed::Other;
        }
        let request = &bytes[blank..];
        let of_method = &request[..request.len().min(METHOD_BYTES_MAX + 1)];
        let method_end = of_method.iter().position(|b| !is_token(*b)).unwrap_or(of_method.len());
        match of_method.get(method_end) {
            None if method_end <= METHOD_BYTES_MAX => return Sniffed::Undecided,
            Some(b' ') if method_end > 0 => {}
            _ => return Sniffed::Other,
        }
        if COMMON_METHODS.contains(&&request[..method_end]) {
            return Sniffed::Http1;
        }
        let seen = &request[..request.len().min(self.bytes_max)];
        let from = self.scanned.min(seen.len());
        match memchr::memchr(b'\n', &seen[from..]) {
            None if seen.len() >= self.bytes_max => Sniffed::Other,
            None => {
                self.scanned = seen.len();
                Sniffed::Undecided
            }
            Some(end) => {
                let line = seen[..from + end].trim_ascii_end();
                let is_http1 = line.len() > 9
                    && line[..line.len() - 1].ends_with(b" HTTP/1.")
                    && line[line.len() - 1].is_ascii_digit();
                if is_http1 { Sniffed::Http1 } else { Sniffed::Other }
            }
        }
    }
}

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const TLS_HANDSHAKE: u8 = 22;
const TLS_CLIENT_HELLO: u8 = 1;
const METHOD_BYTES_MAX: usize = 32;
const BLANK_BYTES_MAX: usize = EMPTY_LINES_MAX * 2;
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
            (b"\r\n\r\n\r\n\r\nGET /", Sniffed::Http1),
            (b"\r\n\r\n\r\n\r\n\r", Sniffed::Other),
        ] {
            assert_eq!(
                Sniffer::new(8 << 10).look(bytes),
                sniffed,
                "{}",
                String::from_utf8_lossy(bytes)
            );
        }
    }
}
