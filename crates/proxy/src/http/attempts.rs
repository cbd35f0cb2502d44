//! The attempts at one request, until there is an answer to give or nothing left to try.

use std::pin::pin;
use std::time::Duration;

use ironmesh_model::group::{Counter, GroupStats, Noted, Retrying, Tried};
use ironmesh_model::retry::{Asked, Attempt, AttemptOutcome, Next, Retry, after_attempt};
use ironmesh_model::{Decision, Plan, Reason};
use tokio::time::{Instant, sleep};

use crate::failure::{Blame, Failure, Stage};
use crate::http::deadlines::{Deadlines, Passed};
use crate::http::exchange::{Exchange, Picked};
use crate::http::forward::{Ended, Forwarding, Progress, Replay, Withheld, forward};
use crate::http::mirror::Copies;
use crate::http::upstream::Upstream;
use crate::http::{ClientSide, Served, body, edit};
use crate::http1::Limits;
use crate::message::ResponseHead;

/// What the attempts at a request share.
pub(crate) struct Attempts<'a> {
    decision: &'a Decision,
    deadlines: Deadlines<'a>,
    replay: Replay,
    copies: Copies,
    tried: Tried,
    /// What the request itself says of it, if something.
    asked: Option<Box<Asked>>,
}

impl<'a> Attempts<'a> {
    /// No attempt yet.
    pub(crate) fn new(
        exchange: &Exchange<'a>,
        decision: &'a Decision,
        asked: Option<Box<Asked>>,
        client: &ClientSide<'_, '_, '_>,
        copies: Copies,
    ) -> Self {
        let mut timeout = decision.timeout();
        if let Some(given) = exchange.grpc_timeout() {
            // It runs from when the request came, even if it was held back since.
            let left = given.saturating_sub(exchange.outcome.started.elapsed());
            timeout = Some(timeout.map_or(left, |timeout| timeout.min(left)));
        }
        if let Some(given) = asked.as_ref().and_then(|asked| asked.timeout) {
            timeout = Some(given).filter(|timeout| !timeout.is_zero());
        }
        let per_try = decision.retry().and_then(|retry| retry.per_try_timeout);
        let given = asked.as_ref().and_then(|asked| asked.per_try_timeout);
        let per_try = given.or(per_try).filter(|per_try| !per_try.is_zero());
        let deadlines =
            Deadlines::new(exchange.worker, exchange.watch, timeout, per_try, exchange.grpc);
        if client.body.source.is_ended() {
            deadlines.request_ended();
        }
        let replay = Replay::new();
        Self { decision, deadlines, replay, copies, tried: Tried::default(), asked }
    }

    /// Sends the request to one endpoint after the other until there is an answer.
    pub(crate) async fn run(
        &mut self,
        exchange: &mut Exchange<'_>,
        client: &mut ClientSide<'_, '_, '_>,
    ) -> Result<Served, Failure> {
        if self.deadlines.are_over() {
            return Err(Passed::Timeout.failure());
        }
        let mut last = None;
        loop {
            let picked = exchange.pick(self.decision, &self.tried, client.body.upgrade.is_some());
            let picked = match picked {
                Ok(picked) => picked,
                Err(_) if exchange.resolved_now(self.decision).await => continue,
                Err(none) => return Err(last.unwrap_or(none)),
            };
            exchange.outcome.attempts += 1;
            let after = match self.attempt(exchange, &picked, client).await {
                Ok(Attempted::Served(served)) => {
                    self.count_end(exchange);
                    return Ok(served);
                }
                Ok(Attempted::Withheld(after)) => after,
                Err(failure) => {
                    last = Some(failure);
                    match self.next(exchange, &failure) {
                        Next::Deliver => return Err(failure),
                        Next::Exhausted => {
                            exchange.outcome.exhausted = true;
                            self.count_end(exchange);
                            return Err(failure);
                        }
                        Next::Overflow => {
                            exchange.outcome.overflowed = true;
                            self.count_end(exchange);
                            return Err(failure);
                        }
                        Next::Retry { after } => after,
                        Next::Again => {
                            exchange.fresh = true;
                            continue;
                        }
                    }
                }
            };
            if let Some(member) = picked.member {
                self.tried.push(member, retry(self.asked.as_deref(), self.decision));
            }
            self.count(|stats| &stats.retries);
            if !after.is_zero() {
                let paused = self.pause(after, client).await;
                paused.inspect_err(|failure| self.count_failure(failure))?;
            }
        }
    }

