//! The path of one request, in the order of the design:
//! detect → decide → authorize → limit → pick → connect → forward → observe.
//!
//! [`serve`] is that path, whichever version of HTTP the client and the endpoint speak.

use std::pin::pin;

use ironmesh_model::{Decision, ListenerKind, Plan, Reason};
use tokio::time::timeout;

use crate::balance::Tried;
use crate::failure::{Blame, Failure, Stage};
use crate::http::body::Source;
use crate::http::deadlines::Deadlines;
use crate::http::exchange::Exchange;
use crate::http::forward::{Attempt, Ended, Progress, Replay, forward};
use crate::http::local::LocalAnswer;
use crate::http::responder::Responder;
use crate::http::upstream::Upstream;
use crate::http1::{Framing, Limits};
use crate::message::ResponseHead;
use crate::pool::Destination;

pub(crate) mod body;
pub(crate) mod convert;
pub(crate) mod deadlines;
pub(crate) mod dial;
pub(crate) mod edit;
pub(crate) mod exchange;
pub(crate) mod forward;
pub(crate) mod local;
pub(crate) mod responder;
pub(crate) mod server1;
pub(crate) mod server2;
pub(crate) mod upstream;

/// The body of a request, and what its head said about it.
pub(crate) struct RequestBody<'a, 'b> {
    pub(crate) source: &'a mut Source<'b>,
    pub(crate) framing: Framing,
    /// Protocols to which the client asks to switch.
    pub(crate) upgrade: Option<&'a str>,
    /// What waits to be written to the endpoint.
    pub(crate) out: &'a mut Vec<u8>,
}

/// How serving a request ended.
#[derive(Debug)]
pub(crate) enum Served {
    /// The client has an answer.
    Answered,
    /// The client has no answer, or a part of one: its connection or stream must be broken off.
    Broken,
    /// The client and this endpoint switched to another protocol: who relays it also observes it.
    Switched(Upstream),
}

/// Serves one request.
pub(crate) async fn serve(
    exchange: &mut Exchange<'_>,
    mut body: RequestBody<'_, '_>,
    response: &mut ResponseHead,
    responder: &mut Responder<'_>,
) -> Served {
    let served = match exchange.take_over() {
        Ok(()) => route(exchange, &mut body, response, responder).await,
        Err(failure) => Err(failure),
    };
    let served = match served {
        Ok(served) => served,
        Err(failure) => refuse(exchange, failure, &mut body, response, responder).await,
    };
    exchange.outcome.request_bytes = body.source.bytes();
    if !matches!(served, Served::Switched(_)) {
        exchange.observe();
    }
    served
}

/// Decides and forwards.
async fn route(
    exchange: &mut Exchange<'_>,
    body: &mut RequestBody<'_, '_>,
    response: &mut ResponseHead,
    responder: &mut Responder<'_>,
) -> Result<Served, Failure> {
    let decision = exchange.decide().await?;
    let served = match (&decision.plan, decision.direct_response()) {
        (Plan::Answer(_), Some(answer)) => {
            let answer = LocalAnswer::direct(answer);
            exchange.outcome.reason = decision.reason;
            let given = self::answer(exchange, &answer, Some(&decision), body, response, responder);
            // Boxed: rare, and otherwise it would make every request's future larger.
            Ok(Box::pin(given).await)
        }
        (Plan::Answer(_), None) => Err(Failure::mesh(decision.reason)),
        _ => attempts(exchange, &decision, body, response, responder).await,
    };
    exchange.outcome.decided(decision);
    served
}

/// Sends the request to one endpoint after the other until there is an answer.
async fn attempts(
    exchange: &mut Exchange<'_>,
    decision: &Decision,
    body: &mut RequestBody<'_, '_>,
    response: &mut ResponseHead,
    responder: &mut Responder<'_>,
) -> Result<Served, Failure> {
    exchange.edit_request(decision);
    convert::state_for_http1(&mut exchange.head.fields, body.framing, body.upgrade);
    let limits = &exchange.worker.process.limits;
    let deadlines = Deadlines::new(decision.timeout(), limits.stream_idle_timeout, exchange.grpc);
    if body.source.is_ended() {
        deadlines.request_ended();
    }
    let mut tried = Tried::new();
    let mut replay = Replay::new(limits.replay_bytes_max);
    let mut last = None;
    loop {
        let picked = exchange.pick(decision, &tried, body.upgrade.is_some());
        let to = picked.map_err(|none| last.unwrap_or(none))?;
        exchange.outcome.attempts += 1;
        let attempted =
            attempt(exchange, decision, to, body, &deadlines, &mut replay, response, responder);
        let failure = match attempted.await {
            Ok(served) => return Ok(served),
            Err(failure) => failure,
        };
        match failure.stage {
            _ if !replay.is_whole() => return Err(failure),
            Stage::Unseen if exchange.head.is_idempotent() && !exchange.fresh => {
                exchange.fresh = true;
            }
            Stage::NotSent
                if failure.blame == Blame::Upstream
                    && decision.plan == Plan::Forward
                    && exchange.outcome.attempts < limits.connect_attempts_max =>
            {
                tried.extend(exchange.outcome.endpoint);
            }
            _ => return Err(failure),
        }
        last = Some(failure);
    }
}

