//! A byte stream to a client or an endpoint: TCP, or TLS over it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::buffer::{Buffer, Buffers};

/// A TCP connection of which the first bytes may have been read already, to see what is spoken.
#[derive(Debug)]
pub(crate) struct Begun {
    tcp: TcpStream,
    first: BytesMut,
}

impl Begun {
    pub(crate) fn new(tcp: TcpStream, first: BytesMut) -> Self {
        Self { tcp, first }
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
        if self.first.is_empty() {
            return Pin::new(&mut self.tcp).poll_read(cx, buf);
        }
        let count = buf.remaining().min(self.first.len());
        buf.put_slice(&self.first[..count]);
        self.first.advance(count);
        if self.first.is_empty() {
            self.first = BytesMut::new();
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
        let polled = pin!(stream.read_buf(buffer.room(spare))).poll(cx);
        match polled {
            Poll::Pending => {
                buffer.rest(spare);
                Poll::Pending
            }
            Poll::Ready(result) => {
                if let Ok(count) = result {
                    self.received.set(self.received.get() + count as u64);
                }
                Poll::Ready(result)
            }
        }
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
