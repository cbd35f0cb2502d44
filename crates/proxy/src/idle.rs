//! How long an exchange may be silent on both sides, without a timer for each: a worker looks at all
//! of its exchanges now and then, and counts its looks. A worker that was held up looks late, and
//! takes nobody for silent because of that. Where an exchange has a time of its own, those that come
//! after one another share a timer.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use ironmesh_model::Tick;
use tokio::time::{Instant, Sleep, sleep_until};

/// The exchanges of a worker, and when it looked at them last.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    now: Cell<Tick>,
    looks: Cell<u64>,
    all: RefCell<Vec<Rc<Watch>>>,
}

/// Watches one exchange after the other: it belongs to the memory that a request uses.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The look before which something happened last; [`NOTHING`]: there is no exchange.
    active: Cell<u64>,
    passed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// The timer of the exchanges that had a time of their own; it may fire too early for this one.
    timer: RefCell<Option<Pin<Box<Sleep>>>>,
}

const NOTHING: u64 = u64::MAX;

impl Watches {
    /// The time when the worker looked last: at most [`Watches::interval`] ago.
    pub(crate) fn now(&self) -> Tick {
        self.now.get()
    }

    /// Another watch.
    pub(crate) fn add(&self) -> Rc<Watch> {
        let watch = Watch {
            active: Cell::new(NOTHING),
            passed: Cell::default(),
            waker: RefCell::default(),
            timer: RefCell::default(),
        };
        let watch = Rc::new(watch);
        self.all.borrow_mut().push(watch.clone());
        watch
    }

    /// Wakes the exchanges in which nothing has happened for so many looks.
    pub(crate) fn look(&self, now: Tick, looks_max: u64) {
        self.now.set(now);
        let looks = self.looks.get() + 1;
        self.looks.set(looks);
        self.all.borrow_mut().retain(|watch| {
            let active = watch.active.get();
            if active != NOTHING && looks.saturating_sub(active) > looks_max {
                watch.passed.set(true);
                if let Some(waker) = watch.waker.borrow().as_ref() {
                    waker.wake_by_ref();
                }
            }
            Rc::strong_count(watch) > 1
        });
    }

    /// So many looks are no sooner than `longest`.
    pub(crate) fn looks_max(longest: Duration) -> u64 {
        let looks = longest.as_millis().div_ceil(Self::interval(longest).as_millis().max(1));
        u64::try_from(looks).unwrap_or(u64::MAX)
    }

    /// How often to look.
    pub(crate) fn interval(longest: Duration) -> Duration {
        (longest / 8).clamp(INTERVAL_MIN, INTERVAL_MAX)
    }
}

impl Watch {
    /// Something has happened, or the exchange begins.
    pub(crate) fn active(&self, watches: &Watches) {
        self.active.set(watches.looks.get());
    }

    /// The exchange is over.
    pub(crate) fn end(&self) {
        self.active.set(NOTHING);
        self.passed.set(false);
    }

    /// Whether nothing has happened for too long; if not, whoever polls with this context is woken
    /// when it has.
    pub(crate) fn poll_passed(&self, cx: &Context<'_>) -> Poll<()> {
        if self.passed.get() {
            return Poll::Ready(());
        }
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Whether it is `at`; if not, whoever polls with this context is woken then, and perhaps before.
    /// The timer is set anew only when it fires, or would fire too late: an exchange that is over in time
    /// costs no change of it.
    pub(crate) fn poll_until(&self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut timer = self.timer.borrow_mut();
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if at < timer.deadline() {
            timer.as_mut().reset(at);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
        }
    }
}

const INTERVAL_MIN: Duration = Duration::from_millis(10);
const INTERVAL_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchanges_are_woken_when_nothing_happens_and_forgotten_when_they_are_gone() {
        let watches = Watches::default();
        let (one, other) = (watches.add(), watches.add());
        let look = |now| watches.look(Tick(now), 2);
        look(5);
        one.active(&watches);
        let context = Context::from_waker(Waker::noop());
        look(6);
        look(9_999);
        assert!(one.poll_passed(&context).is_pending(), "it may have happened just now");
        one.active(&watches);
        (0..2).for_each(|_| look(10_000));
        assert!(one.poll_passed(&context).is_pending());
        look(10_001);
        assert!(one.poll_passed(&context).is_ready());
        assert!(other.poll_passed(&context).is_pending(), "there is no exchange");
        one.end();
        (0..9).for_each(|_| look(10_002));
        assert!(one.poll_passed(&context).is_pending());
        drop((one, other));
        look(10_003);
        assert!(watches.all.borrow().is_empty());
    }

    #[tokio::test]
    async fn exchanges_share_a_timer_and_each_ends_at_its_own_time() {
        let watch = Watches::default().add();
        let begun = Instant::now();
        let far = begun + Duration::from_secs(3600);
        let mut context = Context::from_waker(Waker::noop());
        assert!(watch.poll_until(far, &mut context).is_pending());
        // Sooner than it is set for, then later than it fires for another that is over.
        for after in [20, 60] {
            let at = begun + Duration::from_millis(after);
            let _ = watch.poll_until(at - Duration::from_millis(10), &mut context);
            std::future::poll_fn(|cx| watch.poll_until(at, cx)).await;
            assert!(Instant::now() >= at, "{after} ms");
        }
    }

    #[test]
    fn looks_are_no_sooner_than_the_limit() {
        for (longest, looks) in [(300_000, 300), (1_000, 8), (200, 8), (1, 1), (0, 0)] {
            let longest = Duration::from_millis(longest);
            assert_eq!(Watches::looks_max(longest), looks, "{longest:?}");
        }
    }
}
