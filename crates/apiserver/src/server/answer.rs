//! Answers: JSON, text, and bodies that go on.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, SizeHint};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::failure::Failure;

/// Body of any answer. Only what an application sends can break off.
pub(crate) type AnswerBody = UnsyncBoxBody<Bytes, hyper::Error>;
/// Any answer.
pub(crate) type Answer = Response<AnswerBody>;

/// An answer of JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(bytes) => whole(status, "application/json", bytes),
        Err(error) => failure(&Failure::internal(error.to_string())),
    }
}

/// An answer of plain text.
pub(crate) fn text(text: impl Into<Bytes>) -> Answer {
    whole(StatusCode::OK, "text/plain", text)
}

/// A refusal.
pub(crate) fn failure(failure: &Failure) -> Answer {
    let status = StatusCode::from_u16(failure.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    whole(status, "application/json", failure.status().to_string())
}

/// An answer of bytes that are known.
pub(crate) fn whole(status: StatusCode, kind: &'static str, bytes: impl Into<Bytes>) -> Answer {
    let body = AnswerBody::new(Full::new(bytes.into()).map_err(|never| match never {}));
    with_type(status, kind, body)
}

/// An answer whose bytes come as they are sent; it ends when the sender is dropped. At most
/// `parts_max` parts wait for a slow client; then the sender waits.
pub(crate) fn stream(kind: &'static str, parts_max: usize) -> (mpsc::Sender<Bytes>, Answer) {
    let (sender, receiver) = mpsc::channel(parts_max);
    (sender, with_type(StatusCode::OK, kind, AnswerBody::new(Parts(receiver))))
}

/// An answer whose parts are made as the client takes them.
pub(crate) fn pulled(
    kind: &'static str,
    parts: impl Iterator<Item = Bytes> + Send + 'static,
) -> Answer {
    with_type(StatusCode::OK, kind, AnswerBody::new(Pulled(Box::new(parts))))
}

/// A body that holds something until it has been sent or given up.
pub(crate) fn held<T: Send + Unpin + 'static>(body: AnswerBody, thing: T) -> AnswerBody {
    AnswerBody::new(Held { body, _thing: thing })
}

fn with_type(status: StatusCode, kind: &'static str, body: AnswerBody) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    answer
}

/// A body with something that lives as long.
struct Held<T> {
    body: AnswerBody,
    _thing: T,
}

impl<T: Unpin> Body for Held<T> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    // So that what is known as a whole is sent with its length.
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body whose parts are made when they are wanted.
struct Pulled(Box<dyn Iterator<Item = Bytes> + Send>);

impl Body for Pulled {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Poll::Ready(self.0.next().map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A body that is fed through a channel.
struct Parts(mpsc::Receiver<Bytes>);

impl Body for Parts {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.0.poll_recv(context).map(|part| part.map(|bytes| Ok(Frame::data(bytes))))
    }
}
