//! How often snapshots are published.

use std::time::Duration;

use tokio::time::Instant;

/// Lets so many events in a row happen at once, and then one per interval: a single change waits for
/// nothing, however short ago another was, and of thousands in a row those of an interval go out
/// together. (The generic cell rate algorithm of ITU-T I.371.)
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    tolerance: Duration,
    /// When the events so far would be over if each took an interval.
    over: Instant,
}

impl Pace {
    /// Nothing has happened yet. `burst`: how many may happen at once.
    pub(super) fn new(interval: Duration, burst: u32, now: Instant) -> Self {
        Self { interval, tolerance: interval * burst.saturating_sub(1), over: now }
    }

    /// When the next event may happen; a time that has passed: at once.
    pub(super) fn next(&self) -> Instant {
        self.over.checked_sub(self.tolerance).unwrap_or(self.over)
    }

    /// One happens.
    pub(super) fn happens(&mut self, now: Instant) {
        self.over = self.over.max(now) + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(5);

    #[test]
    fn a_burst_happens_at_once_and_more_one_by_one() {
        let begun = Instant::now() + Duration::from_secs(1);
        let mut pace = Pace::new(INTERVAL, 3, begun);
        for _ in 0..3 {
            assert!(pace.next() <= begun);
            pace.happens(begun);
        }
        for number in 1..4 {
            let next = pace.next();
            assert_eq!(next, begun + INTERVAL * number);
            pace.happens(next);
        }
    }

    #[test]
    fn what_was_not_used_comes_back_and_no_more() {
        let begun = Instant::now() + Duration::from_secs(1);
        let mut pace = Pace::new(INTERVAL, 2, begun);
        pace.happens(begun);
        pace.happens(begun);
        assert_eq!(pace.next(), begun + INTERVAL);
        let later = begun + Duration::from_secs(60);
        pace.happens(later);
        assert!(pace.next() <= later);
        pace.happens(later);
        assert_eq!(pace.next(), later + INTERVAL);
    }
}