    /// Counts one more of something that is out of the ordinary, for the group.
    fn count(&self, what: impl FnOnce(&GroupStats) -> &Counter) {
        if let Some(group) = self.decision.group() {
            what(group.stats()).add();
        }
    }

    /// Counts how a request ended that was tried more than once, or would have been.
    fn count_end(&self, exchange: &Exchange<'_>) {
        if exchange.outcome.overflowed {
            self.count(|stats| &stats.retry_overflow);
        } else if exchange.outcome.exhausted {
            self.count(|stats| &stats.retry_limit_exceeded);
        } else if made(exchange) > 1 {
            self.count(|stats| &stats.retry_success);
        }
    }

    fn count_failure(&self, failure: &Failure) {
        match (failure.reason, failure.blame) {
            (Reason::Timeout, _) => self.count(|stats| &stats.timeouts),
            (Reason::PerTryTimeout, _) => self.count(|stats| &stats.per_try_timeouts),
            (Reason::UpstreamReset, _) => self.count(|stats| &stats.resets),
            (Reason::UpstreamOverflow | Reason::Overloaded, Blame::Mesh) => {
                self.count(|stats| &stats.pending_overflow);
            }
            _ => {}
        }
    }

    /// What is done after an attempt that failed.
    fn next(&self, exchange: &mut Exchange<'_>, failure: &Failure) -> Next {
        let Some(outcome) = outcome_of(failure, self.replay.is_ended()) else {
            return Next::Deliver;
        };
        let attempt = Attempt {
            made: made(exchange),
            outcome,
            is_whole: self.replay.is_whole(),
            is_idempotent: exchange.head.is_idempotent(),
            is_fresh: exchange.fresh,
        };
        let attempts_max = attempts_max(exchange, self.decision);
        let next = after_attempt(self.retry(), &attempt, attempts_max, exchange.draw, |_| false);
        let (next, retrying) = allowed(next, exchange, self.decision, self.retry().is_some());
        exchange.hold_retry(retrying);
        next
    }

    /// When the request is tried again; `None`: nobody has said so.
    fn retry(&self) -> Option<&Retry> {
        retry(self.asked.as_deref(), self.decision)
    }

    /// Waits before another attempt, unless the time is over or the client has left.
    async fn pause(
        &self,
        after: Duration,
        client: &mut ClientSide<'_, '_, '_>,
    ) -> Result<(), Failure> {
        self.deadlines.attempt_ends();
        let waited = pin!(sleep(after));
        tokio::select! {
            waited = self.deadlines.in_time(waited) => waited.map_err(Passed::failure),
            () = client.left() => Err(Failure::downstream(Reason::DownstreamClosed)),
        }
    }

