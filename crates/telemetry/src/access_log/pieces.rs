//! Formats the fields of a line. The standard library's formatting costs several times as much, and
//! a line is written for every request.

use std::io::Write;
use std::net::SocketAddr;

use super::record::Cluster;

/// Appends a number in decimal.
pub(super) fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends a number with exactly `N` digits: padded with zeros, higher digits cut off.
pub(super) fn padded<const N: usize>(out: &mut Vec<u8>, number: u64) {
    let mut digits = [b'0'; N];
    let mut rest = number;
    for place in digits.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits);
}

/// Appends an address and port.
pub(super) fn address(out: &mut Vec<u8>, address: SocketAddr) {
    let SocketAddr::V4(v4) = address else {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{address}");
        return;
    };
    for (index, octet) in v4.ip().octets().into_iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        number(out, u64::from(octet));
    }
    out.push(b':');
    number(out, u64::from(v4.port()));
}

/// Appends a cluster as Istio names it. `text` appends, and escapes, the names in it.
pub(super) fn cluster(out: &mut Vec<u8>, cluster: Cluster<'_>, text: impl Fn(&mut Vec<u8>, &str)) {
    match cluster {
        Cluster::Outbound { port, subset, host } => {
            out.extend_from_slice(b"outbound|");
            number(out, u64::from(port));
            out.push(b'|');
            text(out, subset.unwrap_or_default());
            out.push(b'|');
            text(out, host);
        }
        Cluster::Inbound { port } => {
            out.extend_from_slice(b"inbound|");
            number(out, u64::from(port));
            out.extend_from_slice(b"||");
        }
        Cluster::Passthrough => out.extend_from_slice(b"PassthroughCluster"),
        Cluster::BlackHole => out.extend_from_slice(b"BlackHoleCluster"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_and_addresses_are_as_the_standard_library_writes_them() {
        for n in [0, 1, 9, 10, 99, 100, 12_345, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(written(|out| number(out, n)), n.to_string());
        }
        assert_eq!(written(|out| padded::<3>(out, 7)), "007");
        assert_eq!(written(|out| padded::<2>(out, 42)), "42");
        for text in ["0.0.0.0:0", "10.77.0.9:9080", "255.255.255.255:65535", "[fd00::1]:80"] {
            let parsed: SocketAddr = text.parse().unwrap();
            assert_eq!(written(|out| address(out, parsed)), text);
        }
    }
}
