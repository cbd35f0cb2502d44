//! What must hold of the readers that tell what a connection speaks, for any bytes whatever.

use crate::client_hello::{HelloReader, Parsed};
use crate::http1::{Sniffed, Sniffer};
use crate::proxy_protocol::{self, Header};

const PROXY_HEADER_BYTES_MAX: usize = 512;
const SNIFF_BYTES_MAX: usize = 512;
const HELLO_BYTES_MAX: usize = 512;

/// Empty lines before a request, and its longest method.
const BEFORE_LINE_BYTES_MAX: usize = 48;
/// A record that brings one byte takes five more; the last may be as large as any.
const HELLO_RAW_BYTES_MAX: usize = HELLO_BYTES_MAX * 6 + (17 << 10);

/// The sniffer decides the same whatever the pieces, keeps to what it decided, and decides in time.
pub fn sniff(bytes: &[u8]) {
    let whole = Sniffer::new(SNIFF_BYTES_MAX).look(bytes);
    for size in [1, 7, 64] {
        assert_eq!(sniff_in_pieces(bytes, size).0, whole, "in pieces of {size}");
    }
    if bytes.len() > SNIFF_BYTES_MAX + BEFORE_LINE_BYTES_MAX {
        assert_ne!(whole, Sniffed::Undecided);
    }
}

/// What an inbound connection is, told as a proxy tells it: whether it begins with a ClientHello,
/// and if not what else it speaks. The same whatever the pieces, and told in time.
pub fn detect(bytes: &[u8]) {
    let whole = detect_in_pieces(bytes, bytes.len().max(1));
    for size in [1, 7, 64] {
        let (told, read) = detect_in_pieces(bytes, size);
        assert_eq!(told, whole.0, "in pieces of {size}");
        assert!(read <= HELLO_RAW_BYTES_MAX + SNIFF_BYTES_MAX, "{read} bytes were read");
    }
}

/// A header of the PROXY protocol is told in time, and neither what follows nor the pieces in which
/// it comes change what it says.
pub fn proxy_protocol(bytes: &[u8]) {
    let parse = |bytes: &[u8]| proxy_protocol::parse(bytes, PROXY_HEADER_BYTES_MAX);
    let mut told = Header::Incomplete;
    for end in ends(bytes, 1) {
        let now = parse(&bytes[..end]);
        if told == Header::Incomplete {
            assert!(
                now != Header::Incomplete || end < PROXY_HEADER_BYTES_MAX,
                "{end} bytes were read"
            );
            if let Header::Complete { length, .. } = now {
                assert_eq!(length, end, "more was read than the header");
            }
            told = now;
        } else {
            assert_eq!(now, told, "after {end} bytes");
        }
    }
}

fn sniff_in_pieces(bytes: &[u8], size: usize) -> (Sniffed, usize) {
    let mut sniffer = Sniffer::new(SNIFF_BYTES_MAX);
    for end in ends(bytes, size) {
        let sniffed = sniffer.look(&bytes[..end]);
        if sniffed != Sniffed::Undecided {
            return (sniffed, end);
        }
    }
    (Sniffed::Undecided, bytes.len())
}

fn detect_in_pieces(bytes: &[u8], size: usize) -> ((Parsed, Option<Sniffed>), usize) {
    let mut reader = HelloReader::new(HELLO_BYTES_MAX);
    for end in ends(bytes, size) {
        match reader.read(&bytes[..end]) {
            Parsed::Incomplete => {}
            Parsed::Hello(hello) => return ((Parsed::Hello(hello), None), end),
            Parsed::Malformed => {
                let (sniffed, read) = sniff_in_pieces(bytes, size);
                return ((Parsed::Malformed, Some(sniffed)), read.max(end));
            }
        }
    }
    ((Parsed::Incomplete, None), bytes.len())
}

/// How much is here after each piece.
fn ends(bytes: &[u8], size: usize) -> impl Iterator<Item = usize> {
    (0..bytes.len()).step_by(size).map(move |start| (start + size).min(bytes.len()))
}
