//! The one place where this crate reads the wall clock and draws random numbers.

use std::time::Duration;

use jiff::Timestamp;

/// Now.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// A point in time as Kubernetes writes it: UTC, whole seconds.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A point in time as Kubernetes writes it where it counts microseconds.
pub(crate) fn rfc3339_micro(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Time that is left at `now` until some seconds after a point in time; zero if none is.
pub(crate) fn until(since: Timestamp, seconds: i64, now: Timestamp) -> Duration {
    let end = since.saturating_add(jiff::SignedDuration::from_secs(seconds));
    let left = end.map(|end| end.duration_since(now)).unwrap_or(jiff::SignedDuration::ZERO);
    Duration::try_from(left).unwrap_or(Duration::ZERO)
}

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes once it has booted");
    bytes
}

/// A new random UUID (RFC 9562, version 4).
pub(crate) fn uid() -> String {
    let mut bytes: [u8; 16] = random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let bits = u128::from_be_bytes(bytes);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        bits >> 96,
        bits >> 80 & 0xffff,
        bits >> 64 & 0xffff,
        bits >> 48 & 0xffff,
        bits & 0xffff_ffff_ffff
    )
}

/// The suffix of a generated name: five characters that form no words, as Kubernetes has them.
pub(crate) fn name_suffix() -> String {
    random::<5>().iter().map(|byte| char::from(SAFE[usize::from(*byte) % SAFE.len()])).collect()
}

/// A number as text in the alphabet of [`name_suffix`], as Kubernetes writes template hashes.
pub(crate) fn safe_digits(number: u64) -> String {
    number
        .to_string()
        .bytes()
        .map(|digit| char::from(SAFE[usize::from(digit) % SAFE.len()]))
        .collect()
}

const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