/// One attempt at one endpoint: connect, forward, note what became of it.
#[expect(clippy::too_many_arguments, reason = "each is another borrow that the attempt needs")]
async fn attempt(
    exchange: &mut Exchange<'_>,
    decision: &Decision,
    to: Destination<'_>,
    body: &mut RequestBody<'_, '_>,
    deadlines: &Deadlines,
    replay: &mut Replay,
    response: &mut ResponseHead,
    responder: &mut Responder<'_>,
) -> Result<Served, Failure> {
    let timed_out = Failure::upstream(Reason::Timeout, Stage::Sent);
    let connected = {
        let connecting = pin!(exchange.connect(to));
        tokio::select! {
            biased;
            connected = deadlines.in_time(connecting) => connected,
            () = left(body.source, responder) => {
                return Err(Failure::downstream(Reason::DownstreamClosed));
            }
        }
    };
    let mut upstream = connected.unwrap_or(Err(timed_out))?;
    let progress = Progress::default();
    let limits = &exchange.worker.process.limits;
    progress.informational_heads_left.set(limits.informational_heads_max);
    let attempt = Attempt {
        head: &*exchange.head,
        framing: body.framing,
        may_switch: body.upgrade.is_some(),
        source: &mut *body.source,
        replay,
        deadlines,
        limits: Limits::from(limits),
        spare: &exchange.worker.buffers,
        out: &mut *body.out,
        progress: &progress,
    };
    let (kind, worker) = (exchange.connection.kind, exchange.worker);
    let (mut status, mut grpc_status) = (0, None);
    let edit = |head: &mut ResponseHead| {
        let shown = edit::response(head, kind, decision, to.tls.expected().is_some());
        if shown {
            status = head.status;
            grpc_status = body::grpc_status(&head.fields);
            if !head.fields.contains("date") {
                head.fields.push(b"date", &worker.date());
            }
        }
        shown
    };
    let ended = forward(attempt, &mut upstream, response, responder, edit).await;
    let outcome = &mut exchange.outcome;
    outcome.status = status;
    outcome.grpc_status = progress.grpc_status.get().or(grpc_status);
    outcome.response_bytes = progress.answer_bytes.get();
    outcome.first_byte = progress.first_byte.get();
    match ended {
        Ok(Ended::Answered { reusable }) => {
            exchange.give_back(upstream, reusable && progress.request_sent.get());
            Ok(Served::Answered)
        }
        Ok(Ended::Switched) => Ok(Served::Switched(upstream)),
        Ok(Ended::NotDelivered { reusable }) => {
            exchange.give_back(upstream, reusable && progress.request_sent.get());
            Err(Failure::upstream(Reason::ConnectFailed, Stage::NotSent))
        }
        Err(failure) => Err(match upstream.is_reused() {
            true => failure,
            false => failure.seen(),
        }),
    }
}

/// Waits until the client has given up a request that it had sent whole.
async fn left(source: &mut Source<'_>, responder: &mut Responder<'_>) {
    if !source.is_ended() {
        return std::future::pending().await;
    }
    tokio::select! {
        () = source.gone() => {}
        () = responder.reset() => {}
    }
}

/// Tells the client why there is no answer from an endpoint, if it can still be told.
async fn refuse(
    exchange: &mut Exchange<'_>,
    failure: Failure,
    body: &mut RequestBody<'_, '_>,
    response: &mut ResponseHead,
    responder: &mut Responder<'_>,
) -> Served {
    exchange.outcome.reason = failure.reason;
    tracing::debug!(reason = %failure.reason, blame = ?failure.blame, "request not served");
    if failure.stage == Stage::AnswerBegun || failure.reason.status() == 0 {
        // Too late for an answer, or there is none to this reason.
        return Served::Broken;
    }
    let not_delivered = exchange.connection.kind == ListenerKind::Inbound
        && exchange.connection.peer_identity.is_some()
        && failure.stage == Stage::NotSent
        && failure.reason == Reason::ConnectFailed;
    let answer = LocalAnswer { not_delivered, ..LocalAnswer::of(failure.reason) };
    // Boxed: as above.
    Box::pin(self::answer(exchange, &answer, None, body, response, responder)).await
}

/// Gives the client an answer of the mesh's own. `decision`: the rule that asked for it, whose header
/// operations hold for it, too.
async fn answer(
    exchange: &mut Exchange<'_>,
    answer: &LocalAnswer,
    decision: Option<&Decision>,
    body: &mut RequestBody<'_, '_>,
    response: &mut ResponseHead,
    responder: &mut Responder<'_>,
) -> Served {
    if !body.source.skip() {
        responder.close_after();
    }
    answer.head(response, exchange.grpc);
    if let Some(decision) = decision {
        edit::response_fields(response, decision);
    }
    response.fields.push(b"date", &exchange.worker.date());
    exchange.outcome.status = response.status;
    exchange.outcome.grpc_status = body::grpc_status(&response.fields);
    let longest = exchange.worker.process.limits.stream_idle_timeout;
    let sent = pin!(answer.send(response, exchange.grpc, responder));
    match timeout(longest, sent).await {
        Ok(Ok(bytes)) => {
            exchange.outcome.response_bytes = bytes;
            Served::Answered
        }
        Ok(Err(_)) | Err(_) => Served::Broken,
    }
}
