//! One connection of a proxy.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use ironmesh_model::bootstrap::ProxyKind;
use ironmesh_model::limits::WireLimits;
use ironmesh_model::{ResourceKey, Version};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};

use super::answers::Key;
use super::ledger::{Ledger, Sent, ToSend};
use super::{Backend, Proxy, Server};
use crate::client::KEYS_PER_MESSAGE;
use crate::codec::{self, read_key};
use crate::frame::{Connection, FrameError, Happened};
use crate::messages::{
    Ack, Changed, ClientSays, Empty, Failed, Hello, PROTOCOL_VERSION, ServerSays, Sign, Signed,
    State, Subscribe, ToClient, ToServer, Update,
};

/// Why a connection of a proxy ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The stream failed or ended, or carried nonsense.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The proxy did not begin with a hello, or not in time.
    #[error("the proxy did not say who it is")]
    NoHello,
    /// The proxy speaks another version of the protocol.
    #[error(
        "the proxy speaks version {0} of the push protocol, not {PROTOCOL_VERSION}; restart its workload"
    )]
    OtherVersion(u32),
    /// The token proves nothing.
    #[error("the proxy was refused: {0}")]
    Refused(String),
    /// It names more keys in one message than any proxy does.
    #[error("the proxy names {0} keys in one message, which is more than {KEYS_PER_MESSAGE}")]
    TooManyKeys(usize),
    /// It wants too much.
    #[error("the proxy subscribes to more than {kind}_subscriptions_max keys, which is {max}", kind = .kind.word())]
    TooManySubscriptions {
        /// What it is.
        kind: ProxyKind,
        /// The limit.
        max: usize,
    },
    /// Nothing was heard of it for too long.
    #[error("the proxy is silent")]
    Silent,
}

type ProxyConnection<IO> = Connection<IO, ToServer, ToClient>;

/// Serves one proxy to the end of its connection.
pub(super) async fn run<B, IO>(
    server: &Server<B>,
    io: IO,
    from: IpAddr,
    known: impl FnOnce() + Send,
) -> SessionError
where
    B: Backend,
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    let WireLimits { frame_bytes_max, greeting_bytes_max, .. } = server.limits;
    // Whoever has not proven who it is gets little memory.
    let mut connection = Connection::new(io, greeting_bytes_max.min(frame_bytes_max));
    let error = match greet(server, &mut connection, from).await {
        Err(error) => error,
        Ok(proxy) => {
            known();
            connection.limit_frames(frame_bytes_max);
            let mut session = Session {
                server,
                proxy,
                in_flight: VecDeque::new(),
                last_nonce: 0,
                more_keys: false,
            };
            session.run(&mut connection).await
        }
    };
    // The proxy learns why, if it still listens.
    let failed = ServerSays::Failed(Failed { why: error.to_string() });
    if !matches!(error, SessionError::Frame(_) | SessionError::Silent)
        && say(&mut connection, failed).is_ok()
    {
        let _ = timeout(server.limits.keepalive, connection.flush()).await;
    }
    error
}

async fn greet<B, IO>(
    server: &Server<B>,
    connection: &mut ProxyConnection<IO>,
    from: IpAddr,
) -> Result<Arc<Proxy>, SessionError>
where
    B: Backend,
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    let first = timeout(server.limits.keepalive, connection.next());
    let Ok(Happened::Received(ToServer { says: Some(ClientSays::Hello(hello)) })) =
        first.await.map_err(|_| SessionError::NoHello)?
    else {
        return Err(SessionError::NoHello);
    };
    let Hello { protocol_version, token } = hello;
    if protocol_version != PROTOCOL_VERSION {
        return Err(SessionError::OtherVersion(protocol_version));
    }
    let peer = server.backend.authenticate(&token, from).await;
    let peer = peer.map_err(SessionError::Refused)?;
    say(connection, ServerSays::Welcome(Empty {}))?;
    Ok(server.connected(peer))
}

fn say<IO: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut ProxyConnection<IO>,
    says: ServerSays,
) -> Result<(), FrameError> {
    connection.send(&ToClient { says: Some(says) })
}

struct Session<'a, B: Backend> {
    server: &'a Server<B>,
    proxy: Arc<Proxy>,
    /// Updates without acknowledgement, oldest first.
    in_flight: VecDeque<(u64, Sent)>,
    last_nonce: u64,
    /// Whether a list of subscriptions goes on in the next message.
    more_keys: bool,
}

/// Also where the future of a connection is dropped.
impl<B: Backend> Drop for Session<'_, B> {
    fn drop(&mut self) {
        self.server.disconnected(&self.proxy);
    }
}

