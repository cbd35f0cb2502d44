//! A WebSocket of a client (RFC 6455): messages of bytes, each of a bounded size.

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::spdy;

type Stream = WebSocketStream<TokioIo<Upgraded>>;

/// Our end of a WebSocket.
pub(super) struct Socket(Stream);

/// What comes.
pub(super) struct Reading(SplitStream<Stream>);

/// What goes.
pub(super) struct Writing(SplitSink<Stream, Message>);

/// The client is gone, or does not keep to the protocol.
#[derive(Debug)]
pub(super) struct Left;

impl Socket {
    pub(super) async fn server(stream: TokioIo<Upgraded>, message_bytes_max: usize) -> Self {
        let config = WebSocketConfig::default()
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max))
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BYTES_MAX);
        Self(WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await)
    }

    pub(super) fn split(self) -> (Reading, spdy::Sink) {
        let (writing, reading) = self.0.split();
        (Reading(reading), spdy::Sink::Socket(Writing(writing)))
    }

    pub(super) fn halves(self) -> (Reading, Writing) {
        let (writing, reading) = self.0.split();
        (Reading(reading), Writing(writing))
    }
}

impl Reading {
    /// The next message; none at the end. Pings are answered meanwhile. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.0.next().await? {
                Ok(Message::Binary(bytes)) => return Some(bytes),
                Ok(Message::Text(text)) => return Some(text.into()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
            }
        }
    }

    /// The bytes of all messages, one behind the other.
    pub(super) fn bytes(self) -> spdy::Bytes {
        spdy::Bytes::Socket(self, Bytes::new())
    }
}

impl Writing {
    pub(super) async fn send(&mut self, message: Bytes) -> Result<(), Left> {
        self.0.send(Message::Binary(message)).await.map_err(|_| Left)
    }

    /// Ends the connection in order.
    pub(super) async fn close(&mut self) {
        // Clients take any other code, and none, for a failure.
        let normal = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
        // Who is gone already needs no end.
        let _ = self.0.send(Message::Close(Some(normal))).await;
    }
}

/// Bytes that may wait to be written; the message that is being sent is the only one.
const WRITE_BYTES_MAX: usize = 1 << 20;
