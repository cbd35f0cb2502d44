//! One attempt: the request to an endpoint, the answer back, both at the same time.

use std::cell::Cell;
use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use ironmesh_model::Reason;
use tokio::time::Instant;

use crate::buffer::Buffers;
use crate::failure::{Failure, Stage};
use crate::http::body::{BodyFailure, Part, PumpFailure, Sink, Source, pump};
use crate::http::deadlines::{Awaited, Deadlines};
use crate::http::mirror::Copies;
use crate::http::responder::Responder;
use crate::http::upstream::{Answer, Directions, Following, Upstream};
use crate::http1::{Framing, Limits};
use crate::message::{Fields, RequestHead, ResponseHead};

/// Bytes of an unwanted answer that are read so that its connection can be used again.
const SHORT_BYTES_MAX: u64 = 4 << 10;

/// What a request's body had when an attempt failed.
#[derive(Debug)]
pub(crate) struct Replay {
    /// In one piece, so that many small ones take no more memory than their bytes.
    kept: Vec<u8>,
    end: Option<Option<Box<Fields>>>,
    lost: bool,
}

impl Replay {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self { kept: Vec::new(), end: None, lost: false }
    }

    /// Whether all that was sent can be sent again.
    pub(crate) fn is_whole(&self) -> bool {
        !self.lost
    }

    /// Whether the whole request was sent.
    pub(crate) fn is_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Keeps a copy, so that the buffer it was read into can be used again; of no more than
    /// `bytes_max` in all.
    fn keep(&mut self, data: &[u8], bytes_max: usize) {
        self.lost |= self.kept.len() + data.len() > bytes_max;
        if self.lost {
            self.kept = Vec::new();
        } else {
            self.kept.extend_from_slice(data);
        }
    }
}

/// What is forwarded, and with what.
pub(crate) struct Forwarding<'a, 'b> {
    pub(crate) head: &'a RequestHead,
    pub(crate) framing: Framing,
    /// Whether the client asked to switch to another protocol.
    pub(crate) may_switch: bool,
    pub(crate) source: &'a mut Source<'b>,
    pub(crate) replay: &'a mut Replay,
    pub(crate) copies: &'a mut Copies,
    pub(crate) deadlines: &'a Deadlines<'a>,
    pub(crate) limits: Limits,
    pub(crate) spare: &'a Buffers,
    /// What waits to be written to the endpoint.
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) progress: &'a Progress,
}

/// What became of an attempt, told while it goes on, so that it is known however it ends.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Whether the whole request was sent.
    pub(crate) request_sent: Cell<bool>,
    /// Informational heads that may still come before the final one.
    pub(crate) informational_heads_left: Cell<u32>,
    /// Whether it was, and all of it can be sent again.
    pub(crate) whole: Cell<bool>,
    /// Bytes of the answer's body that were sent to the client.
    pub(crate) answer_bytes: Cell<u64>,
    /// The status in the trailers of a gRPC answer.
    pub(crate) grpc_status: Cell<Option<u8>>,
    /// When the answer that the client gets began; `None`: none has.
    pub(crate) first_byte: Cell<Option<Instant>>,
}

/// How an attempt ended well.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The client has the whole answer; `reusable`: the endpoint's connection can carry more.
    Answered { reusable: bool },
    /// Both sides switched to another protocol.
    Switched,
    /// The client has seen nothing of the answer; `reusable` as above.
    Withheld { why: Withheld, reusable: bool },
}

/// Why an answer is not shown to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withheld {
    /// It is the word of the endpoint's proxy that the endpoint could not be reached.
    NotDelivered,
    /// Another attempt is to be made, after this pause.
    Retried(Duration),
}

/// Sends the request and passes the answer on. `edit` changes the answer's head before the client
/// sees it, or says why the client must not see it; it is told whether the request can be sent
/// again.
pub(crate) async fn forward(
    attempt: Forwarding<'_, '_>,
    upstream: &mut Upstream,
    response: &mut ResponseHead,
    responder: &mut Responder<'_>,
    mut edit: impl FnMut(&mut ResponseHead, bool) -> Result<(), Withheld>,
) -> Result<Ended, Failure> {
    let Forwarding { head, framing, may_switch, source, replay, copies, .. } = attempt;
    let Forwarding { deadlines, limits, spare, out, progress, .. } = attempt;
    let Directions { mut request, mut answer } =
        upstream.begin(head, framing, limits, spare, out)?;
    let request_side = async {
        match send(source, &mut request, replay, copies, deadlines).await {
            Ok(()) => {
                progress.request_sent.set(true);
                progress.whole.set(replay.is_whole());
            }
            Err(PumpFailure::Source(BodyFailure::Malformed)) => {
                return Failure::downstream(Reason::BadRequest);
            }
            Err(PumpFailure::Source(BodyFailure::Closed)) => {
                return Failure::downstream(Reason::DownstreamClosed);
            }
            // The endpoint may have answered before it closed: the other side will tell.
            Err(PumpFailure::Sink(_)) => return pending().await,
        }
        source.gone().await;
        Failure::downstream(Reason::DownstreamClosed)
    };
    let response_side = async {
        let mut following =
            final_head(&mut answer, response, responder, deadlines, progress).await?;
        if response.status == 101 && !may_switch {
            return Err(Failure::upstream(Reason::UpstreamProtocol, Stage::Sent));
        }
        let mut body = answer.body(&mut following);
        if let Err(why) = edit(response, progress.whole.get()) {
            let reusable = following.reusable && read_short(&mut body).await;
            return Ok(Ended::Withheld { why, reusable });
        }
        progress.first_byte.set(Some(Instant::now()));
        deadlines.answer_begun();
        pass_on(&mut body, &following, response, responder, deadlines, progress).await
    };
    let ended = tokio::select! {
        biased;
        failure = request_side => Err(failure),
        ended = response_side => ended,
        passed = deadlines.passed() => Err(passed.failure()),
    };
    ended.map_err(|failure| match progress.first_byte.get().is_some() {
        true => failure.after_answer_began(),
        false => failure,
    })
}

