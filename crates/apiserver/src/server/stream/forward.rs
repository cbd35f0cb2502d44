//! Ports of a pod (`portforward.k8s.io`): for each connection the client opens a stream for errors and one
//! for data. What becomes of one connection concerns no other: errors are logged and not sent, since
//! `kubectl` ends all of them when it is told of one.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use ironmesh_dialects::kubernetes::kinds::Pod;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::socket::Left;
use super::spdy::{self, Frame, Frames, Sink};
use crate::context::Context;
use crate::node::Connection;
use crate::object;
use crate::store::Key;

/// The forwarded ports of one client.
pub(super) struct Forwarding {
    pub(super) context: Arc<Context>,
    pub(super) key: Key,
    /// Of the pod.
    pub(super) uid: String,
}

/// What a client has of a stream.
#[derive(Debug)]
enum Stream {
    /// For errors of the connection of this number.
    Errors,
    /// For data, while more may come.
    Data { to: mpsc::Sender<Piece>, connection: AbortHandle, errors: Option<u32> },
}

/// Part of what a client sends over one connection; nothing at its end.
type Piece = Option<Bytes>;

impl Forwarding {
    /// Forwards until the client or the pod is gone.
    pub(super) async fn run(self, from: spdy::Bytes, mut sink: Sink) {
        let (out, mut frames) = mpsc::channel::<Bytes>(FRAMES_MAX);
        tokio::select! {
            () = self.take(Frames::new(from), out) => {}
            () = async {
                while let Some(frame) = frames.recv().await {
                    if sink.send(frame).await.is_err() {
                        return;
                    }
                }
            } => {}
            () = self.until_pod_ends() => {}
        }
    }

    /// Takes what the client sends, until it is gone.
    async fn take(&self, mut frames: Frames, out: mpsc::Sender<Bytes>) {
        let mut streams = Streams {
            forwarding: self,
            out,
            open: HashMap::new(),
            errors: HashMap::new(),
            connections: JoinSet::new(),
            has_replied: false,
        };
        while let Ok(frame) = frames.next().await {
            while streams.connections.try_join_next().is_some() {}
            let taken = match frame {
                Frame::Ping(id) => streams.send(spdy::ping(id)).await,
                Frame::Open { stream, headers } => streams.open(stream, &headers).await,
                Frame::Data { stream, bytes, last } => {
                    streams.pass(stream, bytes, last).await;
                    Ok(())
                }
                Frame::Reset(stream) => streams.give_up(stream).await,
                Frame::Other => Ok(()),
            };
            if taken.is_err() {
                return;
            }
        }
    }

    /// Returns when the pod has ended, or is another one.
    async fn until_pod_ends(&self) {
        let store = self.context.registry.store();
        let mut changes = store.subscribe();
        loop {
            changes.mark_unchanged();
            let pod = store.object(&self.key);
            let lives = pod
                .is_some_and(|pod| object::uid(&pod) == self.uid && !Pod::of(&pod).is_finished());
            if !lives || changes.changed().await.is_err() {
                return;
            }
        }
    }
}

/// The streams of a client.
struct Streams<'a> {
    forwarding: &'a Forwarding,
    out: mpsc::Sender<Bytes>,
    open: HashMap<u32, Stream>,
    /// The streams of errors of connections whose stream of data is not open yet, by their numbers.
    errors: HashMap<String, u32>,
    connections: JoinSet<()>,
    has_replied: bool,
}

