//! What must hold of the reader of a ClientHello for any bytes whatever.

use crate::client_hello::{Parsed, parse};

const BYTES_MAX: usize = 16 << 10;

/// More bytes never change what was found, and nothing is found too early.
pub fn hello(bytes: &[u8]) {
    let parse = |bytes| parse(bytes, BYTES_MAX);
    let whole = parse(bytes);
    for end in [0, 1, bytes.len() / 2, bytes.len().saturating_sub(1)] {
        let beginning = parse(&bytes[..end.min(bytes.len())]);
        assert!(beginning == Parsed::Incomplete || beginning == whole, "changed at {end}");
    }
    if whole != Parsed::Incomplete {
        let more = [bytes, b"\x17\x03\x03\x00\x01x"].concat();
        assert_eq!(parse(&*more), whole);
    }
}
