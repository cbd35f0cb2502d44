//! Bodies on their way: from either codec, to either codec.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::HeaderMap;

use crate::buffer::{Buffer, Buffers};
use crate::http::convert;
use crate::http::deadlines::{Awaited, Deadlines};
use crate::http::mirror::CopiedBody;
use crate::http1::{BodyDecoder, BodyEncoder, Decoded, Framing, Limits};
use crate::message::Fields;
use crate::stream::Io;

/// A part of a body.
#[derive(Debug)]
pub(crate) enum Part {
    /// Some bytes, never empty.
    Data(Bytes),
    /// The end, with trailers if there were any.
    End(Option<Box<Fields>>),
}

/// Why a body stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyFailure {
    /// The connection failed or ended.
    #[error("the connection ended before the body did")]
    Closed,
    /// What came is not a body.
    #[error("the body is malformed")]
    Malformed,
}

impl From<std::io::Error> for BodyFailure {
    fn from(_: std::io::Error) -> Self {
        Self::Closed
    }
}

impl From<h2::Error> for BodyFailure {
    fn from(_: h2::Error) -> Self {
        Self::Closed
    }
}

impl From<crate::http1::BodyError> for BodyFailure {
    fn from(error: crate::http1::BodyError) -> Self {
        match error {
            crate::http1::BodyError::Truncated => Self::Closed,
            _ => Self::Malformed,
        }
    }
}

/// Where a body comes from.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    from: Origin<'a>,
    /// Bytes of data that came.
    bytes: u64,
    ended: bool,
    grpc_status: Option<u8>,
}

#[derive(Debug)]
enum Origin<'a> {
    Http1 { io: &'a Io, buffer: &'a mut Buffer, spare: &'a Buffers, decoder: BodyDecoder },
    Http2 { stream: RecvStream, next: Option<Part>, header_count_max: usize },
    Copied { body: &'a mut CopiedBody, next: Option<Part> },
    Empty,
}

impl<'a> Source<'a> {
    /// The body of an HTTP/1 message, which follows in `buffer` and then on `io`.
    pub(crate) fn http1(
        io: &'a Io,
        buffer: &'a mut Buffer,
        spare: &'a Buffers,
        framing: Framing,
        limits: Limits,
    ) -> Self {
        let decoder = BodyDecoder::new(framing, limits);
        let ended = decoder.is_done();
        Self {
            from: Origin::Http1 { io, buffer, spare, decoder },
            bytes: 0,
            ended,
            grpc_status: None,
        }
    }

    /// The body of an HTTP/2 message.
    pub(crate) fn http2(stream: RecvStream, header_count_max: usize) -> Self {
        let ended = stream.is_end_stream();
        let from = Origin::Http2 { stream, next: None, header_count_max };
        Self { from, bytes: 0, ended, grpc_status: None }
    }

    /// The body of a copy.
    pub(crate) fn copied(body: &'a mut CopiedBody) -> Self {
        Self {
            from: Origin::Copied { body, next: None },
            bytes: 0,
            ended: false,
            grpc_status: None,
        }
    }

    /// No body.
    pub(crate) fn empty() -> Self {
        Self { from: Origin::Empty, bytes: 0, ended: true, grpc_status: None }
    }

    /// Bytes of data that came so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The status in the trailers of a gRPC answer, once its end has come.
    pub(crate) fn grpc_status(&self) -> Option<u8> {
        self.grpc_status
    }

    /// Whether the end has come.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// The next part, if it is here already.
    pub(crate) fn next(&mut self) -> Result<Option<Part>, BodyFailure> {
        if self.ended {
            return Ok(Some(Part::End(None)));
        }
        let part = match &mut self.from {
            Origin::Http1 { buffer, decoder, .. } => decode(decoder, buffer)?,
            Origin::Http2 { next, .. } => next.take(),
            Origin::Copied { body, next } => match next.take() {
                Some(part) => Some(part),
                None => body.next()?,
            },
            Origin::Empty => Some(Part::End(None)),
        };
        match &part {
            Some(Part::Data(data)) => self.bytes += data.len() as u64,
            Some(Part::End(trailers)) => {
                self.ended = true;
                self.grpc_status = trailers.as_deref().and_then(grpc_status);
            }
            None => {}
        }
        Ok(part)
    }

    /// Takes off what is here already; tells whether that was the whole rest, so that the connection
    /// can carry another request.
    pub(crate) fn skip(&mut self) -> bool {
        while !self.ended && matches!(self.next(), Ok(Some(_))) {}
        self.ended
    }

    /// Waits until there is more for [`Source::next`]. Cancel safe.
    pub(crate) async fn fill(&mut self) -> Result<(), BodyFailure> {
        match &mut self.from {
            Origin::Http1 { io, buffer, spare, decoder } => {
                if io.fill(buffer, spare).await? == 0 {
                    decoder.close()?;
                }
                Ok(())
            }
            Origin::Http2 { stream, next, header_count_max } => {
                poll_fn(|cx| poll_http2(stream, next, *header_count_max, cx)).await
            }
            Origin::Copied { body, next } => {
                if next.is_none() {
                    *next = Some(body.wait().await?);
                }
                Ok(())
            }
            Origin::Empty => Ok(()),
        }
    }

    /// Waits until the peer is gone. What it still sends is kept for the next request, up to the
    /// size of a buffer. For HTTP/2 that never happens: a reset is told to the sending side.
    pub(crate) async fn gone(&mut self) {
        if let Origin::Http1 { io, buffer, spare, .. } = &mut self.from {
            while !buffer.is_full() {
                match io.fill(buffer, spare).await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return,
                }
            }
        }
        pending::<()>().await;
    }
}

