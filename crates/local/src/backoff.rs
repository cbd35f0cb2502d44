//! How long a container that ended waits for its next start.

use std::time::Duration;

use ironmesh_model::limits::PlatformLimits;

/// The pauses between the starts of one container: none before the first restart, then the first
/// one, doubled up to the longest; forgotten after a long run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    reset_after: Duration,
    next: Duration,
}

impl Backoff {
    /// For applications.
    pub(crate) const fn application(limits: &PlatformLimits) -> Self {
        Self::new(limits.restart_pause_min, limits.restart_pause_max, limits.restart_reset_after)
    }

    /// For the mesh's own processes, on which traffic waits: 100 ms, doubled up to 2 s.
    pub(crate) const fn own_process() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(2), Duration::from_secs(10))
    }

    const fn new(first: Duration, longest: Duration, reset_after: Duration) -> Self {
        Self { first, longest, reset_after, next: Duration::ZERO }
    }

    /// The pause after an end, when the process had run for `ran`.
    pub(crate) fn pause(&mut self, ran: Duration) -> Duration {
        if ran >= self.reset_after {
            self.next = Duration::ZERO;
        }
        let pause = self.next;
        self.next = (pause * 2).clamp(self.first, self.longest);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_pauses_double_to_five_minutes() {
        let mut backoff = Backoff::application(&PlatformLimits::default());
        let pauses: Vec<u64> =
            (0..8).map(|_| backoff.pause(Duration::from_secs(1)).as_secs()).collect();
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_long_run_forgets_earlier_ends() {
        let mut backoff = Backoff::application(&PlatformLimits::default());
        backoff.pause(Duration::ZERO);
        backoff.pause(Duration::ZERO);
        assert_eq!(backoff.pause(Duration::from_secs(600)), Duration::ZERO);
        assert_eq!(backoff.pause(Duration::ZERO), Duration::from_secs(10));
    }
}
