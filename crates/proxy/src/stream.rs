//! A byte stream to a client or an endpoint: TCP, or TLS over another stream.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::buffer::{Buffer, Buffers};

/// A byte stream of which bytes may have been read already: the first ones, to see what is spoken,
/// and under TLS as many as there are, since the TLS library asks for a few at a time.
#[derive(Debug)]
pub(crate) struct Stream {
    transport: Transport,
    /// Read and not yet given to who reads.
    ahead: BytesMut,
    /// Where memory to read ahead comes from, under TLS.
    spare: Option<Rc<Buffers>>,
}

/// What carries the bytes of a stream.
#[derive(Debug)]
enum Transport {
    /// The kernel.
    Tcp(TcpStream),
    /// Mutual TLS of the mesh, over another stream.
    Tls(Box<TlsStream<Stream>>),
    /// The memory of a test.
    #[cfg(test)]
    Pipe(tokio::io::DuplexStream),
}

impl Stream {
    /// A TCP connection of which nothing was read.
    pub(crate) fn tcp(tcp: TcpStream) -> Self {
        Self::over(Transport::Tcp(tcp))
    }

    /// What TLS carries.
    pub(crate) fn tls(tls: TlsStream<Self>) -> Self {
        Self::over(Transport::Tls(Box::new(tls)))
    }

    /// One end of a pipe.
    #[cfg(test)]
    pub(crate) fn pipe(pipe: tokio::io::DuplexStream) -> Self {
        Self::over(Transport::Pipe(pipe))
    }

    fn over(transport: Transport) -> Self {
        Self { transport, ahead: BytesMut::new(), spare: None }
    }

    /// The same, which begins with bytes that were read of it.
    pub(crate) fn beginning_with(self, mut first: BytesMut) -> Self {
        // What was given back before and not read again comes behind them.
        first.extend_from_slice(&self.ahead);
        Self { ahead: first, ..self }
    }

    /// The same, of which as much is read at a time as there is.
    pub(crate) fn reading_ahead(self, spare: &Rc<Buffers>) -> Self {
        Self { spare: Some(spare.clone()), ..self }
    }

    /// Whether more can be read without a call of the system: the TLS library gives one record at
    /// a time.
    fn is_ahead(&self) -> bool {
        match &self.transport {
            Transport::Tls(tls) => !tls.get_ref().0.ahead.is_empty(),
            _ => false,
        }
    }

    /// Its own address, of the TCP connection underneath if there is one.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.underneath()?.local_addr().ok()
    }

    /// Sees to it that the peer gets a reset, not an end, when this is dropped.
    pub(crate) fn reset_on_close(&self) {
        if let Some(tcp) = self.underneath() {
            // A socket that is broken already needs none.
            let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
        }
    }

    fn underneath(&self) -> Option<&TcpStream> {
        match &self.transport {
            Transport::Tcp(tcp) => Some(tcp),
            Transport::Tls(tls) => tls.get_ref().0.underneath(),
            #[cfg(test)]
            Transport::Pipe(_) => None,
        }
    }

    /// Reads as much as there is, for later.
    fn poll_ahead(&mut self, cx: &mut Context<'_>, spare: &Buffers) -> Poll<io::Result<()>> {
        let mut ahead = spare.take();
        let polled = pin!(self.transport.read_buf(&mut ahead)).poll(cx);
        if matches!(polled, Poll::Ready(Ok(1..))) {
            self.ahead = ahead;
        } else {
            spare.give(ahead);
        }
        polled.map_ok(drop)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            match self.spare.clone() {
                Some(spare) => ready!(self.poll_ahead(cx, &spare))?,
                None => return Pin::new(&mut self.transport).poll_read(cx, buf),
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

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
            #[cfg(test)]
            Self::Pipe(pipe) => Pin::new(pipe).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
            #[cfg(test)]
            Transport::Pipe(pipe) => Pin::new(pipe).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Transport::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
            #[cfg(test)]
            Transport::Pipe(pipe) => Pin::new(pipe).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_flush(cx),
            #[cfg(test)]
            Transport::Pipe(pipe) => Pin::new(pipe).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            #[cfg(test)]
            Transport::Pipe(pipe) => Pin::new(pipe).poll_shutdown(cx),
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
