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
    /// Whether it is delayed on purpose.
    Delay = 3,
    /// Whether it is aborted on purpose.
    Abort = 4,
    /// Whether a copy is sent.
    Mirror = 5,
    /// Which endpoint.
    Endpoint = 6,
    /// Whether an endpoint that is new gets it.
    Warmup = 7,
    /// Which of the endpoints that are more or less near.
    Locality = 8,
}

/// A share of requests, in millionths, as Envoy has the percentages that Istio gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share(u32);

impl Share {
    /// All requests.
    pub const ALL: Self = Self(Self::WHOLE);
    const WHOLE: u32 = 1_000_000;

    /// So many millionths; more than a million are all.
    pub fn of_millionths(millionths: u32) -> Self {
        Self(millionths.min(Self::WHOLE))
    }

    /// So many percent; less than none is none, more than 100 are all, and what is no number is none.
    /// Rounded to millionths.
    pub fn of_percent(percent: f64) -> Self {
        Self::of_millionths((percent * 10_000.0).round() as u32)
    }

    /// In millionths.
    pub fn millionths(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(self.0) / 10_000.0)
    }
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

    /// Whether a share takes it, for one purpose at one rule.
    pub fn is_in(self, share: Share, purpose: Purpose, rule: u64) -> bool {
        self.choose(purpose, rule, u64::from(Share::WHOLE)) < u64::from(share.0)
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
    fn shares_take_what_they_say() {
        for (percent, millionths) in [
            (0.0, 0),
            (100.0, 1_000_000),
            (0.01, 100),
            (12.3456, 123_456),
            (-1.0, 0),
            (1e9, 1_000_000),
            (f64::NAN, 0),
            (f64::INFINITY, 1_000_000),
        ] {
            assert_eq!(Share::of_percent(percent).millionths(), millionths, "{percent}");
        }
        let draws = || (0..100_000).map(|sequence| Draw::of(b"id", b"hop", sequence));
        let taken = |share, purpose| draws().filter(|d| d.is_in(share, purpose, 7)).count();
        assert_eq!(taken(Share::ALL, Purpose::Delay), 100_000);
        assert_eq!(taken(Share::of_percent(0.0), Purpose::Delay), 0);
        let quarter = Share::of_percent(25.0);
        assert!(taken(quarter, Purpose::Mirror).abs_diff(25_000) < 822);
        let both =
            |d: &Draw| d.is_in(quarter, Purpose::Delay, 7) && d.is_in(quarter, Purpose::Abort, 7);
        assert!(draws().filter(both).count().abs_diff(6_250) < 460);
        assert_eq!(Share::of_percent(0.5).to_string(), "0.5 %");
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
