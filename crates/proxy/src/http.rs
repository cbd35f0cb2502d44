//! The path of one request, in the order of the design:
//! detect → decide → authorize → limit → pick → connect → forward → observe.
//!
//! [`serve`] is that path, whichever version of HTTP the client and the endpoint speak.

use ironmesh_model::decide::Verdict;
use ironmesh_model::{Decision, ListenerKind, Reason};

use crate::balance::Tried;
use crate::failure::{Blame, Failure, Stage};
use crate::http::body::Source;
use crate::http::exchange::Exchange;
use crate::http::forward::{Attempt, Ended, Progress, Replay, forward};
use crate::http::responder::Responder;
use crate::http::upstream::Upstream;
use crate::http1::{Framing, Limits};
use crate::message::ResponseHead;
use crate::pool::Destination;

pub(crate) mod body;
pub(crate) mod convert;
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
    /// The client and this endpoint switched to another protocol.
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
        Err(failure) => refuse(exchange, failure, &body, response, responder).await,
    };
    exchange.outcome.request_bytes = body.source.bytes();
    exchange.observe();
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
    exchange.outcome.decided(&decision);
    if let Verdict::Answer(_) = decision.verdict {
        return Err(Failure::mesh(decision.reason));
    }
    exchange.edit_request(&decision);
    convert::state_for_http1(&mut exchange.head.fields, body.framing, body.upgrade);
    let mut tried = Tried::new();
    let mut replay = Replay::default();
    let mut may_replay = exchange.head.is_idempotent();
    loop {
        let to = exchange.pick(&decision, &tried, body.upgrade.is_some())?;
        exchange.outcome.attempts += 1;
        let failure = match exchange.connect(&to).await {
            Err(failure) => failure,
            Ok(mut upstream) => {
                let tried = attempt(
                    exchange,
                    &decision,
                    &to,
                    &mut upstream,
                    body,
                    &mut replay,
                    response,
                    responder,
                );
                match tried.await {
                    Ok(Ended::Answered { reusable }) => {
                        exchange.give_back(upstream, reusable);
                        return Ok(Served::Answered);
                    }
                    Ok(Ended::Switched) => return Ok(Served::Switched(upstream)),
                    Ok(Ended::NotDelivered) => {
                        Failure::upstream(Reason::ConnectFailed, Stage::NotSent)
                    }
                    Err(failure) => {
                        let unseen = failure.stage == Stage::Sent
                            && failure.reason == Reason::UpstreamReset
                            && upstream.is_reused();
                        if unseen && may_replay && replay.is_whole() {
                            may_replay = false;
                            continue;
                        }
                        failure
                    }
                }
            }
        };
        let again = failure.stage == Stage::NotSent
            && failure.blame == Blame::Upstream
            && replay.is_whole()
            && matches!(decision.verdict, Verdict::Forward(_))
            && exchange.outcome.attempts < exchange.worker.process.limits.connect_attempts_max;
        if !again {
            return Err(failure);
        }
        tried.extend(exchange.outcome.endpoint);
    }
}

/// One attempt at one endpoint.
#[expect(clippy::too_many_arguments, reason = "each is another borrow that the attempt needs")]
async fn attempt(
    exchange: &mut Exchange<'_>,
    decision: &Decision,
    to: &Destination,
    upstream: &mut Upstream,
    body: &mut RequestBody<'_, '_>,
    replay: &mut Replay,
    response: &mut ResponseHead,
    responder: &mut Responder<'_>,
) -> Result<Ended, Failure> {
    let progress = Progress::default();
    let timeout = match &decision.verdict {
        Verdict::Forward(forward) => forward.timeout,
        _ => None,
    };
    let attempt = Attempt {
        head: &*exchange.head,
        framing: body.framing,
        source: &mut *body.source,
        replay,
        timeout,
        limits: Limits::from(&exchange.worker.process.limits),
        spare: &exchange.worker.buffers,
        out: &mut *body.out,
        progress: &progress,
    };
    let kind = exchange.connection.kind;
    let (mut status, mut grpc_status) = (0, None);
    let edit = |head: &mut ResponseHead| {
        let shown = edit::response(head, kind, decision, to.expected.is_some());
        status = head.status;
        grpc_status = body::grpc_status(&head.fields);
        shown
    };
    let ended = forward(attempt, upstream, response, responder, edit).await;
    let outcome = &mut exchange.outcome;
    outcome.status = status;
    outcome.grpc_status = progress.grpc_status.get().or(grpc_status);
    outcome.response_bytes = progress.answer_bytes.get();
    outcome.first_byte = progress.first_byte.get();
    match &ended {
        Err(failure) => outcome.reason = failure.reason,
        Ok(Ended::NotDelivered) => outcome.status = 0,
        Ok(_) => {}
    }
    match ended {
        Ok(Ended::Answered { reusable }) => {
            Ok(Ended::Answered { reusable: reusable && progress.request_sent.get() })
        }
        other => other,
    }
}

/// Tells the client why there is no answer from an endpoint, if it can still be told.
async fn refuse(
    exchange: &mut Exchange<'_>,
    failure: Failure,
    body: &RequestBody<'_, '_>,
    response: &mut ResponseHead,
    responder: &mut Responder<'_>,
) -> Served {
    exchange.outcome.reason = failure.reason;
    tracing::debug!(reason = %failure.reason, blame = ?failure.blame, "request not served");
    if failure.stage == Stage::AnswerBegun || failure.reason == Reason::DownstreamClosed {
        return Served::Broken;
    }
    if !body.source.is_ended() {
        responder.close_after();
    }
    let not_delivered = exchange.connection.kind == ListenerKind::Inbound
        && exchange.connection.peer_identity.is_some()
        && failure.stage == Stage::NotSent
        && failure.reason == Reason::ConnectFailed;
    local::head(response, failure.reason, exchange.grpc, not_delivered);
    exchange.outcome.status = response.status;
    exchange.outcome.grpc_status = body::grpc_status(&response.fields);
    match local::send(response, failure.reason, exchange.grpc, responder).await {
        Ok(bytes) => {
            exchange.outcome.response_bytes = bytes;
            Served::Answered
        }
        Err(_) => Served::Broken,
    }
}
