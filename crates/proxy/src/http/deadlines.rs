//! How long one exchange may take.
//!
//! The route's timeout is one for the whole exchange, as in Istio: it runs from the end of the
//! client's request, over every connection and attempt that is made for it. An attempt may have a
//! timeout of its own. Beside these, a peer that
//! is to send the rest of a request's body, or to take what is written to it, and makes no progress
//! is given up. A client of gRPC, or one that is being answered already, may hold its stream open in
//! silence, and so may an endpoint before and while it answers, but not both of them for ever: an
//! exchange in which neither side has sent anything for long ends (see [`crate::idle`]).
//!
//! One timer serves all but the last: that of the exchange's watch.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use ironmesh_model::Reason;
use tokio::time::Instant;

use crate::failure::{Failure, Stage};
use crate::idle::Watch;
use crate::worker::Worker;

/// The deadlines of one exchange.
#[derive(Debug)]
pub(crate) struct Deadlines<'a> {
    worker: &'a Worker,
    watch: &'a Watch,
    /// Whether the client has sent its whole request.
    is_sent: Cell<bool>,
    timeout: Option<Duration>,
    per_try_timeout: Option<Duration>,
    /// When the request ended, if it has.
    request_ended: Cell<Option<Instant>>,
    /// When the time of this attempt ends; known once the request has ended.
    attempt_end: Cell<Option<Instant>>,
    /// Whether the client may be silent before its request has ended.
    may_pause: Cell<bool>,
    /// Until when a peer must make a step, by [`Awaited`].
    steps: [Cell<Option<Instant>>; 3],
}

/// What a peer is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Awaited {
    /// The client is to send more of the body. The first, since it is left out where the client may
    /// pause.
    ClientSends,
    /// The endpoint is to take what is written to it.
    EndpointTakes,
    /// The client is to take what is written to it.
    ClientTakes,
}

/// Which deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// The route's timeout.
    Timeout,
    /// That of one attempt.
    Attempt,
    /// A peer made no progress.
    Idle,
    /// Neither side has sent anything; the client was to send more.
    Quiet,
    /// Likewise, when it was for the endpoint to answer.
    Unanswered,
}

impl Passed {
    /// What becomes of the request then.
    pub(crate) fn failure(self) -> Failure {
        match self {
            Self::Timeout => Failure::upstream(Reason::Timeout, Stage::Sent),
            Self::Attempt => Failure::upstream(Reason::PerTryTimeout, Stage::Sent),
            Self::Idle => Failure::downstream(Reason::StreamIdle),
            Self::Quiet => Failure::downstream(Reason::ExchangeIdle),
            Self::Unanswered => Failure::upstream(Reason::ExchangeIdle, Stage::Sent),
        }
    }
}

impl<'a> Deadlines<'a> {
    /// Deadlines of which none runs yet. `timeout`: the route's, `per_try_timeout`: that of one
    /// attempt; `None`: no limit.
    pub(crate) fn new(
        worker: &'a Worker,
        watch: &'a Watch,
        timeout: Option<Duration>,
        per_try_timeout: Option<Duration>,
        grpc: bool,
    ) -> Self {
        watch.active(&worker.watches);
        Self {
            worker,
            watch,
            is_sent: Cell::new(false),
            timeout,
            per_try_timeout,
            request_ended: Cell::default(),
            attempt_end: Cell::default(),
            may_pause: Cell::new(grpc),
            steps: Default::default(),
        }
    }

    /// Another attempt begins.
    pub(crate) fn attempt_begins(&self) {
        if let (Some(timeout), Some(_)) = (self.per_try_timeout, self.request_ended.get()) {
            self.attempt_end.set(Some(Instant::now() + timeout));
        }
        self.forget_steps();
    }

    /// An attempt has ended, and with it its time.
    pub(crate) fn attempt_ends(&self) {
        self.attempt_end.set(None);
        self.forget_steps();
    }

    fn forget_steps(&self) {
        for step in &self.steps {
            step.set(None);
        }
    }

    /// One of the sides has sent something.
    pub(crate) fn heard(&self) {
        self.watch.active(&self.worker.watches);
    }