/// The status of a gRPC answer, in its trailers or, if it is trailers-only, in its head.
pub(crate) fn grpc_status(fields: &Fields) -> Option<u8> {
    let text = std::str::from_utf8(fields.first("grpc-status")?).ok();
    let status = text.and_then(|text| text.trim().parse().ok());
    Some(status.filter(|status| *status <= GRPC_STATUS_MAX).unwrap_or(GRPC_UNKNOWN))
}

fn decode(decoder: &mut BodyDecoder, buffer: &mut Buffer) -> Result<Option<Part>, BodyFailure> {
    loop {
        match decoder.next(buffer.unread())? {
            Decoded::More => return Ok(None),
            Decoded::Framing(count) => buffer.consume(count),
            Decoded::Data(count) => return Ok(Some(Part::Data(buffer.take(count)))),
            Decoded::End => return Ok(Some(Part::End(decoder.take_trailers().map(Box::new)))),
        }
    }
}

fn poll_http2(
    stream: &mut RecvStream,
    next: &mut Option<Part>,
    header_count_max: usize,
    cx: &mut Context<'_>,
) -> Poll<Result<(), BodyFailure>> {
    if next.is_some() {
        return Poll::Ready(Ok(()));
    }
    loop {
        match stream.poll_data(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(data)) => {
                let data = data?;
                // Room for the sender, now that the bytes are on their way: the sink waits for
                // the other side's window before it takes them, so no more than one window of
                // each stream is ever held.
                stream.flow_control().release_capacity(data.len())?;
                if !data.is_empty() {
                    *next = Some(Part::Data(data));
                    return Poll::Ready(Ok(()));
                }
            }
            Poll::Ready(None) => break,
        }
    }
    stream.poll_trailers(cx).map(|trailers| {
        let trailers = trailers?;
        if trailers.as_ref().is_some_and(|map| map.len() > header_count_max) {
            return Err(BodyFailure::Malformed);
        }
        *next = Some(Part::End(trailers.map(|map| {
            let mut fields = Box::<Fields>::default();
            convert::take_map(&map, &mut fields);
            fields
        })));
        Ok(())
    })
}

/// Where a body goes.
#[derive(Debug)]
pub(crate) struct Sink<'a> {
    to: To<'a>,
    /// Bytes of data that went.
    bytes: u64,
}

#[derive(Debug)]
enum To<'a> {
    Http1 { io: &'a Io, out: &'a mut Vec<u8>, encoder: BodyEncoder },
    Http2 { stream: SendStream<Bytes>, ended: bool },
}

impl<'a> Sink<'a> {
    /// To an HTTP/1 peer. `out` holds what was not written yet: the head.
    pub(crate) fn http1(io: &'a Io, out: &'a mut Vec<u8>, framing: Framing) -> Self {
        Self { to: To::Http1 { io, out, encoder: BodyEncoder::new(framing) }, bytes: 0 }
    }

    /// To an HTTP/2 peer; `ended` if the head said that there is none.
    pub(crate) fn http2(stream: SendStream<Bytes>, ended: bool) -> Self {
        Self { to: To::Http2 { stream, ended }, bytes: 0 }
    }

    /// Bytes of data that were sent.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sends data. Small pieces wait for [`Sink::flush`].
    pub(crate) async fn data(&mut self, data: Bytes) -> Result<(), BodyFailure> {
        self.bytes += data.len() as u64;
        match &mut self.to {
            To::Http1 { io, out, encoder } if data.len() > COPIED_BYTES_MAX => {
                encoder.before_data(data.len(), out)?;
                io.write_both(out, &data).await?;
                out.clear();
                encoder.after_data(data.len(), out);
                Ok(())
            }
            To::Http1 { io, out, encoder } => {
                encoder.data(&data, out)?;
                if out.len() > WAITING_BYTES_MAX {
                    io.write_both(out, &[]).await?;
                    out.clear();
                }
                Ok(())
            }
            To::Http2 { stream, .. } => send_http2(stream, apart(data)).await,
        }
    }

