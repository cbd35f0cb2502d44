//! A byte stream to a client or an endpoint: TCP, or TLS over it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::buffer::{Buffer, Buffers};

/// A TCP connection of which bytes may have been read already: the first ones, to see what is
/// spoken, and under TLS as many as there are, since the TLS library asks for a few at a time.
#[derive(Debug)]
pub(crate) struct Begun {
    tcp: TcpStream,
    /// Read and not yet given to who reads.
    ahead: BytesMut,
    /// Where memory to read ahead comes from, under TLS.
    spare: Option<Rc<Buffers>>,
}

impl Begun {
    pub(crate) fn new(tcp: TcpStream, first: BytesMut) -> Self {
        Self { tcp, ahead: first, spare: None }
    }

    /// One that reads ahead.
    pub(crate) fn reading_ahead(tcp: TcpStream, first: BytesMut, spare: &Rc<Buffers>) -> Self {
        Self { tcp, ahead: first, spare: Some(spare.clone()) }
    }

    /// Whether there are bytes that need no call of the system.
    fn is_ahead(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Reads as much as there is, for later.
    fn poll_ahead(&mut self, cx: &mut Context<'_>, spare: &Buffers) -> Poll<io::Result<()>> {
        let mut ahead = spare.take();
        let polled = pin!(self.tcp.read_buf(&mut ahead)).poll(cx);
        if matches!(polled, Poll::Ready(Ok(1..))) {
            self.ahead = ahead;
        } else {
            spare.give(ahead);
        }
        polled.map_ok(drop)
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }
}

impl AsyncRead for Begun {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            match self.spare.clone() {
                Some(spare) => ready!(self.poll_ahead(cx, &spare))?,
                None => return Pin::new(&mut self.tcp).poll_read(cx, buf),
            }
        }
        let count = buf.remaining().min(self.ahead.len());
        buf.put_slice(&self.ahead[..count]);
        self.ahead.advance(count);
        if self.ahead.is_empty() {
            let used = std::mem::take(&mut self.ahead);
            if let Some(spare) = &self.spare {
                spare.give(used);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// A stream of either kind.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Plaintext.
    Plain(Begun),
    /// Mutual TLS of the mesh.
    Tls(Box<TlsStream<Begun>>),
}

impl Stream {
    /// A connection of which nothing was read.
    pub(crate) fn plain(tcp: TcpStream) -> Self {
        Self::Plain(Begun::new(tcp, BytesMut::new()))
    }

    /// Whether more can be read without a call of the system: the TLS library gives one record at
    /// a time.
    fn is_ahead(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.get_ref().0.is_ahead(),
        }
    }

    /// The TCP connection underneath.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(begun) => begun.tcp(),
            Self::Tls(tls) => tls.get_ref().0.tcp(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(plain) => Pin::new(plain).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(plain) => Pin::new(plain).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(plain) => Pin::new(plain).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(plain) => Pin::new(plain).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(plain) => Pin::new(plain).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// A stream whose two directions one task polls at the same time.
///
/// The borrow lasts for one poll only, never over an await.
#[derive(Debug)]
pub(crate) struct Io {
    stream: RefCell<Stream>,
    /// Bytes read.
    received: Cell<u64>,
}

impl Io {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream: RefCell::new(stream), received: Cell::new(0) }
    }

    /// Looks at the stream.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&Stream) -> T) -> T {
        look(&self.stream.borrow())
    }

    /// Bytes read so far.
    pub(crate) fn received(&self) -> u64 {
        self.received.get()
    }

    /// Reads more into `buffer`; 0 at the end of the stream. Holds memory of `spare` only while
    /// there is something to read.
    pub(crate) fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut Buffer,
        spare: &Buffers,
    ) -> Poll<io::Result<usize>> {
        let mut stream = self.stream.borrow_mut();
        let mut count = match pin!(stream.read_buf(buffer.room(spare))).poll(cx) {
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {
                buffer.rest(spare);
                return Poll::Pending;
            }
        };
        while count > 0 && stream.is_ahead() && buffer.has_room() {
            match pin!(stream.read_buf(buffer.room(spare))).poll(cx) {
                Poll::Ready(Ok(more @ 1..)) => count += more,
                // An end or a failure is told again by the next read.
                _ => break,
            }
        }
        self.received.set(self.received.get() + count as u64);
        Poll::Ready(Ok(count))
    }

    /// See [`Io::poll_fill`]. Cancel safe.
    pub(crate) async fn fill(&self, buffer: &mut Buffer, spare: &Buffers) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(cx, buffer, spare)).await
    }

    /// Writes all of `first` and then of `second`, in one call if the socket takes it.
    pub(crate) async fn write_both(&self, mut first: &[u8], mut second: &[u8]) -> io::Result<()> {
        poll_fn(|cx| {
            let mut stream = self.stream.borrow_mut();
            let mut stream = Pin::new(&mut *stream);
            while !(first.is_empty() && second.is_empty()) {
                let count = if first.is_empty() || second.is_empty() {
                    let one = if first.is_empty() { second } else { first };
                    ready!(stream.as_mut().poll_write(cx, one))?
                } else {
                    let both = [IoSlice::new(first), IoSlice::new(second)];
                    ready!(stream.as_mut().poll_write_vectored(cx, &both))?
                };
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                let of_first = count.min(first.len());
                first = &first[of_first..];
                second = &second[count - of_first..];
            }
            stream.poll_flush(cx)
        })
        .await
    }

    /// Ends this side's direction; the other may go on.
    pub(crate) async fn shutdown(&self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(cx)).await
    }
}