impl Streams<'_> {
    async fn send(&self, frame: Bytes) -> Result<(), Left> {
        self.out.send(frame).await.map_err(|_| Left)
    }

    async fn open(&mut self, stream: u32, headers: &[(String, String)]) -> Result<(), Left> {
        let limits = self.forwarding.context.registry.limits();
        let most = limits.api_forwards_max.saturating_mul(2);
        if stream == 0 || self.open.contains_key(&stream) || self.open.len() >= most {
            return self.send(spdy::reset(stream)).await;
        }
        let is_first = !std::mem::replace(&mut self.has_replied, true);
        self.send(spdy::reply(stream, is_first)).await?;
        let header = |name: &str| {
            let found = headers.iter().find(|(other, _)| other == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        if header("streamtype") == "error" {
            self.errors.insert(header("requestid").to_owned(), stream);
            self.open.insert(stream, Stream::Errors);
            return Ok(());
        }
        let errors = self.errors.remove(header("requestid"));
        let (to, from) = mpsc::channel(PIECES_MAX);
        let carrying = Carrying {
            context: self.forwarding.context.clone(),
            key: self.forwarding.key.clone(),
            out: self.out.clone(),
            stream,
            errors,
        };
        let port = header("port").parse().unwrap_or(0);
        let connection = self.connections.spawn(carrying.run(port, from));
        self.open.insert(stream, Stream::Data { to, connection, errors });
        Ok(())
    }

    /// Passes on what comes of a stream.
    async fn pass(&self, stream: u32, bytes: Bytes, last: bool) {
        let Some(Stream::Data { to, connection, .. }) = self.open.get(&stream) else { return };
        // One that takes nothing keeps the others waiting for so long.
        let longest = self.forwarding.context.registry.limits().api_stall_timeout;
        let pieces = [(!bytes.is_empty()).then_some(Some(bytes)), last.then_some(None)];
        for piece in pieces.into_iter().flatten() {
            if timeout(longest, to.send(piece)).await.is_err() {
                connection.abort();
            }
        }
    }

    /// The client wants nothing more of a stream.
    async fn give_up(&mut self, stream: u32) -> Result<(), Left> {
        let Some(Stream::Data { connection, errors, .. }) = self.open.remove(&stream) else {
            return Ok(());
        };
        connection.abort();
        let Some(errors) = errors else { return Ok(()) };
        self.open.remove(&errors);
        self.send(spdy::end(errors)).await
    }
}

/// One connection.
struct Carrying {
    context: Arc<Context>,
    key: Key,
    out: mpsc::Sender<Bytes>,
    stream: u32,
    errors: Option<u32>,
}

impl Carrying {
    /// Carries bytes both ways, until both have ended or one has broken off.
    async fn run(self, port: u16, from: mpsc::Receiver<Piece>) {
        let Key { namespace, name, .. } = &self.key;
        match self.context.node.connect(namespace, name, port).await {
            Ok(connection) => self.carry(connection, from).await,
            Err(error) => {
                tracing::info!(
                    namespace = &**namespace,
                    pod = &**name,
                    port,
                    error,
                    "port not reached"
                );
                let _ = self.out.send(spdy::end(self.stream)).await;
            }
        }
        if let Some(errors) = self.errors {
            // A client that is gone needs no end.
            let _ = self.out.send(spdy::end(errors)).await;
        }
    }

    async fn carry(&self, connection: Box<dyn Connection>, mut from: mpsc::Receiver<Piece>) {
        let (mut reading, mut writing) = tokio::io::split(connection);
        let up = async {
            let mut takes = true;
            // What the client sends to who has broken off is for nobody, but the others are not to wait
            // for it.
            while let Some(Some(piece)) = from.recv().await {
                takes = takes && writing.write_all(&piece).await.is_ok();
            }
            // What has broken off already needs no end.
            let _ = writing.shutdown().await;
        };
        let down = async {
            loop {
                let mut frame = spdy::room();
                match reading.read_buf(&mut frame).await {
                    Ok(1..) => {
                        if self.out.send(spdy::data(frame, self.stream)).await.is_err() {
                            return;
                        }
                    }
                    _ => break,
                }
            }
            let _ = self.out.send(spdy::end(self.stream)).await;
        };
        tokio::join!(up, down);
    }
}

/// Frames that wait to be sent.
const FRAMES_MAX: usize = 16;
/// Pieces of one connection that wait to be written.
const PIECES_MAX: usize = 16;
