//! Messages over a byte stream: each is its length, 4 bytes big-endian, and its bytes.

use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One end of a connection: sends `Out`, receives `In`. Reads and writes go on at the same time, so
/// that two ends that both send much never wait for each other.
#[derive(Debug)]
pub struct Connection<IO, In, Out> {
    io: IO,
    received: BytesMut,
    to_send: BytesMut,
    unflushed: bool,
    frame_bytes_max: usize,
    messages: PhantomData<fn(Out) -> In>,
}

/// What happened on a connection.
#[derive(Debug)]
pub enum Happened<In> {
    /// The other end said this.
    Received(In),
    /// All that was to be sent is sent.
    Flushed,
}

/// A connection that cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The stream failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The stream ended.
    #[error("the other end closed the connection")]
    Closed,
    /// The other end, or this one, wants to send more at once than is allowed.
    #[error("a message of {bytes} bytes is more than frame_bytes_max, which is {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A message is not one.
    #[error("a message is malformed: {0}")]
    Malformed(#[from] prost::DecodeError),
}

impl<IO, In, Out> Connection<IO, In, Out>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    In: Message + Default,
    Out: Message,
{
    /// A connection over a stream. No frame may be larger than `frame_bytes_max`.
    pub fn new(io: IO, frame_bytes_max: usize) -> Self {
        Self {
            io,
            received: BytesMut::new(),
            to_send: BytesMut::new(),
            unflushed: false,
            frame_bytes_max,
            messages: PhantomData,
        }
    }

    /// Allows larger or smaller frames from now on.
    pub fn limit_frames(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
    }

    /// Queues a message; [`Connection::next`] sends it.
    ///
    /// # Errors
    ///
    /// If it is larger than a frame may be. Nothing is queued then.
    pub fn send(&mut self, message: &Out) -> Result<(), FrameError> {
        let bytes = message.encoded_len();
        let too_large = FrameError::TooLarge { bytes, max: self.frame_bytes_max };
        if bytes > self.frame_bytes_max {
            return Err(too_large);
        }
        let length = u32::try_from(bytes).map_err(|_| too_large)?;
        self.to_send.reserve(LENGTH_BYTES + bytes);
        self.to_send.extend_from_slice(&length.to_be_bytes());
        // The buffer grows as needed, so there is room.
        let _ = message.encode(&mut self.to_send);
        self.unflushed = true;
        Ok(())
    }

    /// Whether all that was queued is sent.
    pub fn is_flushed(&self) -> bool {
        !self.unflushed
    }

    /// Sends what is queued, and tells what happens next.
    ///
    /// # Errors
    ///
    /// If the stream fails or ends, or the other end sends what is not a message.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped: what was read or is to be sent stays here.
    pub async fn next(&mut self) -> Result<Happened<In>, FrameError> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// Sends what is queued. What the other end says meanwhile is read, and ignored, so that it can
    /// go on.
    ///
    /// # Errors
    ///
    /// If the stream fails or ends before.
    pub async fn flush(&mut self) -> Result<(), FrameError> {
        while !self.is_flushed() {
            self.next().await?;
        }
        Ok(())
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Happened<In>, FrameError>> {
        if self.unflushed
            && let Poll::Ready(sent) = self.poll_flush(context)
        {
            sent?;
            return Poll::Ready(Ok(Happened::Flushed));
        }
        loop {
            if let Some(message) = self.take_message()? {
                return Poll::Ready(Ok(Happened::Received(message)));
            }
            let mut chunk = [0; READ_BYTES];
            let mut buffer = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(FrameError::Closed));
            }
            self.received.extend_from_slice(buffer.filled());
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.to_send.is_empty() {
            let sent = ready!(Pin::new(&mut self.io).poll_write(context, &self.to_send))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.to_send.advance(sent);
        }
        ready!(Pin::new(&mut self.io).poll_flush(context))?;
        self.unflushed = false;
        // A large update must not keep its memory.
        self.to_send = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    fn take_message(&mut self) -> Result<Option<In>, FrameError> {
        let Some((length, rest)) = self.received.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let bytes = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if bytes > self.frame_bytes_max {
            return Err(FrameError::TooLarge { bytes, max: self.frame_bytes_max });
        }
        if rest.len() < bytes {
            return Ok(None);
        }
        self.received.advance(LENGTH_BYTES);
        let frame: Bytes = self.received.split_to(bytes).freeze();
        if self.received.is_empty() {
            // Between messages nobody holds memory for them.
            self.received = BytesMut::new();
        }
        Ok(Some(In::decode(frame)?))
    }
}

const LENGTH_BYTES: usize = 4;

/// How much is read at a time.
const READ_BYTES: usize = 8 << 10;

#[cfg(test)]
mod tests;
