//! Holds the connection of a [`super::Client`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_model::draw::Draw;
use ironmesh_model::limits::WireLimits;
use ironmesh_model::view::{ApplyError, Body, Change};
use ironmesh_model::{ResourceKey, Version};
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::questions::{Question, Questions};
use super::{Connect, ConnectionStatus, Shared, SignRequest};
use crate::codec::{self, key_bytes, read_key};
use crate::frame::{Connection, FrameError, Happened};
use crate::messages::{
    Ack, Changed, ClientSays, Empty, Hello, PROTOCOL_VERSION, ResourceError, ServerSays, Sign,
    Signed, State, Subscribe, ToClient, ToServer, Told, Unsubscribe, Update, Wanted,
};

/// Runs a client.
pub struct Driver<C, A> {
    pub(super) shared: Arc<Shared>,
    pub(super) limits: WireLimits,
    pub(super) token: String,
    pub(super) connect: C,
    pub(super) apply: A,
    /// Who answers questions about the proxy.
    pub(super) questions: Option<mpsc::Sender<Question>>,
    /// Versions of all that the proxy holds, wanted or referred to.
    pub(super) held: HashMap<ResourceKey, Version>,
}

impl<C, A> fmt::Debug for Driver<C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("no connection: {0}")]
    NoConnection(io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the control plane does not answer")]
    Silent,
    #[error("the control plane says: {0}")]
    Failed(String),
    #[error("an update is larger than update_bytes_max, which is {0}")]
    UpdateTooLarge(usize),
}

type ControlConnection<IO> = Connection<IO, ToClient, ToServer>;

impl<C, A> Driver<C, A>
where
    C: Connect,
    A: FnMut(Vec<Change>) -> Vec<ApplyError>,
{
    /// The same, whose questions about the proxy are answered by who has the other end. One that
    /// finds no room there is refused.
    #[must_use]
    pub fn with_questions(self, to: mpsc::Sender<Question>) -> Self {
        Self { questions: Some(to), ..self }
    }

    /// Keeps a connection to the control plane for as long as it is polled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn run(mut self) {
        let WireLimits { reconnect_pause_min, reconnect_pause_max, .. } = self.limits;
        let mut attempt: u32 = 0;
        loop {
            let mut settled = false;
            let Err(ended) = self.one_connection(&mut settled).await;
            tracing::debug!(%ended, "connection to the control plane ended");
            self.shared.wishes().connection =
                ConnectionStatus { connected: false, last_error: Some(ended.to_string()) };
            attempt = if settled { 0 } else { attempt.saturating_add(1) };
            let pause = reconnect_pause_min.saturating_mul(2u32.saturating_pow(attempt.min(16)));
            sleep(spread(&self.token, attempt, pause.min(reconnect_pause_max))).await;
        }
    }

    /// One connection to its end. `settled`: it was of use, by an update or by its time; a welcome
    /// alone is not, else the proxies of a mesh would storm a control plane that ends them at once.
    async fn one_connection(&mut self, settled: &mut bool) -> Result<Infallible, Ended> {
        let patience = self.limits.keepalive;
        let io = timeout(patience, self.connect.connect())
            .await
            .map_err(|_| Ended::Silent)?
            .map_err(Ended::NoConnection)?;
        let mut connection = Connection::new(io, self.limits.frame_bytes_max);
        let hello = Hello { protocol_version: PROTOCOL_VERSION, token: self.token.clone() };
        say(&mut connection, ClientSays::Hello(hello))?;
        timeout(patience, await_welcome(&mut connection)).await.map_err(|_| Ended::Silent)??;
        let welcomed = Instant::now();
        let WireLimits { questions_max, answer_bytes_max, .. } = self.limits;
        let to = self.questions.clone();
        let mut session = Session {
            driver: self,
            questions: Questions::new(to, questions_max, answer_bytes_max),
            to_tell: VecDeque::new(),
            update: Vec::new(),
            update_bytes: 0,
            asked: BTreeMap::new(),
            last_sign_id: 0,
            acknowledged: false,
        };
        let result = session.run(&mut connection).await;
        session.ask_again();
        *settled = session.acknowledged || welcomed.elapsed() >= patience;
        result
    }
}

async fn await_welcome<IO>(connection: &mut ControlConnection<IO>) -> Result<(), Ended>
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        match connection.next().await? {
            Happened::Received(ToClient { says: Some(ServerSays::Welcome(_)) }) => return Ok(()),
            Happened::Received(ToClient { says: Some(ServerSays::Failed(failed)) }) => {
                return Err(Ended::Failed(failed.why));
            }
            _ => {}
        }
    }
}