    /// Ends the body.
    pub(crate) async fn end(&mut self, trailers: Option<Box<Fields>>) -> Result<(), BodyFailure> {
        match &mut self.to {
            To::Http1 { encoder, out, .. } => encoder.end(trailers.as_deref(), out)?,
            To::Http2 { ended: true, .. } => return Ok(()),
            To::Http2 { stream, ended } => {
                *ended = true;
                match trailers {
                    Some(trailers) => {
                        let mut map = HeaderMap::new();
                        convert::give_map(&trailers, &mut map);
                        stream.send_trailers(map)?;
                    }
                    None => stream.send_data(Bytes::new(), true)?,
                }
            }
        }
        self.flush().await
    }

    /// Writes what waits.
    pub(crate) async fn flush(&mut self) -> Result<(), BodyFailure> {
        if let To::Http1 { io, out, .. } = &mut self.to
            && !out.is_empty()
        {
            io.write_both(out, &[]).await?;
            out.clear();
        }
        Ok(())
    }

    /// Waits until an HTTP/2 peer has given up the stream. For HTTP/1 that never happens: only
    /// reading tells. Cancel safe.
    async fn given_up(&mut self) {
        match &mut self.to {
            // Either way the stream is of no more use.
            To::Http2 { stream, .. } => drop(poll_fn(|cx| stream.poll_reset(cx)).await),
            To::Http1 { .. } => pending().await,
        }
    }

    /// Tells an HTTP/2 peer that the body ends before its time.
    pub(crate) fn reset(&mut self) {
        if let To::Http2 { stream, ended: false } = &mut self.to {
            stream.send_reset(h2::Reason::INTERNAL_ERROR);
        }
    }
}

/// A small piece in memory of its own, as it may have to wait: it would hold the whole block that it
/// was read into.
fn apart(data: Bytes) -> Bytes {
    if data.len() > COPIED_BYTES_MAX { data } else { Bytes::copy_from_slice(&data) }
}

/// Sends data as the peer's window opens.
async fn send_http2(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), BodyFailure> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(room) => room?,
            None => return Err(BodyFailure::Closed),
        };
        if room > 0 {
            stream.send_data(data.split_to(room.min(data.len())), false)?;
        }
    }
    Ok(())
}

/// Moves the body of an answer to its end. Flushes whenever nothing more is here to send with it.
pub(crate) async fn pump(
    source: &mut Source<'_>,
    sink: &mut Sink<'_>,
    deadlines: &Deadlines<'_>,
) -> Result<(), PumpFailure> {
    let step = Awaited::ClientTakes;
    loop {
        match source.next().map_err(PumpFailure::Source)? {
            Some(Part::Data(data)) => {
                deadlines.step(step, pin!(sink.data(data))).await.map_err(PumpFailure::Sink)?;
            }
            Some(Part::End(trailers)) => {
                return deadlines
                    .step(step, pin!(sink.end(trailers)))
                    .await
                    .map_err(PumpFailure::Sink);
            }
            None => {
                deadlines.step(step, pin!(sink.flush())).await.map_err(PumpFailure::Sink)?;
                tokio::select! {
                    biased;
                    filled = source.fill() => filled.map_err(PumpFailure::Source)?,
                    () = sink.given_up() => return Err(PumpFailure::Sink(BodyFailure::Closed)),
                }
                deadlines.heard();
            }
        }
    }
}

/// Which side of a pump failed.
#[derive(Debug)]
pub(crate) enum PumpFailure {
    /// The body did not come.
    Source(BodyFailure),
    /// The body could not be sent.
    Sink(BodyFailure),
}

/// Data up to this size is copied behind what waits, so that both go in one write; larger pieces
/// are written where they are.
const COPIED_BYTES_MAX: usize = 4 << 10;
/// What waits is written when it has grown beyond this.
const WAITING_BYTES_MAX: usize = 16 << 10;
/// The largest status that gRPC knows; what is none of them is read as `UNKNOWN` (gRPC, "Status
/// codes and their use in gRPC").
const GRPC_STATUS_MAX: u8 = 16;
/// `UNKNOWN`.
const GRPC_UNKNOWN: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_piece_that_waits_does_not_hold_a_block() {
        let spare = Buffers::default();
        let mut buffer = Buffer::default();
        let memory = buffer.room(&spare).as_ptr();
        buffer.room(&spare).extend_from_slice(&[1; 50]);
        let waiting = apart(buffer.take(50));
        assert_eq!(buffer.room(&spare).as_ptr(), memory, "the block is used again");
        assert_eq!(&waiting[..], [1; 50]);
    }
}
