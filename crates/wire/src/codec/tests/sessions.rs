//! Two sides of different versions: what one does not know of the other is an error about that
//! alone, and sessions of earlier versions are understood.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ironmesh_model::bootstrap::ProxyKind;
use ironmesh_model::limits::WireLimits;
use ironmesh_model::view::View;
use ironmesh_model::{ObjectId, Resource, ResourceKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::{examples, hex};
use crate::client::Client;
use crate::codec::{encode, key_bytes, read_key};
use crate::frame::{Connection, Happened};
use crate::messages::{
    Ack, Changed, ClientSays, Empty, Hello, PROTOCOL_VERSION, ServerSays, State, Subscribe,
    ToClient, ToServer, Unsubscribe, Update, Wanted,
};
use crate::testing::{Place, World, host, until};

/// A key of a kind of the future.
const FUTURE_KIND: &[u8] = &[0xa2, 0x06, 3, b'n', b'e', b'w'];

/// A key of today with a part of the future.
fn future_part() -> Vec<u8> {
    [&key_bytes(&host("reviews"))[..], FUTURE_KIND].concat()
}

async fn heard(raw: &mut Connection<DuplexStream, ToClient, ToServer>) -> Update {
    loop {
        let happened = raw.next().await.unwrap();
        if let Happened::Received(ToClient { says: Some(ServerSays::Update(update)) }) = happened {
            return update;
        }
    }
}

fn says(raw: &mut Connection<DuplexStream, ToClient, ToServer>, says: ClientSays) {
    raw.send(&ToServer { says: Some(says) }).unwrap();
}

fn wanted(key: impl Into<bytes::Bytes>) -> Wanted {
    Wanted { key: key.into(), held: None, only_held: false }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_asks_for_what_is_not_known_here_is_told_so_and_goes_on() {
    let place = Place::default();
    let server = place.start(&World::of(&["reviews", "ratings"]));
    let mut raw = Connection::new(place.connect().unwrap(), 4 << 20);
    let hello = Hello { protocol_version: PROTOCOL_VERSION, token: "good".to_owned() };
    says(&mut raw, ClientSays::Hello(hello));
    let keys =
        vec![wanted(FUTURE_KIND), wanted(key_bytes(&host("reviews"))), wanted(future_part())];
    says(&mut raw, ClientSays::Subscribe(Subscribe { wanted: keys, more: false }));
    let update = heard(&mut raw).await;
    let refused: Vec<&Changed> = update
        .changes
        .iter()
        .filter(|change| matches!(change.state, Some(State::Refused(_))))
        .collect();
    assert_eq!(refused.len(), 2);
    assert!(refused.iter().any(|change| change.key == FUTURE_KIND));
    assert!(refused.iter().any(|change| change.key == future_part()));
    assert_eq!(update.changes.len(), 2 + 4, "what is known is answered");
    let ack = Ack { nonce: update.nonce, errors: Vec::new() };
    says(&mut raw, ClientSays::Ack(ack));
    raw.flush().await.unwrap();
    let here = || server.proxies()[0].errors.iter().filter(|e| e.is_refused_here).count();
    until("it is in the status", || here() == 2).await;
    assert!(server.proxies()[0].errors[0].why.contains("newer"));

    let keys = vec![FUTURE_KIND.into(), future_part().into()];
    says(&mut raw, ClientSays::Unsubscribe(Unsubscribe { keys }));
    let more = Subscribe { wanted: vec![wanted(key_bytes(&host("ratings")))], more: false };
    says(&mut raw, ClientSays::Subscribe(more));
    assert_eq!(heard(&mut raw).await.changes.len(), 4, "the session goes on");
    assert_eq!(here(), 0);
}

/// A client whose control plane the test plays.
struct Alone {
    client: Client,
    view: Arc<Mutex<View>>,
    server: Connection<DuplexStream, ToServer, ToClient>,
    driver: tokio::task::JoinHandle<()>,
}

impl Alone {
    fn start() -> Self {
        let (near, far) = duplex(64 << 10);
        let mut near = Some(near);
        let missing = std::io::ErrorKind::NotFound;
        let connect = move || std::future::ready(near.take().ok_or(missing.into()));
        let view = Arc::<Mutex<View>>::default();
        let of_apply = view.clone();
        let apply = move |changes| {
            let mut view = of_apply.lock().unwrap();
            let (next, errors) = view.apply(changes);
            *view = next;
            errors
        };
        let limits = WireLimits::default();
        let (client, driver) =
            Client::new(limits, ProxyKind::Sidecar, "good".to_owned(), connect, apply);
        let driver = tokio::spawn(driver.run());
        Self { client, view, server: Connection::new(far, 4 << 20), driver }
    }

    fn says(&mut self, says: ServerSays) {
        self.server.send(&ToClient { says: Some(says) }).unwrap();
    }

    async fn ack(&mut self) -> Ack {
        loop {
            let happened = self.server.next().await.unwrap();
            if let Happened::Received(ToServer { says: Some(ClientSays::Ack(ack)) }) = happened {
                return ack;
            }
        }
    }

    fn holds(&self, key: &ResourceKey) -> bool {
        self.view.lock().unwrap().get(key).is_some_and(|held| held.resource.is_some())
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_does_not_know_a_kind_or_field_says_so_and_takes_the_rest() {
    let mut alone = Alone::start();
    alone.client.subscribe([ResourceKey::Settings]);
    alone.says(ServerSays::Welcome(Empty {}));
    let settings = encode(&Resource::Settings(Arc::default()));
    // Within the settings, as their field 100; the length in front of them grows with it.
    let mut with_field = settings.to_vec();
    with_field[1] += u8::try_from(FUTURE_KIND.len()).unwrap();
    with_field.extend(FUTURE_KIND);
    let changed = |key: bytes::Bytes, body: &[u8]| Changed {
        key,
        version: 1,
        state: Some(State::Is(body.to_vec().into())),
    };
    let changes = vec![
        changed(FUTURE_KIND.into(), &settings),
        changed(key_bytes(&ResourceKey::Listeners), &with_field),
        changed(key_bytes(&host("a")), FUTURE_KIND),
        changed(key_bytes(&ResourceKey::Settings), &settings),
    ];
    alone.says(ServerSays::Update(Update { nonce: 1, changes, more: false }));
    let errors = alone.ack().await.errors;
    let keys: Vec<&[u8]> = errors.iter().map(|error| &error.key[..]).collect();
    let (listeners, a) = (key_bytes(&ResourceKey::Listeners), key_bytes(&host("a")));
    assert_eq!(keys, [FUTURE_KIND, &listeners, &a]);
    assert!(errors.iter().all(|error| error.refused && error.why.contains("does not know")));
    assert!(alone.holds(&ResourceKey::Settings));
    let changes = vec![changed(key_bytes(&host("b")), &encode(&examples::resources()[5].1))];
    alone.says(ServerSays::Update(Update { nonce: 2, changes, more: false }));
    assert_eq!(alone.ack().await.errors, [], "the session goes on");
    assert!(alone.holds(&host("b")));

    // And the other way round: what it asks for is not known there.
    let state = Some(State::Refused("too new".to_owned()));
    let changes = vec![Changed { key: key_bytes(&host("b")), version: 0, state }];
    alone.says(ServerSays::Update(Update { nonce: 3, changes, more: false }));
    assert_eq!(alone.ack().await.errors, []);
    assert!(!alone.holds(&host("b")), "nobody waits for it");
}

/// A mesh of one resource of every kind.
fn world() -> World {
    let mut world = World::of(&["reviews"]);
    for (name, resource) in examples::resources() {
        let id = |kind: &str| ObjectId::new(kind, "default", name);
        let key = match &resource {
            Resource::Settings(_) => ResourceKey::Settings,
            Resource::Listeners(_) => ResourceKey::Listeners,
            Resource::Resolution(_) => host(name),
            Resource::Route(_) => ResourceKey::Route(id("VirtualService")),
            Resource::Service(body) => ResourceKey::Service(body.id.clone()),
            Resource::Policy(_) => ResourceKey::Policy(id("DestinationRule")),
            Resource::Workload(_) => ResourceKey::Workload([10, 77, 0, 7].into()),
            Resource::Endpoints(body) => ResourceKey::Endpoints(body.service.clone(), body.chunk),
            Resource::Domains(body) => ResourceKey::Domains(body.port, body.chunk),
        };
        world.0.insert(key, resource);
    }
    world
}

fn sessions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/sessions")
}

type Kept = Arc<Mutex<Vec<u8>>>;

/// Passes bytes on, and keeps them.
async fn copy(
    mut from: tokio::io::ReadHalf<DuplexStream>,
    mut to: tokio::io::WriteHalf<DuplexStream>,
    kept: Kept,
) {
    let mut chunk = [0; 4096];
    while let Ok(bytes @ 1..) = from.read(&mut chunk).await {
        kept.lock().unwrap().extend(&chunk[..bytes]);
        if to.write_all(&chunk[..bytes]).await.is_err() {
            return;
        }
    }
}

/// The frames of a stream, without their lengths.
fn frames(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (frame, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        frames.push(frame.to_vec());
        bytes = rest;
    }
    frames
}

/// Writes down a session of this build: a proxy that asks for a resource of every kind, learns of a
/// change, gives something up and wants a certificate.
async fn record() -> String {
    let place = Place::default();
    let server = place.start(&world());
    let (kept_of_proxy, kept_of_control) = (Kept::default(), Kept::default());
    let (of_proxy, of_control) = (kept_of_proxy.clone(), kept_of_control.clone());
    let connect = move || {
        let (near, tapped) = duplex(64 << 10);
        let (from_proxy, to_proxy) = tokio::io::split(tapped);
        let (from_control, to_control) = tokio::io::split(place.connect().unwrap());
        tokio::spawn(copy(from_proxy, to_control, of_proxy.clone()));
        tokio::spawn(copy(from_control, to_proxy, of_control.clone()));
        std::future::ready(Ok(near))
    };
    let apply = |_| Vec::new();
    let (client, driver) =
        Client::new(WireLimits::default(), ProxyKind::Sidecar, "good".to_owned(), connect, apply);
    let driver = tokio::spawn(driver.run());
    client.subscribe(world().0.into_keys());
    let resources = world().0.len();
    let synced = || server.proxies().first().is_some_and(|proxy| proxy.synced);
    until("all is held", || synced() && server.proxies()[0].resources >= resources).await;
    client.unsubscribe([ResourceKey::Listeners]);
    until("one is given up", || synced() && server.proxies()[0].resources < resources).await;
    client.sign(b"csr".to_vec()).await.unwrap();
    driver.abort();
    let mut text = String::new();
    for (mark, kept) in [('>', kept_of_proxy), ('<', kept_of_control)] {
        for frame in frames(&kept.lock().unwrap()) {
            let _ = writeln!(text, "{mark} {}", hex(&frame));
        }
    }
    text
}

/// The frames of one direction of a recorded session, as they went over the wire.
fn recorded(text: &str, mark: char) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in text.lines() {
        let Some(digits) = line.strip_prefix(mark) else { continue };
        let digits = digits.trim();
        let frame = (0..digits.len() / 2)
            .map(|at| u8::from_str_radix(&digits[at * 2..at * 2 + 2], 16).unwrap());
        let frame: Vec<u8> = frame.collect();
        bytes.extend(u32::try_from(frame.len()).unwrap().to_be_bytes());
        bytes.extend(frame);
    }
    bytes
}

/// What proxies and control planes of earlier builds say is understood. `golden/sessions` has a
/// session of every version; `UPDATE=1` writes that of this one if there is none. Those of versions
/// that were released stay as they are.
#[tokio::test(start_paused = true)]
async fn sessions_of_earlier_versions_are_understood() {
    let own = sessions().join(format!("{}.txt", env!("CARGO_PKG_VERSION")));
    if std::env::var_os("UPDATE").is_some() && !own.exists() {
        fs::create_dir_all(sessions()).unwrap();
        fs::write(&own, record().await).unwrap();
    }
    assert!(own.exists(), "{} is missing (UPDATE=1 writes it)", own.display());
    for entry in fs::read_dir(sessions()).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let told = taken_by_a_proxy(&text).await;
        assert!(told > 10, "{}: a resource of every kind", path.display());
        taken_by_a_control_plane(&text, told).await;
    }
}

/// A proxy of today hears what a control plane of then said. Returns how many resources it held.
async fn taken_by_a_proxy(text: &str) -> usize {
    let mut alone = Alone::start();
    let mut held = 0;
    for frame in frames(&recorded(text, '<')) {
        let message: ToClient = prost::Message::decode(&*frame).unwrap();
        let is_update = matches!(&message.says, Some(ServerSays::Update(update)) if !update.more);
        alone.server.send(&message).unwrap();
        if is_update {
            assert_eq!(alone.ack().await.errors, []);
        }
        let view = alone.view.lock().unwrap();
        held = held.max(view.held().filter(|(_, held)| held.resource.is_some()).count());
    }
    assert!(!alone.holds(&ResourceKey::Listeners), "it was given up");
    held
}

/// A control plane of today hears what a proxy of then said.
async fn taken_by_a_control_plane(text: &str, told: usize) {
    let place = Place::default();
    place.start(&world());
    let (mut from_control, mut to_control) = tokio::io::split(place.connect().unwrap());
    to_control.write_all(&recorded(text, '>')).await.unwrap();
    let mut bytes = Vec::new();
    let (mut answered, mut signed) = (0, false);
    while !signed {
        assert_ne!(from_control.read_buf(&mut bytes).await.unwrap(), 0, "the session ended");
        let whole = whole_frames(&bytes);
        for frame in frames(&bytes.drain(..whole).collect::<Vec<u8>>()) {
            let message: ToClient = prost::Message::decode(&*frame).unwrap();
            match message.says {
                Some(ServerSays::Update(update)) => {
                    let known = |change: &&Changed| matches!(change.state, Some(State::Is(_)));
                    answered += update.changes.iter().filter(known).count();
                    assert!(update.changes.iter().all(|change| read_key(&change.key).is_ok()));
                }
                Some(ServerSays::Signed(answer)) => signed = answer.certificate.is_some(),
                Some(ServerSays::Failed(failed)) => panic!("{}", failed.why),
                _ => {}
            }
        }
    }
    // All but the one that it gave up by its next words.
    assert!(answered + 1 >= told, "{answered} of {told}");
}

/// How many bytes of these are whole frames.
fn whole_frames(bytes: &[u8]) -> usize {
    let mut whole = 0;
    while let Some((length, rest)) = bytes[whole..].split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        if rest.len() < length {
            break;
        }
        whole += 4 + length;
    }
    whole
}