impl<B: Backend> Session<'_, B> {
    async fn run<IO>(&mut self, connection: &mut ProxyConnection<IO>) -> SessionError
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send,
    {
        loop {
            if let Err(error) = self.go_on(connection).await {
                return error;
            }
        }
    }

    async fn go_on<IO>(&mut self, connection: &mut ProxyConnection<IO>) -> Result<(), SessionError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let proxy = self.proxy.clone();
        let keepalive = self.limits().keepalive;
        let mut silent_since = Instant::now();
        let mut pinged = false;
        loop {
            let has_room = connection.is_flushed();
            self.push(connection)?;
            if has_room {
                self.ask(connection)?;
            }
            let patience = if pinged { keepalive * 2 } else { keepalive };
            tokio::select! {
                happened = connection.next() => {
                    if let Happened::Received(message) = happened? {
                        silent_since = Instant::now();
                        pinged = false;
                        self.received(connection, message).await?;
                    }
                }
                () = proxy.changed.notified() => {}
                () = sleep_until(silent_since + patience) => {
                    if pinged {
                        return Err(SessionError::Silent);
                    }
                    pinged = true;
                    say(connection, ServerSays::Ping(Empty {}))?;
                }
            }
        }
    }

    fn limits(&self) -> &WireLimits {
        &self.server.limits
    }

    async fn received<IO>(
        &mut self,
        connection: &mut ProxyConnection<IO>,
        message: ToServer,
    ) -> Result<(), SessionError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send,
    {
        match message.says {
            Some(ClientSays::Subscribe(subscribe)) => self.subscribe(subscribe)?,
            Some(ClientSays::Unsubscribe(unsubscribe)) => {
                few_keys(unsubscribe.keys.len())?;
                let mut ledger = self.proxy.ledger();
                for bytes in unsubscribe.keys {
                    match read_key(&bytes) {
                        Ok(key) => ledger.unsubscribe(&key),
                        Err(_) => ledger.forget_not_understood(&bytes),
                    }
                }
            }
            Some(ClientSays::Ack(ack)) => self.acknowledged(ack),
            Some(ClientSays::Sign(Sign { id, csr })) => {
                let signed = match self.server.backend.sign(&self.proxy.peer, &csr).await {
                    Ok(certificate) => {
                        Signed { id, certificate: Some(certificate), refused: String::new() }
                    }
                    Err(refused) => Signed { id, certificate: None, refused },
                };
                say(connection, ServerSays::Signed(signed))?;
            }
            Some(ClientSays::Told(told)) => {
                self.proxy.questions().take(told, self.limits().answer_bytes_max);
            }
            // While something is on its way the proxy hears of us anyhow. (So the queue of a proxy
            // that only pings and never reads does not grow.)
            Some(ClientSays::Ping(_)) if connection.is_flushed() => {
                say(connection, ServerSays::Pong(Empty {}))?;
            }
            // A message of a later version of the protocol is not for us.
            Some(ClientSays::Ping(_) | ClientSays::Pong(_) | ClientSays::Hello(_)) | None => {}
        }
        Ok(())
    }

    fn subscribe(&mut self, subscribe: Subscribe) -> Result<(), SessionError> {
        few_keys(subscribe.wanted.len())?;
        let wanted_max = self.limits().subscriptions_max(self.proxy.peer.kind);
        let mut ledger = self.proxy.ledger();
        for wanted in subscribe.wanted {
            let held = wanted.held.map(Version);
            match read_key(&wanted.key) {
                Ok(key) => ledger.subscribe(key, held, wanted.only_held, wanted_max),
                Err(error) => ledger.note_not_understood(wanted.key, error.to_string()),
            }
            if ledger.wanted() > wanted_max {
                let kind = self.proxy.peer.kind;
                return Err(SessionError::TooManySubscriptions { kind, max: wanted_max });
            }
        }
        drop(ledger);
        self.more_keys = subscribe.more;
        Ok(())
    }

    fn acknowledged(&mut self, ack: Ack) {
        // Acknowledgements come in order; one that was skipped has been applied, too.
        while let Some((nonce, sent)) = self.in_flight.pop_front_if(|(n, _)| *n <= ack.nonce) {
            let errors = if nonce == ack.nonce { read_errors(&ack) } else { Vec::new() };
            self.proxy.ledger().acknowledge(sent, errors);
        }
    }

    /// Asks what is to be asked.
    fn ask<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        connection: &mut ProxyConnection<IO>,
    ) -> Result<(), SessionError> {
        let mut questions = self.proxy.questions();
        while let Some(ask) = questions.next() {
            say(connection, ServerSays::Ask(ask))?;
        }
        Ok(())
    }

    /// Sends what the proxy lacks, if now is the time.
    fn push<IO: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        connection: &mut ProxyConnection<IO>,
    ) -> Result<(), SessionError> {
        let ready = connection.is_flushed()
            && !self.more_keys
            && self.in_flight.len() < self.limits().updates_in_flight_max
            && self.proxy.ledger().is_behind();
        if !ready {
            return Ok(());
        }
        let mut answers = self.server.answers();
        let mut ledger = self.proxy.ledger();
        let mut changes = ledger.changes(&mut answers, self.proxy.id);
        answers.work().keys += changes.len() as u64;
        drop(answers);
        let too_large = self.drop_too_large(&mut changes, &mut ledger);
        if changes.is_empty() {
            return Ok(());
        }
        let bytes = changes.iter().map(|change| body_bytes(&change.message)).sum();
        ledger.update_sent(changes.len() as u64, bytes);
        drop(ledger);
        self.last_nonce += 1;
        let mut sent = Vec::with_capacity(changes.len());
        for change in &changes {
            let is_held = !matches!(change.message.state, Some(State::Forget(_)));
            let version = is_held.then_some(Version(change.message.version));
            if let Some(key) = change.key.as_ref().filter(|key| !too_large.contains(&**key)) {
                sent.push((key.clone(), version));
            }
        }
        self.in_flight.push_back((self.last_nonce, sent));
        for frame in self.frames(changes.into_iter().map(|change| change.message)) {
            say(connection, ServerSays::Update(frame))?;
        }
        Ok(())
    }

    /// Takes out what does not fit into a frame, and notes it. A proxy that holds an older version
    /// keeps that; to another it is said that there is nothing, since nobody should wait for it.
    /// Returns the keys.
    fn drop_too_large(&self, changes: &mut Vec<ToSend>, ledger: &mut Ledger) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        let mut fitting = Vec::with_capacity(changes.len());
        for mut change in std::mem::take(changes) {
            let bytes = change.message.encoded_len() + CHANGE_OVERHEAD_BYTES;
            if bytes > self.room()
                && let Some(key) = change.key.clone()
            {
                let max = self.limits().frame_bytes_max;
                tracing::error!(%key, bytes, max, "a resource is too large for a frame and is not sent");
                let why =
                    format!("its {bytes} bytes are more than frame_bytes_max, which is {max}");
                ledger.failed(&key, why);
                let holds_older = ledger.holding(&key).is_some_and(|h| h.acknowledged.is_some());
                keys.insert(key);
                if holds_older {
                    continue;
                }
                change.message.version = codec::nothing().0;
                change.message.state = Some(State::Nothing(Empty {}));
            }
            fitting.push(change);
        }
        *changes = fitting;
        keys
    }

    /// Splits an update into messages that fit into frames.
    fn frames(&self, changes: impl Iterator<Item = Changed>) -> Vec<Update> {
        let nonce = self.last_nonce;
        let mut frames = Vec::new();
        let mut frame = Vec::new();
        let mut used = 0;
        for change in changes {
            let bytes = change.encoded_len() + CHANGE_OVERHEAD_BYTES;
            if used + bytes > self.room() {
                let changes = std::mem::take(&mut frame);
                frames.push(Update { nonce, changes, more: true });
                used = 0;
            }
            used += bytes;
            frame.push(change);
        }
        frames.push(Update { nonce, changes: frame, more: false });
        frames
    }

    /// Bytes of changes that fit into one frame.
    fn room(&self) -> usize {
        self.limits().frame_bytes_max.saturating_sub(FRAME_OVERHEAD_BYTES)
    }
}

/// Whether a message has no more keys than a proxy puts into one.
fn few_keys(keys: usize) -> Result<(), SessionError> {
    if keys > KEYS_PER_MESSAGE { Err(SessionError::TooManyKeys(keys)) } else { Ok(()) }
}

fn body_bytes(change: &Changed) -> u64 {
    match &change.state {
        Some(State::Is(bytes)) => bytes.len() as u64,
        _ => 0,
    }
}

fn read_errors(ack: &Ack) -> Vec<(ResourceKey, String, bool)> {
    ack.errors
        .iter()
        .filter_map(|error| {
            let key = read_key(&error.key).ok()?;
            Some((key, error.why.clone(), error.refused))
        })
        .collect()
}

/// More than the fields of a message beside its changes take.
const FRAME_OVERHEAD_BYTES: usize = 64;

/// More than a change takes beside its own bytes.
const CHANGE_OVERHEAD_BYTES: usize = 16;
