//! How long the answers of an endpoint take: a moving average that a slow answer raises at once and
//! faster ones lower in time (peak EWMA, as Finagle's).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{EndpointState, Tick};

/// The average and when it was made. Of two answers at the same moment one may be lost.
#[derive(Debug, Default)]
pub(super) struct Latency {
    /// Microseconds; 0: nothing has been answered.
    average: AtomicU64,
    at: AtomicU64,
}

impl Latency {
    fn at(&self, now: Tick) -> f64 {
        let average = self.average.load(Ordering::Relaxed) as f64;
        let age = now.0.saturating_sub(self.at.load(Ordering::Relaxed));
        average * (-(age as f64) / DECAY_MILLISECONDS).exp()
    }

    fn note(&self, took: Duration, now: Tick) {
        let took = took.as_secs_f64() * 1e6;
        let before = self.at(now);
        let age = now.0.saturating_sub(self.at.load(Ordering::Relaxed)) as f64;
        let kept = (-age / DECAY_MILLISECONDS).exp();
        let average = self.average.load(Ordering::Relaxed) as f64;
        let next = if took >= before { took } else { average * kept + took * (1.0 - kept) };
        self.average.store((next as u64).max(1), Ordering::Relaxed);
        self.at.store(now.0, Ordering::Relaxed);
    }
}

impl EndpointState {
    /// Notes how long an answer took, or that there was none in this time.
    pub fn note_latency(&self, took: Duration, now: Tick) {
        self.latency.note(took, now);
    }

    /// What another request is expected to take, for comparison. One that has not answered yet and has
    /// a request under way is left alone meanwhile.
    pub(super) fn cost(&self, now: Tick) -> f64 {
        let under_way = f64::from(self.under_way());
        if self.latency.average.load(Ordering::Relaxed) == 0 {
            return if under_way > 0.0 { f64::MAX } else { 0.0 };
        }
        self.latency.at(now) * (under_way + 1.0)
    }
}

/// In this time what was measured loses two thirds of its weight.
const DECAY_MILLISECONDS: f64 = 10_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_counts_at_once_and_fast_ones_in_time() {
        let state = EndpointState::default();
        assert!(state.cost(Tick(0)).abs() < 1.0, "one of which nothing is known is tried");
        state.note_latency(Duration::from_millis(1), Tick(0));
        assert!((state.cost(Tick(0)) - 1_000.0).abs() < 1.0);
        state.note_latency(Duration::from_millis(100), Tick(1));
        assert!((state.cost(Tick(1)) - 100_000.0).abs() < 1.0, "a peak");
        state.note_latency(Duration::from_millis(1), Tick(2));
        assert!(state.cost(Tick(2)) > 90_000.0, "which is not forgotten at once");
        assert!(state.cost(Tick(60_000)) < 1_000.0, "but in time, and it is tried again");
        for tick in (10_000..100_000).step_by(1_000) {
            state.note_latency(Duration::from_millis(1), Tick(tick));
        }
        assert!(state.cost(Tick(99_000)) < 2_000.0);
    }
}
