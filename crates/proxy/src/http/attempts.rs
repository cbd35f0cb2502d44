//! The attempts at one request, until there is an answer to give or nothing left to try.

use std::pin::pin;
use std::time::Duration;

use ironmesh_model::group::{Noted, Tried};
use ironmesh_model::retry::{Attempt, AttemptOutcome, Next, after_attempt};
use ironmesh_model::{Decision, Plan, Reason};
use tokio::time::sleep;

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
}

impl<'a> Attempts<'a> {
    /// No attempt yet.
    pub(crate) fn new(
        exchange: &Exchange<'a>,
        decision: &'a Decision,
        client: &ClientSide<'_, '_, '_>,
        copies: Copies,
    ) -> Self {
        let limits = &exchange.worker.process.limits;
        let deadlines = Deadlines::new(
            exchange.worker,
            exchange.watch,
            decision.timeout(),
            decision.retry().per_try_timeout,
            exchange.grpc,
        );
        if client.body.source.is_ended() {
            deadlines.request_ended();
        }
        let replay = Replay::new(limits.replay_bytes_max);
        Self { decision, deadlines, replay, copies, tried: Tried::default() }
    }

    /// Sends the request to one endpoint after the other until there is an answer.
    pub(crate) async fn run(
        &mut self,
        exchange: &mut Exchange<'_>,
        client: &mut ClientSide<'_, '_, '_>,
    ) -> Result<Served, Failure> {
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
                Ok(Attempted::Served(served)) => return Ok(served),
                Ok(Attempted::Withheld(after)) => after,
                Err(failure) => {
                    last = Some(failure);
                    match self.next(exchange, &failure) {
                        Next::Deliver => return Err(failure),
                        Next::Retry { after } => after,
                        Next::Again => {
                            exchange.fresh = true;
                            continue;
                        }
                    }
                }
            };
            picked.member.into_iter().for_each(|member| self.tried.push(member));
            if !after.is_zero() {
                self.pause(after, client).await?;
            }
        }
    }

    /// What is done after an attempt that failed.
    fn next(&self, exchange: &Exchange<'_>, failure: &Failure) -> Next {
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
        // What passes through or comes in has one place to go to.
        let places_max = match self.decision.plan {
            Plan::Forward => exchange.worker.process.limits.connect_attempts_max,
            _ => 1,
        };
        after_attempt(self.decision.retry(), &attempt, places_max, exchange.draw)
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
        exchange.count(self.decision)?;
        self.deadlines.attempt_begins();
        let _under_way = picked.member.as_ref().map(|member| member.begin());
        let attempted = match self.connect(exchange, picked, client).await {
            Ok(upstream) => self.forward(exchange, picked, upstream, client).await,
            Err(failure) => Err(failure),
        };
        if let (Some(member), Some(group)) = (&picked.member, self.decision.group()) {
            let outcome = &exchange.outcome;
            let noted = match &attempted {
                Ok(_) => Some(Noted::answer(outcome.status, outcome.grpc_status)),
                // What the client or the mesh has done says nothing about the endpoint.
                Err(failure) => (failure.blame == Blame::Upstream).then_some(Noted::NoAnswer),
            };
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
        tokio::select! {
            biased;
            connected = self.deadlines.in_time(connecting) => {
                connected.unwrap_or_else(|passed| Err(passed.failure()))
            }
            () = client.left() => Err(Failure::downstream(Reason::DownstreamClosed)),
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
        let (mut status, mut grpc_status) = (0, None);
        let edit = |head: &mut ResponseHead, is_whole: bool| {
            if !edit::response(head, asked.connection.kind, decision, asked.origin(), from_member) {
                return Err(Withheld::NotDelivered);
            }
            (status, grpc_status) = (head.status, body::grpc_status(&head.fields));
            let attempt = Attempt {
                made: made(asked),
                outcome: AttemptOutcome::Answered { status, grpc_status },
                is_whole,
                is_idempotent: asked.head.is_idempotent(),
                is_fresh: true,
            };
            let next = after_attempt(decision.retry(), &attempt, 1, asked.draw);
            if let Next::Retry { after } = next {
                return Err(Withheld::Retried(after));
            }
            if let Some(cookie) = asked.new_cookie() {
                head.fields.push(b"set-cookie", cookie.as_bytes());
            }
            if !head.fields.contains("date") {
                head.fields.push(b"date", &asked.worker.date());
            }
            Ok(())
        };
        let ended = forward(forwarding, &mut upstream, response, responder, edit).await;
        let outcome = &mut exchange.outcome;
        outcome.status = status;
        outcome.grpc_status = progress.grpc_status.get().or(grpc_status);
        outcome.response_bytes = progress.answer_bytes.get();
        outcome.first_byte = progress.first_byte.get();
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

/// Attempts that count: not the one by a kept connection that had died, see [`Next::Again`].
fn made(exchange: &Exchange<'_>) -> u32 {
    exchange.outcome.attempts.saturating_sub(u32::from(exchange.fresh))
}

/// How an attempt ended that is no failure.
enum Attempted {
    /// The client has an answer, or its connection.
    Served(Served),
    /// The answer is one that is tried again, after this pause.
    Withheld(Duration),
}

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
