//! The draw: 64 bits per request and hop, from which every random choice about it is made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

/// 64 bits that stand for all chance in the handling of one request at one hop. Kept while the
/// request is parked or retried, written to the access log as 16 hex digits, and replayed by
/// `explain --draw`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Draw(pub u64);

/// What a choice is for. Choices for different purposes are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Which weighted backend.
    Backend = 1,
    /// How long to wait before another attempt.
    Backoff = 2,
}

impl Draw {
    /// The draw of the `sequence`th request that a hop handled. The request id makes it differ
    /// between hops and restarts; the sequence makes requests that share an id differ.
    pub fn of(request_id: &[u8], hop: &[u8], sequence: u64) -> Self {
        let id = XxHash3_64::oneshot(request_id);
        Self(mix(id ^ XxHash3_64::oneshot(hop).rotate_left(32) ^ mix(sequence)))
    }

    /// A number in `0..bound` for one purpose at one rule; 0 if `bound` is 0.
    pub fn choose(self, purpose: Purpose, rule: u64, bound: u64) -> u64 {
        let bits = mix(self.0 ^ mix(rule ^ mix(purpose as u64)));
        // Multiply-shift: unbiased to within bound / 2^64.
        ((u128::from(bits) * u128::from(bound)) >> 64) as u64
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number
/// Generators", 2014) over its golden-ratio increment.
fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl fmt::Display for Draw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text that is not a draw.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a draw: it has up to 16 hex digits, as in the access log")]
pub struct NotADraw(String);

impl FromStr for Draw {
    type Err = NotADraw;

    fn from_str(text: &str) -> Result<Self, NotADraw> {
        if text.is_empty() || text.len() > 16 || text.starts_with('+') {
            return Err(NotADraw(text.to_owned()));
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| NotADraw(text.to_owned()))
    }
}

impl From<Draw> for String {
    fn from(draw: Draw) -> Self {
        draw.to_string()
    }
}

impl TryFrom<String> for Draw {
    type Error = NotADraw;

    fn try_from(text: String) -> Result<Self, NotADraw> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_even_and_independent_of_each_other() {
        let (mut first, mut second, mut both) = (0, 0, 0);
        let mut purposes = 0;
        for sequence in 0..100_000 {
            let draw = Draw::of(b"id", b"hop", sequence);
            let pause = draw.choose(Purpose::Backoff, 1, 2) == 0;
            purposes += u32::from(pause && draw.choose(Purpose::Backend, 1, 2) == 0);
            let a = draw.choose(Purpose::Backend, 1, 2) == 0;
            let b = draw.choose(Purpose::Backend, 2, 2) == 0;
            first += u32::from(a);
            second += u32::from(b);
            both += u32::from(a && b);
        }
        // Binomial(100 000, p): six sigma are 949 for p = 1/2 and 822 for p = 1/4.
        assert!(first.abs_diff(50_000) < 949, "{first}");
        assert!(second.abs_diff(50_000) < 949, "{second}");
        assert!(both.abs_diff(25_000) < 822, "{both}");
        assert!(purposes.abs_diff(25_000) < 822, "{purposes}");
    }

    #[test]
    fn draws_differ_by_request_by_hop_and_by_sequence() {
        let draw = Draw::of(b"id", b"hop", 1);
        for other in
            [Draw::of(b"other", b"hop", 1), Draw::of(b"id", b"next", 1), Draw::of(b"id", b"hop", 2)]
        {
            assert_ne!(draw, other);
        }
    }

    #[test]
    fn text_round_trips() {
        let draw = Draw::of(b"a", b"b", 7);
        assert_eq!(draw.to_string().parse(), Ok(draw));
        assert_eq!("ff".parse(), Ok(Draw(255)));
        for bad in ["", "+1", "xyz", "00000000000000001"] {
            assert!(bad.parse::<Draw>().is_err());
        }
    }
}