    /// One attempt at one endpoint: connect, forward, note what became of it.
    async fn attempt(
        &mut self,
        exchange: &mut Exchange<'_>,
        picked: &Picked,
        client: &mut ClientSide<'_, '_, '_>,
    ) -> Result<Attempted, Failure> {
        exchange.count(self.decision).inspect_err(|failure| self.count_failure(failure))?;
        self.deadlines.attempt_begins();
        exchange.state_attempt(made(exchange), &self.deadlines);
        let _under_way = picked.member.as_ref().map(|member| member.begin());
        let began = self.decision.is_timed().then(Instant::now);
        let attempted = match self.connect(exchange, picked, client).await {
            Ok(upstream) => self.forward(exchange, picked, upstream, client).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = &attempted {
            self.count_failure(failure);
        }
        if let (Some(member), Some(group)) = (&picked.member, self.decision.group()) {
            let outcome = &exchange.outcome;
            let noted = match &attempted {
                Ok(_) => Some(Noted::answer(outcome.status, outcome.grpc_status)),
                // What the client or the mesh has done says nothing about the endpoint.
                Err(failure) => (failure.blame == Blame::Upstream).then_some(Noted::NoAnswer),
            };
            if let (Some(began), Some(noted)) = (began, &noted) {
                let took = match noted {
                    Noted::Success => began.elapsed(),
                    // An endpoint that fails at once is not fast.
                    _ => began.elapsed().max(FAILURE_TAKES),
                };
                member.state().note_latency(took, exchange.worker.process.now());
            }
            if let Some(noted) = noted {
                group.note(member, noted, || exchange.worker.process.now());
            }
        }
        attempted
    }

    async fn connect(
        &self,
        exchange: &mut Exchange<'_>,
        picked: &Picked,
        client: &mut ClientSide<'_, '_, '_>,
    ) -> Result<Upstream, Failure> {
        let connecting =
            pin!(exchange.connect(picked.destination(exchange.connection, self.decision)));
        let connected = tokio::select! {
            biased;
            connected = self.deadlines.in_time(connecting) => {
                connected.unwrap_or_else(|passed| Err(passed.failure()))
            }
            () = client.left() => Err(Failure::downstream(Reason::DownstreamClosed)),
        };
        self.count_connection(&connected);
        connected
    }

    /// Counts a connection that was made for the attempt, or could not be.
    fn count_connection(&self, connected: &Result<Upstream, Failure>) {
        let failed = match connected {
            Ok(upstream) if upstream.is_new() => false,
            Err(Failure { reason: Reason::ConnectFailed | Reason::PeerUntrusted, .. }) => true,
            Ok(_) | Err(_) => return,
        };
        self.count(|stats| &stats.pending);
        self.count(|stats| &stats.connections);
        if failed {
            self.count(|stats| &stats.connects_failed);
        }
    }

    async fn forward(
        &mut self,
        exchange: &mut Exchange<'_>,
        picked: &Picked,
        mut upstream: Upstream,
        client: &mut ClientSide<'_, '_, '_>,
    ) -> Result<Attempted, Failure> {
        let ClientSide { body, response, responder } = client;
        let limits = &exchange.worker.process.limits;
        let progress = Progress::default();
        progress.informational_heads_left.set(limits.informational_heads_max);
        let forwarding = Forwarding {
            head: &*exchange.head,
            framing: body.framing,
            may_switch: body.upgrade.is_some(),
            source: &mut *body.source,
            replay: &mut self.replay,
            copies: &mut self.copies,
            deadlines: &self.deadlines,
            limits: Limits::from(limits),
            spare: &exchange.worker.buffers,
            out: &mut *body.out,
            progress: &progress,
        };
        let from_member = picked.tls(self.decision).expected().is_some();
        let (decision, asked) = (self.decision, &*exchange);
        let retry = retry(self.asked.as_deref(), decision);
        let mut seen = Seen::default();
        // As one, so that less is carried along.
        let noted = &mut seen;
        let edit = |head: &mut ResponseHead, is_whole: bool| {
            let noted = &mut *noted;
            if !edit::response(head, asked, decision, from_member) {
                return Err(Withheld::NotDelivered);
            }
            (noted.status, noted.grpc_status) = (head.status, body::grpc_status(&head.fields));
            let (next, permit) = after_answer(asked, decision, retry, head, is_whole);
            noted.decided(next, permit);
            if let Next::Retry { after } = next {
                return Err(Withheld::Retried(after));
            }
            for cookie in asked.new_cookies() {
                head.fields.push(b"set-cookie", cookie.as_bytes());
            }
            if !head.fields.contains("date") {
                head.fields.push(b"date", &asked.worker.date());
            }
            Ok(())
        };
        let ended = forward(forwarding, &mut upstream, response, responder, edit).await;
        let outcome = &mut exchange.outcome;
        outcome.status = seen.status;
        outcome.exhausted |= seen.exhausted;
        outcome.overflowed |= seen.overflowed;
        outcome.grpc_status = progress.grpc_status.get().or(seen.grpc_status);
        outcome.response_bytes = progress.answer_bytes.get();
        outcome.first_byte = progress.first_byte.get();
        exchange.hold_retry(seen.retrying);
        let sent = progress.request_sent.get();
        match ended {
            Ok(Ended::Answered { reusable }) => {
                exchange.give_back(upstream, reusable && sent);
                Ok(Attempted::Served(Served::Answered))
            }
            Ok(Ended::Switched) => Ok(Attempted::Served(Served::Switched(upstream))),
            Ok(Ended::Withheld { why, reusable }) => {
                exchange.give_back(upstream, reusable && sent);
                match why {
                    Withheld::NotDelivered => {
                        Err(Failure::upstream(Reason::ConnectFailed, Stage::NotSent))
                    }
                    Withheld::Retried(after) => Ok(Attempted::Withheld(after)),
                }
            }
            Err(failure) => Err(upstream.failed(failure)),
        }
    }
}

/// What the head of an answer told.
#[derive(Default)]
struct Seen {
    status: u16,
    grpc_status: Option<u8>,
    /// See [`Next::Exhausted`].
    exhausted: bool,
    /// See [`Next::Overflow`].
    overflowed: bool,
    retrying: Option<Retrying>,
}

impl Seen {
    fn decided(&mut self, next: Next, retrying: Option<Retrying>) {
        self.exhausted = next == Next::Exhausted;
        self.overflowed = next == Next::Overflow;
        self.retrying = retrying;
    }
}

/// Attempts that count: not the one by a kept connection that had died, see [`Next::Again`].
fn made(exchange: &Exchange<'_>) -> u32 {
    exchange.outcome.attempts.saturating_sub(u32::from(exchange.fresh))
}

/// What is done after an answer, of which the head has come.
fn after_answer(
    exchange: &Exchange<'_>,
    decision: &Decision,
    retry: Option<&Retry>,
    head: &ResponseHead,
    is_whole: bool,
) -> (Next, Option<Retrying>) {
    let grpc_status = body::grpc_status(&head.fields);
    let attempt = Attempt {
        made: made(exchange),
        outcome: AttemptOutcome::Answered { status: head.status, grpc_status },
        is_whole,
        is_idempotent: exchange.head.is_idempotent(),
        is_fresh: true,
    };
    let attempts_max = attempts_max(exchange, decision);
    let has = |name: &str| head.fields.contains(name);
    let next = after_attempt(retry, &attempt, attempts_max, exchange.draw, has);
    allowed(next, exchange, decision, retry.is_some())
}

/// What is done next, but for another attempt beyond what the proxy makes in any case, or beyond what
/// the policy of the group allows.
fn allowed(
    next: Next,
    exchange: &Exchange<'_>,
    decision: &Decision,
    is_configured: bool,
) -> (Next, Option<Retrying>) {
    if !matches!(next, Next::Retry { .. }) {
        return (next, None);
    }
    if made(exchange) >= exchange.worker.process.limits.attempts_max {
        return (Next::Exhausted, None);
    }
    match decision.group().map_or(Ok(None), |group| group.retry(is_configured)) {
        Ok(retrying) => (next, retrying),
        Err(_) => (Next::Overflow, None),
    }
}

/// When a request is tried again: what it says itself, else what its rule says; `None`: neither does.
fn retry<'a>(asked: Option<&'a Asked>, decision: &'a Decision) -> Option<&'a Retry> {
    asked.and_then(|asked| asked.retry.as_ref()).or(decision.retry())
}

/// Attempts at a request, where nobody has configured their number. What passes through or comes in has
/// one place to go to.
fn attempts_max(exchange: &Exchange<'_>, decision: &Decision) -> u32 {
    match decision.plan {
        Plan::Forward => exchange.worker.process.limits.connect_attempts_max,
        _ => 1,
    }
}

/// How an attempt ended that is no failure.
enum Attempted {
    /// The client has an answer, or its connection.
    Served(Served),
    /// The answer is one that is tried again, after this pause.
    Withheld(Duration),
}

/// How long an attempt that failed took at least, where who answers sooner is preferred: long enough that
/// others are asked, until it is forgotten.
const FAILURE_TAKES: Duration = Duration::from_secs(5);

/// What a failure is to [`after_attempt`]; `None`: nothing that could be tried again.
fn outcome_of(failure: &Failure, request_sent: bool) -> Option<AttemptOutcome> {
    Some(match (failure.blame, failure.stage, failure.reason) {
        (Blame::Upstream, Stage::NotSent, Reason::ConnectFailed | Reason::PeerUntrusted) => {
            AttemptOutcome::NotConnected
        }
        (Blame::Upstream, Stage::NotSent, _) => AttemptOutcome::Refused,
        (Blame::Upstream, Stage::Unseen, _) => {
            AttemptOutcome::Reset { request_sent, kept_connection: true }
        }
        (Blame::Upstream, Stage::Sent, Reason::UpstreamReset | Reason::UpstreamProtocol) => {
            AttemptOutcome::Reset { request_sent, kept_connection: false }
        }
        (Blame::Upstream, Stage::Sent, Reason::PerTryTimeout) => AttemptOutcome::TimedOut,
        _ => return None,
    })
}