fn say<IO>(connection: &mut ControlConnection<IO>, says: ClientSays) -> Result<(), FrameError>
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    connection.send(&ToServer { says: Some(says) })
}

/// A pause between half and all of `pause`, so that the proxies of a mesh do not come back all at
/// once.
fn spread(token: &str, attempt: u32, pause: Duration) -> Duration {
    let draw = Draw::of(token.as_bytes(), b"reconnect", u64::from(attempt));
    let thousandths = 500 + draw.0 % 501;
    pause / 1000 * u32::try_from(thousandths).unwrap_or(1000)
}

/// One connection after its welcome.
struct Session<'a, C, A> {
    driver: &'a mut Driver<C, A>,
    questions: Questions,
    /// Parts of answers that wait to be sent, each when nothing else is on its way.
    to_tell: VecDeque<Told>,
    /// What has arrived of an update that is not complete.
    update: Vec<Changed>,
    update_bytes: usize,
    /// Certificates that were asked for on this connection.
    asked: BTreeMap<u64, SignRequest>,
    last_sign_id: u64,
    /// Whether an update was acknowledged.
    acknowledged: bool,
}

impl<C, A> Session<'_, C, A>
where
    C: Connect,
    A: FnMut(Vec<Change>) -> Vec<ApplyError>,
{
    async fn run(
        &mut self,
        connection: &mut ControlConnection<C::Io>,
    ) -> Result<Infallible, Ended> {
        self.introduce(connection)?;
        self.driver.shared.wishes().connection =
            ConnectionStatus { connected: true, last_error: None };
        let shared = self.driver.shared.clone();
        let keepalive = self.driver.limits.keepalive;
        let mut silent_since = Instant::now();
        let mut pinged = false;
        loop {
            if connection.is_flushed()
                && let Some(part) = self.to_tell.pop_front()
            {
                say(connection, ClientSays::Told(part))?;
            }
            let patience = if pinged { keepalive * 2 } else { keepalive };
            tokio::select! {
                happened = connection.next() => {
                    if let Happened::Received(message) = happened? {
                        silent_since = Instant::now();
                        pinged = false;
                        self.received(connection, message)?;
                    }
                }
                parts = self.questions.answered(), if self.to_tell.is_empty() => {
                    self.to_tell.extend(parts);
                }
                () = shared.changed.notified() => self.wish(connection)?,
                () = sleep_until(silent_since + patience) => {
                    if pinged {
                        return Err(Ended::Silent);
                    }
                    pinged = true;
                    say(connection, ClientSays::Ping(Empty {}))?;
                }
            }
        }
    }

    /// Says all that is wanted and held.
    fn introduce(&mut self, connection: &mut ControlConnection<C::Io>) -> Result<(), Ended> {
        let held = &self.driver.held;
        let mut keys = Vec::new();
        {
            let mut wishes = self.driver.shared.wishes();
            wishes.dirty.clear();
            let wanted = |key: &ResourceKey, only_held| Wanted {
                key: key_bytes(key),
                held: held.get(key).map(|version| version.0),
                only_held,
            };
            keys.extend(wishes.wanted.iter().map(|key| wanted(key, false)));
            let rest = held.keys().filter(|key| !wishes.wanted.contains(*key));
            keys.extend(rest.map(|key| wanted(key, true)));
        }
        self.subscribe(connection, keys)?;
        self.ask(connection)
    }

    /// Says what is wanted anew, and no longer.
    fn wish(&mut self, connection: &mut ControlConnection<C::Io>) -> Result<(), Ended> {
        let mut more = Vec::new();
        let mut less = Vec::new();
        {
            let mut wishes = self.driver.shared.wishes();
            for key in std::mem::take(&mut wishes.dirty) {
                let message = key_bytes(&key);
                if wishes.wanted.contains(&key) {
                    // What is held is not said again: the server knows, and may just now have told
                    // us to forget it.
                    more.push(Wanted { key: message, held: None, only_held: false });
                } else {
                    less.push(message);
                }
            }
        }
        for keys in less.chunks(KEYS_PER_MESSAGE) {
            say(connection, ClientSays::Unsubscribe(Unsubscribe { keys: keys.to_vec() }))?;
        }
        self.subscribe(connection, more)?;
        self.ask(connection)
    }

    fn subscribe(
        &self,
        connection: &mut ControlConnection<C::Io>,
        keys: Vec<Wanted>,
    ) -> Result<(), Ended> {
        let mut chunks = keys.chunks(KEYS_PER_MESSAGE).peekable();
        while let Some(chunk) = chunks.next() {
            let more = chunks.peek().is_some();
            let subscribe = Subscribe { wanted: chunk.to_vec(), more };
            say(connection, ClientSays::Subscribe(subscribe))?;
        }
        Ok(())
    }

    /// Asks for the certificates that are wanted.
    fn ask(&mut self, connection: &mut ControlConnection<C::Io>) -> Result<(), Ended> {
        let requests = std::mem::take(&mut self.driver.shared.wishes().sign);
        for request in requests {
            self.last_sign_id += 1;
            let sign = Sign { id: self.last_sign_id, csr: request.csr_der.clone() };
            say(connection, ClientSays::Sign(sign))?;
            self.asked.insert(self.last_sign_id, request);
        }
        Ok(())
    }

    /// Gives back the requests that this connection left unanswered, for the next one.
    fn ask_again(&mut self) {
        let mut wishes = self.driver.shared.wishes();
        for (_, request) in std::mem::take(&mut self.asked).into_iter().rev() {
            if !request.answer.is_closed() {
                wishes.sign.push_front(request);
            }
        }
    }

    fn received(
        &mut self,
        connection: &mut ControlConnection<C::Io>,
        message: ToClient,
    ) -> Result<(), Ended> {
        match message.says {
            Some(ServerSays::Update(update)) => self.update(connection, update)?,
            Some(ServerSays::Signed(Signed { id, certificate, refused })) => {
                if let Some(request) = self.asked.remove(&id) {
                    // Whoever asked may have gone.
                    let _ = request.answer.send(certificate.ok_or(refused));
                }
            }
            Some(ServerSays::Ask(ask)) => {
                let refused = self.questions.ask(ask);
                let room = self.to_tell.len() < self.driver.limits.questions_max;
                self.to_tell.extend(refused.filter(|_| room));
            }
            Some(ServerSays::Ping(_)) => say(connection, ClientSays::Pong(Empty {}))?,
            Some(ServerSays::Failed(failed)) => return Err(Ended::Failed(failed.why)),
            // A message of a later version of the protocol is not for us.
            Some(ServerSays::Pong(_) | ServerSays::Welcome(_)) | None => {}
        }
        Ok(())
    }

    fn update(
        &mut self,
        connection: &mut ControlConnection<C::Io>,
        update: Update,
    ) -> Result<(), Ended> {
        self.update_bytes += update.encoded_len();
        let update_bytes_max = self.driver.limits.update_bytes_max;
        if self.update_bytes > update_bytes_max {
            return Err(Ended::UpdateTooLarge(update_bytes_max));
        }
        self.update.extend(update.changes);
        if update.more {
            return Ok(());
        }
        self.update_bytes = 0;
        let errors = self.apply();
        say(connection, ClientSays::Ack(Ack { nonce: update.nonce, errors }))?;
        self.acknowledged = true;
        Ok(())
    }

    /// Applies a complete update. What cannot be decoded stays as it was; where nothing was held it
    /// is known from now on that there is nothing, since nobody should wait for it.
    fn apply(&mut self) -> Vec<ResourceError> {
        let mut errors = Vec::new();
        let mut changes = Vec::new();
        for changed in std::mem::take(&mut self.update) {
            let key = match read_key(&changed.key) {
                Ok(key) => key,
                Err(error) => {
                    let why = error.to_string();
                    errors.push(ResourceError { key: changed.key, why, refused: true });
                    continue;
                }
            };
            let version = Version(changed.version);
            let body = match changed.state {
                Some(State::Is(bytes)) => match codec::decode(&bytes) {
                    Ok(resource) => Body::Is(resource),
                    Err(error) => {
                        errors.push(error_message(&key, error.to_string(), true));
                        if !self.driver.held.contains_key(&key) {
                            changes.push(Change { key, version, body: Body::Nothing });
                        }
                        continue;
                    }
                },
                Some(State::Nothing(_)) => Body::Nothing,
                Some(State::Forget(_)) => Body::Forget,
                Some(State::Refused(why)) => {
                    tracing::warn!(%key, why, "the control plane does not answer for a key");
                    Body::Nothing
                }
                None => {
                    let why = "it is in a state that this proxy does not know".to_owned();
                    errors.push(error_message(&key, why, true));
                    continue;
                }
            };
            if matches!(body, Body::Forget) {
                self.driver.held.remove(&key);
            } else {
                self.driver.held.insert(key.clone(), version);
            }
            changes.push(Change { key, version, body });
        }
        let unusable = (self.driver.apply)(changes);
        errors.extend(unusable.into_iter().map(|e| error_message(&e.key, e.why, false)));
        errors
    }
}

fn error_message(key: &ResourceKey, why: String, refused: bool) -> ResourceError {
    ResourceError { key: key_bytes(key), why, refused }
}

/// Keys of one message; with names of the longest kind still far below a frame.
pub(crate) const KEYS_PER_MESSAGE: usize = 1_000;
