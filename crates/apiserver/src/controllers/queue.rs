//! What is to be reconciled: now, or once a time has come.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ironmesh_model::limits::ControlLimits;
use tokio::time::Instant;

use super::Work;

/// Work, each piece once.
#[derive(Debug)]
pub(super) struct Queue {
    pause_min: Duration,
    pause_max: Duration,
    now: BTreeSet<Work>,
    later: BTreeMap<Work, Later>,
}

/// Work that is put aside.
#[derive(Clone, Copy, Debug)]
struct Later {
    due: Instant,
    /// How often it failed, one time after the other.
    failures: u32,
}

impl Queue {
    /// An empty queue. Work that failed is tried again after `reconcile_pause_min`, then ever later,
    /// up to `reconcile_pause_max`.
    pub(super) fn new(limits: &ControlLimits) -> Self {
        Self {
            pause_min: limits.reconcile_pause_min,
            pause_max: limits.reconcile_pause_max,
            now: BTreeSet::new(),
            later: BTreeMap::new(),
        }
    }

    /// Adds work to be done at once, also if it is put aside.
    pub(super) fn add(&mut self, work: Work) {
        self.now.insert(work);
    }

    /// Adds work that has time until then, so that what comes meanwhile is done with it.
    pub(super) fn add_after(&mut self, work: Work, pause: Duration) {
        if pause.is_zero() {
            return self.add(work);
        }
        let due = Instant::now() + pause;
        let later = self.later.entry(work).or_insert(Later { due, failures: 0 });
        later.due = later.due.min(due);
    }

    /// The next piece of work; none if all has time.
    pub(super) fn next(&mut self) -> Option<Work> {
        let now = Instant::now();
        let due = self.later.iter_mut().filter(|(_, later)| later.due <= now);
        for (work, later) in due {
            // It stays there with its failures, and is not due again before it was tried.
            later.due = now + self.pause_max;
            self.now.insert(work.clone());
        }
        self.now.pop_first()
    }

    /// When the first work that is put aside is due; far away if there is none.
    pub(super) fn due(&self) -> Instant {
        let first = self.later.values().map(|later| later.due).min();
        first.unwrap_or_else(|| Instant::now() + self.pause_max)
    }

    /// Notes that work is done, for now or until a time from now.
    pub(super) fn done(&mut self, work: Work, again: Option<Duration>) {
        match again {
            Some(after) => {
                let later = Later { due: Instant::now() + after, failures: 0 };
                self.later.insert(work, later);
            }
            None => drop(self.later.remove(&work)),
        }
    }

    /// Notes that work failed; it is tried again after a pause that doubles each time. Returns the
    /// pause.
    pub(super) fn failed(&mut self, work: Work) -> Duration {
        let failures = self.later.get(&work).map_or(0, |later| later.failures);
        let pause = self.pause_min.saturating_mul(1 << failures.min(16)).min(self.pause_max);
        let later = Later { due: Instant::now() + pause, failures: failures.saturating_add(1) };
        self.later.insert(work, later);
        pause
    }

    /// Makes due what is put aside and meant.
    pub(super) fn hurry(&mut self, means: impl Fn(&Work) -> bool) {
        let waiting = self.later.keys().filter(|work| means(work)).cloned();
        self.now.extend(waiting.collect::<Vec<_>>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_has_time_is_done_once_for_all_that_came_meanwhile() {
        let mut queue = Queue::new(&ControlLimits::default());
        for _ in 0..3 {
            queue.add_after(Work::AllOwned, Duration::from_secs(2));
            assert_eq!(queue.next(), None);
            tokio::time::advance(Duration::from_millis(700)).await;
        }
        assert_eq!(queue.next(), Some(Work::AllOwned));
        queue.done(Work::AllOwned, None);
        assert_eq!(queue.next(), None);
        queue.add_after(Work::AllOwned, Duration::ZERO);
        assert_eq!(queue.next(), Some(Work::AllOwned));
        // What failed and would wait long is done when something new comes.
        for _ in 0..12 {
            queue.failed(Work::AllOwned);
        }
        queue.add_after(Work::AllOwned, Duration::from_secs(2));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(queue.next(), Some(Work::AllOwned));
    }

    #[test]
    fn what_fails_is_tried_again_ever_later() {
        let mut queue = Queue::new(&ControlLimits::default());
        let pauses: Vec<_> = (0..12).map(|_| queue.failed(Work::AllOwned).as_millis()).collect();
        assert_eq!(pauses[..4], [100, 200, 400, 800]);
        assert_eq!(pauses[11], 60_000);
        assert_eq!(queue.next(), None);
        queue.hurry(|work| *work == Work::AllOwned);
        assert_eq!(queue.next(), Some(Work::AllOwned));
        queue.done(Work::AllOwned, Some(Duration::ZERO));
        assert_eq!(queue.next(), Some(Work::AllOwned));
        queue.done(Work::AllOwned, None);
        assert_eq!(queue.next(), None);
        assert_eq!(queue.failed(Work::AllOwned).as_millis(), 100);
    }
}
