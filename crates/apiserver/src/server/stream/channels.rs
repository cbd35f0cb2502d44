//! The channels of a command: in the messages of a WebSocket, whose first byte says what the rest is
//! (`v4.channel.k8s.io`, `v5.channel.k8s.io`), or as streams of SPDY, as older clients have them.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::split;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::socket::{Left, Reading, Socket, Writing};
use super::spdy::{self, Frame, Frames, Sink};

/// What comes of a client.
pub(super) enum Incoming {
    Socket(Reading),
    Spdy {
        frames: Frames,
        streams: Streams,
        sink: Arc<Mutex<Sink>>,
        /// A channel that has ended, which is still to be told.
        ended: Option<u8>,
    },
}

/// What goes to a client.
pub(super) enum Outgoing {
    Socket(Writing),
    Spdy { streams: Streams, sink: Arc<Mutex<Sink>> },
}

/// The channels that are open, and their streams.
type Streams = Arc<[(u8, u32)]>;

/// The channels of a WebSocket.
pub(super) fn of_socket(socket: Socket) -> (Incoming, Outgoing) {
    let (reading, writing) = socket.halves();
    (Incoming::Socket(reading), Outgoing::Socket(writing))
}

/// The channels of a SPDY connection, once the client has opened a stream for each that it said it wants;
/// nothing if it does not.
pub(super) async fn of_spdy(
    stream: TokioIo<Upgraded>,
    wanted: &[u8],
    longest: Duration,
) -> Option<(Incoming, Outgoing)> {
    let (reading, writing) = split(stream);
    let mut frames = Frames::new(spdy::Bytes::Plain(reading));
    let mut sink = Sink::Plain(writing);
    let opened = timeout(longest, open(&mut frames, &mut sink, wanted)).await.ok()??;
    let (streams, sink) = (Streams::from(opened), Arc::new(Mutex::new(sink)));
    let outgoing = Outgoing::Spdy { streams: streams.clone(), sink: sink.clone() };
    Some((Incoming::Spdy { frames, streams, sink, ended: None }, outgoing))
}

/// Has each channel that is wanted opened, and nothing else.
async fn open(frames: &mut Frames, sink: &mut Sink, wanted: &[u8]) -> Option<Vec<(u8, u32)>> {
    let mut open: Vec<(u8, u32)> = Vec::new();
    while open.len() < wanted.len() {
        match frames.next().await.ok()? {
            Frame::Open { stream, headers } => {
                let kind = headers.iter().find(|(name, _)| name == "streamtype");
                let channel =
                    CHANNELS.iter().find(|(_, name)| Some(*name) == kind.map(|(_, k)| &**k));
                let (channel, _) = channel.filter(|(channel, _)| wanted.contains(channel))?;
                let is_taken = |(other, id): &(u8, u32)| other == channel || *id == stream;
                if stream == 0 || open.iter().any(is_taken) {
                    return None;
                }
                sink.send(spdy::reply(stream, open.is_empty())).await.ok()?;
                open.push((*channel, stream));
            }
            Frame::Ping(id) => sink.send(spdy::ping(id)).await.ok()?,
            Frame::Other => {}
            // For what is not open yet.
            Frame::Data { .. } | Frame::Reset(_) => return None,
        }
    }
    Some(open)
}

impl Incoming {
    /// The next message of a channel, none at the end. Not cancel safe.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let (frames, streams, sink, ended) = match self {
            Self::Socket(socket) => return socket.next().await,
            Self::Spdy { frames, streams, sink, ended } => (frames, streams, sink, ended),
        };
        if let Some(channel) = ended.take() {
            return Some(Bytes::copy_from_slice(&[CLOSE, channel]));
        }
        loop {
            match frames.next().await.ok()? {
                Frame::Data { stream, bytes, last } => {
                    let found = streams.iter().find(|(_, other)| *other == stream);
                    let Some((channel, _)) = found else { continue };
                    *ended = last.then_some(*channel);
                    return Some(on_channel(*channel, &bytes));
                }
                Frame::Ping(id) => sink.lock().await.send(spdy::ping(id)).await.ok()?,
                Frame::Open { stream, .. } => {
                    sink.lock().await.send(spdy::reset(stream)).await.ok()?;
                }
                Frame::Reset(_) | Frame::Other => {}
            }
        }
    }
}

impl Outgoing {
    /// Sends a message; one of a channel that the client has not opened is for nobody.
    pub(super) async fn send(&mut self, message: Bytes) -> Result<(), Left> {
        let (streams, sink) = match self {
            Self::Socket(socket) => return socket.send(message).await,
            Self::Spdy { streams, sink } => (streams, sink),
        };
        let Some((channel, bytes)) = message.split_first() else { return Ok(()) };
        let Some((_, stream)) = streams.iter().find(|(other, _)| other == channel) else {
            return Ok(());
        };
        let mut frame = spdy::room();
        frame.put_slice(bytes);
        sink.lock().await.send(spdy::data(frame, *stream)).await
    }

    /// Ends the session in order.
    pub(super) async fn close(&mut self) {
        match self {
            Self::Socket(socket) => socket.close().await,
            Self::Spdy { streams, sink } => {
                let mut sink = sink.lock().await;
                for (_, stream) in streams.iter() {
                    // Who is gone already needs no end.
                    let _ = sink.send(spdy::end(*stream)).await;
                }
            }
        }
    }
}

/// A message of a channel.
pub(super) fn on_channel(channel: u8, bytes: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(bytes.len() + 1);
    message.put_u8(channel);
    message.put_slice(bytes);
    message.freeze()
}

pub(super) const STDIN: u8 = 0;
pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const RESIZE: u8 = 4;
/// Only in the fifth version: the channel that is named next has ended.
pub(super) const CLOSE: u8 = 255;
/// What streams of SPDY are called that carry channels.
const CHANNELS: [(u8, &str); 5] = [
    (STDIN, "stdin"),
    (STDOUT, "stdout"),
    (STDERR, "stderr"),
    (ERROR, "error"),
    (RESIZE, "resize"),
];