    /// The client is being answered.
    pub(crate) fn answer_begun(&self) {
        self.may_pause.set(true);
    }

    /// The client has sent its whole request: timeouts begin, if they have not before.
    pub(crate) fn request_ended(&self) {
        self.is_sent.set(true);
        if self.request_ended.get().is_some()
            || (self.timeout.is_none() && self.per_try_timeout.is_none())
        {
            return;
        }
        let now = Instant::now();
        self.request_ended.set(Some(now));
        self.attempt_end.set(self.per_try_timeout.map(|timeout| now + timeout));
    }

    /// Bytes of a body that are kept, so that an attempt may follow: nothing of time, but what is known
    /// here need not be kept beside it.
    pub(crate) fn replay_bytes_max(&self) -> usize {
        self.worker.process.limits.replay_bytes_max
    }

    /// Whether there was no time at all.
    pub(crate) fn are_over(&self) -> bool {
        self.timeout == Some(Duration::ZERO)
    }

    /// How long the answer may take from now on, with all attempts; `None`: for ever.
    pub(crate) fn left(&self) -> Option<Duration> {
        let elapsed = || self.request_ended.get().map_or(Duration::ZERO, |ended| ended.elapsed());
        self.timeout.map(|timeout| timeout.saturating_sub(elapsed()))
    }

    /// How long an attempt may take; `None`: as long as all of them.
    pub(crate) fn of_attempt(&self) -> Option<Duration> {
        self.per_try_timeout
    }

    /// When the route's timeout ends.
    fn end(&self) -> Option<Instant> {
        Some(self.request_ended.get()? + self.timeout?)
    }

    /// Waits for a step of a peer. While it is not done, [`Deadlines::passed`] looks at the clock.
    /// As cancel safe as `work`.
    pub(crate) async fn step<T>(
        &self,
        step: Awaited,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> T {
        let until = &self.steps[step as usize];
        poll_fn(|cx| {
            let polled = work.as_mut().poll(cx);
            until.set(match polled {
                Poll::Ready(_) => None,
                Poll::Pending => {
                    let longest = self.worker.process.limits.stream_idle_timeout;
                    until.get().or_else(|| Some(Instant::now() + longest))
                }
            });
            polled
        })
        .await
    }

    /// Ends `work`, in which no step is waited for, when a deadline passes.
    pub(crate) async fn in_time<T>(
        &self,
        work: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Passed> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            passed = self.passed() => Err(passed),
        }
    }

    fn quiet(&self) -> Passed {
        if self.is_sent.get() { Passed::Unanswered } else { Passed::Quiet }
    }

    /// The timeout that passes first.
    fn next_timeout(&self) -> Option<(Instant, Passed)> {
        match (self.end(), self.attempt_end.get()) {
            (Some(end), Some(attempt)) if attempt < end => Some((attempt, Passed::Attempt)),
            (Some(end), _) => Some((end, Passed::Timeout)),
            (None, attempt) => attempt.map(|attempt| (attempt, Passed::Attempt)),
        }
    }

    /// Waits until a deadline has passed. To be polled in the task that waits for the steps, after
    /// them, so that it sees each that begins. Cancel safe.
    pub(crate) async fn passed(&self) -> Passed {
        poll_fn(|cx| {
            if self.watch.poll_passed(cx).is_ready() {
                return Poll::Ready(self.quiet());
            }
            let Some((next, passed)) = self.next() else { return Poll::Pending };
            self.watch.poll_until(next, cx).map(|()| passed)
        })
        .await
    }

    /// The deadline that passes first.
    fn next(&self) -> Option<(Instant, Passed)> {
        let mut next = self.next_timeout();
        let steps = if self.may_pause.get() { &self.steps[1..] } else { &self.steps[..] };
        for step in steps.iter().filter_map(Cell::get) {
            if next.is_none_or(|(at, _)| step < at) {
                next = Some((step, Passed::Idle));
            }
        }
        next
    }
}

impl Drop for Deadlines<'_> {
    fn drop(&mut self) {
        self.watch.end();
    }
}
