//! The path of one request, in the order of the design:
//! detect → decide → authorize → limit → pick → connect → forward → observe.
//!
//! [`serve`] is that path, whichever version of HTTP the client and the endpoint speak.

use std::pin::pin;
use std::time::Duration;

use ironmesh_model::{Decision, ListenerKind, Plan, Reason};
use tokio::time::{sleep, timeout};

use crate::failure::{Failure, Stage};
use crate::http::attempts::Attempts;
use crate::http::body::Source;
use crate::http::exchange::Exchange;
use crate::http::local::LocalAnswer;
use crate::http::responder::Responder;
use crate::http::upstream::Upstream;
use crate::http1::Framing;
use crate::message::ResponseHead;

pub(crate) mod attempts;
pub(crate) mod body;
pub(crate) mod convert;
pub(crate) mod deadlines;
pub(crate) mod dial;
pub(crate) mod edit;
pub(crate) mod exchange;
pub(crate) mod forward;
pub(crate) mod http1_server;
pub(crate) mod http2_server;
pub(crate) mod local;
pub(crate) mod mirror;
pub(crate) mod responder;
pub(crate) mod told;
pub(crate) mod upstream;
pub(crate) mod window;

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

/// The client's side of an exchange.
pub(crate) struct ClientSide<'a, 'b, 'c> {
    pub(crate) body: RequestBody<'a, 'b>,
    /// The head of the answer, as it is made.
    pub(crate) response: &'a mut ResponseHead,
    pub(crate) responder: &'a mut Responder<'c>,
}

impl ClientSide<'_, '_, '_> {
    /// Waits until the client has given up a request that it had sent whole.
    pub(crate) async fn left(&mut self) {
        if !self.body.source.is_ended() {
            return std::future::pending().await;
        }
        tokio::select! {
            () = self.body.source.gone() => {}
            () = self.responder.reset() => {}
        }
    }
}

/// Serves one request.
pub(crate) async fn serve(
    exchange: &mut Exchange<'_>,
    client: &mut ClientSide<'_, '_, '_>,
) -> Served {
    let served = match exchange.take_over() {
        Ok(()) => route(exchange, client).await,
        Err(failure) => Err(failure),
    };
    let served = match served {
        Ok(served) => served,
        Err(failure) => refuse(exchange, failure, client).await,
    };
    exchange.outcome.request_bytes = client.body.source.bytes();
    if !matches!(served, Served::Switched(_)) {
        exchange.observe(client.response);
    }
    served
}

/// Decides, and does what was decided.
async fn route(
    exchange: &mut Exchange<'_>,
    client: &mut ClientSide<'_, '_, '_>,
) -> Result<Served, Failure> {
    let decision = match exchange.decide() {
        Some(decision) => decision,
        // Boxed: rare, and otherwise it would make every request's future larger.
        None => Box::pin(wait_for_decision(exchange, client)).await?,
    };
    exchange.note_origin(&decision);
    // Boxed: rare, and otherwise it would make every request's future larger.
    if let Some(delay) = decision.delay(exchange.draw)
        && let Err(failure) = Box::pin(hold_back(exchange, delay, client)).await
    {
        exchange.outcome.decided(decision);
        return Err(failure);
    }
    let served = match &decision.plan {
        Plan::Answer(_) => match LocalAnswer::by_rule(exchange, &decision) {
            // Boxed: as above.
            Some(given) => Ok(Box::pin(answer(exchange, given, Some(&decision), client)).await),
            None => Err(Failure::mesh(decision.reason)),
        },
        _ => {
            exchange.note_hashed(&decision);
            let asked = exchange.take_asked(&decision);
            exchange.edit_request(&decision);
            let RequestBody { framing, upgrade, .. } = &client.body;
            convert::state_for_http1(&mut exchange.head.fields, *framing, *upgrade);
            let copies = mirror::begin(exchange, &decision, &client.body);
            Attempts::new(exchange, &decision, asked, client, copies).run(exchange, client).await
        }
    };
    exchange.outcome.decided(decision);
    served
}

/// Waits for what the view lacks to decide, unless the client leaves.
async fn wait_for_decision(
    exchange: &Exchange<'_>,
    client: &mut ClientSide<'_, '_, '_>,
) -> Result<Decision, Failure> {
    tokio::select! {
        biased;
        decision = exchange.decide_later() => decision,
        () = client.left() => Err(Failure::downstream(Reason::DownstreamClosed)),
    }
}

/// Holds a request back on purpose. That is no part of its timeout, and ends with its client.
async fn hold_back(
    exchange: &mut Exchange<'_>,
    delay: Duration,
    client: &mut ClientSide<'_, '_, '_>,
) -> Result<(), Failure> {
    exchange.outcome.delayed = true;
    // What the client sends meanwhile waits: a buffer of it, and a window of HTTP/2.
    let left = async {
        tokio::select! {
            () = client.body.source.gone() => {}
            () = client.responder.reset() => {}
        }
    };
    tokio::select! {
        () = sleep(delay) => Ok(()),
        () = left => Err(Failure::downstream(Reason::DownstreamClosed)),
    }
}

/// Tells the client why there is no answer from an endpoint, if it can still be told.
async fn refuse(
    exchange: &mut Exchange<'_>,
    failure: Failure,
    client: &mut ClientSide<'_, '_, '_>,
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
    let given = LocalAnswer { not_delivered, ..LocalAnswer::of(failure.reason) };
    let decision = exchange.outcome.decision.take();
    // Boxed: as above.
    let served = Box::pin(answer(exchange, given, decision.as_ref(), client)).await;
    exchange.outcome.decision = decision;
    served
}

/// Gives the client an answer of the mesh's own. `decision`: that by which it is given, if there is one:
/// its header operations hold for the answer, too.
async fn answer(
    exchange: &mut Exchange<'_>,
    given: LocalAnswer,
    decision: Option<&Decision>,
    client: &mut ClientSide<'_, '_, '_>,
) -> Served {
    let ClientSide { body, response, responder } = client;
    if !body.source.skip() {
        responder.close_after();
    }
    given.head(response, exchange.grpc);
    if let Some(decision) = decision {
        edit::response_fields(response, exchange, decision);
    }
    response.fields.push(b"date", &exchange.worker.date());
    exchange.outcome.status = response.status;
    exchange.outcome.grpc_status = body::grpc_status(&response.fields);
    let longest = exchange.worker.process.limits.stream_idle_timeout;
    let sent = pin!(given.send(response, exchange.grpc, responder));
    match timeout(longest, sent).await {
        Ok(Ok(bytes)) => {
            exchange.outcome.response_bytes = bytes;
            Served::Answered
        }
        Ok(Err(_)) | Err(_) => Served::Broken,
    }
}