/// Reads a body that nobody wants, so that its connection can be used again; `false` if that is not
/// worth while.
async fn read_short(body: &mut Source<'_>) -> bool {
    while body.bytes() <= SHORT_BYTES_MAX {
        match body.next() {
            Ok(Some(Part::End(_))) => return true,
            Ok(Some(Part::Data(_))) => {}
            Ok(None) if body.fill().await.is_ok() => {}
            Ok(None) | Err(_) => return false,
        }
    }
    false
}

/// Waits for the head of the answer, and passes on what comes before it.
async fn final_head(
    answer: &mut Answer<'_>,
    response: &mut ResponseHead,
    responder: &mut Responder<'_>,
    deadlines: &Deadlines<'_>,
    progress: &Progress,
) -> Result<Following, Failure> {
    let mut seen = false;
    loop {
        let following = tokio::select! {
            following = answer.head(response) => {
                following.map_err(|failure| if seen { failure.seen() } else { failure })?
            }
            () = responder.reset() => {
                return Err(Failure::downstream(Reason::DownstreamClosed));
            }
        };
        deadlines.heard();
        if !response.is_informational() {
            return Ok(following);
        }
        seen = true;
        let too_many = Failure::upstream(Reason::UpstreamProtocol, Stage::Sent);
        let left = progress.informational_heads_left.get().checked_sub(1).ok_or(too_many)?;
        progress.informational_heads_left.set(left);
        let told = pin!(responder.informational(response));
        deadlines.step(Awaited::ClientTakes, told).await.map_err(client_gone)?;
    }
}

/// Passes the answer on, from its final head to its end.
async fn pass_on(
    from: &mut Source<'_>,
    following: &Following,
    response: &mut ResponseHead,
    responder: &mut Responder<'_>,
    deadlines: &Deadlines<'_>,
    progress: &Progress,
) -> Result<Ended, Failure> {
    let Following { framing, reusable, .. } = *following;
    let begun = responder.begin(response, framing, following.upgrade.as_deref());
    let mut to = begun.map_err(client_gone)?;
    let pumped = pump(from, &mut to, deadlines).await;
    progress.answer_bytes.set(to.bytes());
    progress.grpc_status.set(from.grpc_status());
    match pumped {
        Ok(()) if framing == Framing::Tunnel => Ok(Ended::Switched),
        Ok(()) => Ok(Ended::Answered { reusable }),
        Err(PumpFailure::Sink(failure)) => Err(client_gone(failure)),
        Err(PumpFailure::Source(failure)) => {
            to.reset();
            let reason = match failure {
                BodyFailure::Closed => Reason::UpstreamReset,
                BodyFailure::Malformed => Reason::UpstreamProtocol,
            };
            Err(Failure::upstream(reason, Stage::Sent))
        }
    }
}

/// Sends what an earlier attempt has sent, and the rest of the body.
async fn send(
    source: &mut Source<'_>,
    sink: &mut Sink<'_>,
    replay: &mut Replay,
    copies: &mut Copies,
    deadlines: &Deadlines<'_>,
) -> Result<(), PumpFailure> {
    let step = Awaited::EndpointTakes;
    if !replay.kept.is_empty() {
        let again = Bytes::copy_from_slice(&replay.kept);
        deadlines.step(step, pin!(sink.data(again))).await.map_err(PumpFailure::Sink)?;
    }
    if let Some(trailers) = &replay.end {
        let end = sink.end(trailers.clone());
        return deadlines.step(step, pin!(end)).await.map_err(PumpFailure::Sink);
    }
    loop {
        match source.next().map_err(PumpFailure::Source)? {
            Some(Part::Data(data)) => {
                replay.keep(&data, deadlines.replay_bytes_max());
                copies.data(&data);
                deadlines.step(step, pin!(sink.data(data))).await.map_err(PumpFailure::Sink)?;
            }
            Some(Part::End(trailers)) => {
                deadlines.request_ended();
                replay.end = Some(trailers.clone());
                copies.end(trailers.as_deref());
                return deadlines
                    .step(step, pin!(sink.end(trailers)))
                    .await
                    .map_err(PumpFailure::Sink);
            }
            None => {
                deadlines.step(step, pin!(sink.flush())).await.map_err(PumpFailure::Sink)?;
                let filled = deadlines.step(Awaited::ClientSends, pin!(source.fill())).await;
                filled.map_err(PumpFailure::Source)?;
                deadlines.heard();
            }
        }
    }
}

fn client_gone(failure: BodyFailure) -> Failure {
    Failure::downstream(match failure {
        BodyFailure::Closed => Reason::DownstreamClosed,
        // What the endpoint sent cannot be said to this client.
        BodyFailure::Malformed => Reason::UpstreamProtocol,
    })
}
