//! One attempt: the request to an endpoint, the answer back, both at the same time.

use std::cell::Cell;
use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use ironmesh_model::Reason;
use tokio::time::{Instant, sleep_until};

use crate::buffer::Buffers;
use crate::failure::{Failure, Stage};
use crate::http::body::{BodyFailure, Part, PumpFailure, Sink, Source, pump};
use crate::http::responder::Responder;
use crate::http::upstream::{Answer, Begun, Following, Upstream};
use crate::http1::{Framing, Limits};
use crate::message::{Fields, RequestHead, ResponseHead};

/// Bytes of a request's body that are kept to be sent again, when nobody has seen them yet.
const REPLAY_BYTES_MAX: usize = 64 << 10;

/// What a request's body had when an attempt failed.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    kept: Vec<Bytes>,
    bytes: usize,
    end: Option<Option<Box<Fields>>>,
    lost: bool,
}

impl Replay {
    /// Whether all that was sent can be sent again.
    pub(crate) fn is_whole(&self) -> bool {
        !self.lost
    }

    fn keep(&mut self, data: &Bytes) {
        self.bytes += data.len();
        if self.bytes > REPLAY_BYTES_MAX {
            self.lost = true;
            self.kept = Vec::new();
        } else {
            // Copied, so that the buffer it was read into can be used again.
            self.kept.push(Bytes::copy_from_slice(data));
        }
    }
}

/// What one attempt is given.
pub(crate) struct Attempt<'a, 'b> {
    pub(crate) head: &'a RequestHead,
    pub(crate) framing: Framing,
    pub(crate) source: &'a mut Source<'b>,
    pub(crate) replay: &'a mut Replay,
    /// Longest time from the request's last byte to the answer's end.
    pub(crate) timeout: Option<Duration>,
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
    /// Whether the client has got a part of the answer.
    pub(crate) answer_begun: Cell<bool>,
    /// Bytes of the answer's body that were sent to the client.
    pub(crate) answer_bytes: Cell<u64>,
    /// The status in the trailers of a gRPC answer.
    pub(crate) grpc_status: Cell<Option<u8>>,
    /// When the endpoint's answer began.
    pub(crate) first_byte: Cell<Option<Instant>>,
}

/// How an attempt ended well.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The client has the whole answer; `reusable`: the endpoint's connection can carry more.
    Answered { reusable: bool },
    /// Both sides switched to another protocol.
    Switched,
    /// The endpoint's proxy could not reach it.
    NotDelivered,
}

/// Sends the request and passes the answer on. `edit` changes the answer's head before the client
/// sees it, and says `false` if the client must not see it.
pub(crate) async fn forward(
    attempt: Attempt<'_, '_>,
    upstream: &mut Upstream,
    response: &mut ResponseHead,
    responder: &mut Responder<'_>,
    mut edit: impl FnMut(&mut ResponseHead) -> bool,
) -> Result<Ended, Failure> {
    let Attempt { head, framing, source, replay, timeout, limits, spare, out, progress } = attempt;
    let Begun { mut request, mut answer } = upstream.begin(head, framing, limits, spare, out)?;
    let request_side = async {
        match send(source, &mut request, replay).await {
            Ok(()) => progress.request_sent.set(true),
            Err(PumpFailure::Source(BodyFailure::Malformed)) => {
                return Failure::downstream(Reason::BadRequest);
            }
            Err(PumpFailure::Source(BodyFailure::Closed)) => {
                return Failure::downstream(Reason::DownstreamClosed);
            }
            // The endpoint may have answered before it closed: the other side will tell.
            Err(PumpFailure::Sink(_)) => return pending().await,
        }
        tokio::select! {
            () = source.gone() => Failure::downstream(Reason::DownstreamClosed),
            () = timer(timeout) => Failure::upstream(Reason::Timeout, Stage::Sent),
        }
    };
    let response_side = async {
        let following = final_head(&mut answer, response, responder).await?;
        progress.first_byte.set(Some(Instant::now()));
        if !edit(response) {
            return Ok(Ended::NotDelivered);
        }
        progress.answer_begun.set(true);
        pass_on(answer, following, response, responder, progress).await
    };
    let ended = tokio::select! {
        biased;
        failure = request_side => Err(failure),
        ended = response_side => ended,
    };
    ended.map_err(|failure| match progress.answer_begun.get() {
        true => failure.after_answer_began(),
        false => failure,
    })
}

/// Waits for the head of the answer, and passes on what comes before it.
async fn final_head(
    answer: &mut Answer<'_>,
    response: &mut ResponseHead,
    responder: &mut Responder<'_>,
) -> Result<Following, Failure> {
    loop {
        let following = tokio::select! {
            following = answer.head(response) => following?,
            () = responder.reset() => {
                return Err(Failure::downstream(Reason::DownstreamClosed));
            }
        };
        if !response.is_informational() {
            return Ok(following);
        }
        responder.informational(response).await.map_err(client_gone)?;
    }
}

/// Passes the answer on, from its final head to its end.
async fn pass_on(
    answer: Answer<'_>,
    mut following: Following,
    response: &mut ResponseHead,
    responder: &mut Responder<'_>,
    progress: &Progress,
) -> Result<Ended, Failure> {
    let Following { framing, reusable, .. } = following;
    let protocols = following.upgrade.take();
    let begun = responder.begin(response, framing, protocols.as_deref());
    let mut to = begun.map_err(client_gone)?;
    let mut from = answer.body(&mut following);
    let pumped = pump(&mut from, &mut to).await;
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
) -> Result<(), PumpFailure> {
    for data in &replay.kept {
        sink.data(data.clone()).await.map_err(PumpFailure::Sink)?;
    }
    if let Some(trailers) = &replay.end {
        return sink.end(trailers.clone()).await.map_err(PumpFailure::Sink);
    }
    loop {
        match source.next().map_err(PumpFailure::Source)? {
            Some(Part::Data(data)) => {
                replay.keep(&data);
                sink.data(data).await.map_err(PumpFailure::Sink)?;
            }
            Some(Part::End(trailers)) => {
                replay.end = Some(trailers.clone());
                return sink.end(trailers).await.map_err(PumpFailure::Sink);
            }
            None => {
                sink.flush().await.map_err(PumpFailure::Sink)?;
                source.fill().await.map_err(PumpFailure::Source)?;
            }
        }
    }
}

async fn timer(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => sleep_until(Instant::now() + timeout).await,
        None => pending().await,
    }
}

fn client_gone(failure: BodyFailure) -> Failure {
    Failure::downstream(match failure {
        BodyFailure::Closed => Reason::DownstreamClosed,
        // What the endpoint sent cannot be said to this client.
        BodyFailure::Malformed => Reason::UpstreamProtocol,
    })
}
