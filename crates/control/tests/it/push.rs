//! What proxies are told, over the wire.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use ironmesh_control::api::ProxyItem;
use ironmesh_control::source::ObjectKey;
use ironmesh_identity::channel::ControlClient;
use ironmesh_identity::{Claims, Clock as _, KeyPair, SystemClock, TokenKey};
use ironmesh_model::bootstrap::ProxyKind;
use ironmesh_model::limits::WireLimits;
use ironmesh_model::policy::MtlsMode;
use ironmesh_model::view::Change;
use ironmesh_model::{ListenerKind, ResolutionKey, ResourceKey, Target, View};
use ironmesh_wire::codec::key_bytes;
use ironmesh_wire::frame::{Connection, Happened};
use ironmesh_wire::messages::{
    ClientSays, Empty, Hello, PROTOCOL_VERSION, ServerSays, State, Subscribe, ToClient, ToServer,
    Told, Wanted,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::world::{TOKEN_KEY, World, eventually, pod, service};

/// A proxy that only listens to the control plane.
pub(crate) struct ToyProxy {
    pub(crate) client: ironmesh_wire::Client,
    view: Arc<Mutex<View>>,
    pub(crate) pushed: Arc<Mutex<Vec<ResourceKey>>>,
}

impl ToyProxy {
    /// The proxy of a pod.
    pub(crate) fn connect(world: &World, pod: &Value) -> Self {
        let (token, tls, address) = (token(pod), tls(world), world.push_address());
        let connect = move || {
            let tls = tls.clone();
            async move { tls.connect(TcpStream::connect(address).await?).await }
        };
        let view = Arc::new(Mutex::new(View::default()));
        let pushed = Arc::new(Mutex::new(Vec::new()));
        let apply = {
            let (view, pushed) = (view.clone(), pushed.clone());
            move |changes: Vec<Change>| {
                pushed.lock().unwrap().extend(changes.iter().map(|change| change.key.clone()));
                let mut view = view.lock().unwrap();
                let (next, errors) = view.apply(changes);
                *view = next;
                errors
            }
        };
        let (client, driver) = ironmesh_wire::Client::new(
            WireLimits::default(),
            ProxyKind::Sidecar,
            token,
            connect,
            apply,
        );
        tokio::task::spawn_local(driver.run());
        Self { client, view, pushed }
    }

    /// Endpoints that the proxy holds for a service, ready ones only.
    pub(crate) fn ready(&self, key: &ResolutionKey) -> Option<usize> {
        let Target::Host(host, port) = &key.target else { return None };
        let view = self.view.lock().unwrap();
        let linked = view.at_host(key.listener, host, *port, &key.namespace)?;
        let backend = linked.applies.as_ref()?.default_backend.as_ref()?;
        Some(backend.group.as_ref().ok()?.members().ready.len())
    }
}

/// The token of a pod's proxy.
fn token(pod: &Value) -> String {
    let text = |pointer: &str| pod.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    TokenKey::from_hex(TOKEN_KEY).unwrap().sign(&Claims {
        namespace: text("/metadata/namespace").into(),
        service_account: text("/spec/serviceAccountName").into(),
        pod: text("/metadata/name").into(),
        uid: text("/metadata/uid").into(),
        // Where its connections come from.
        ip: [127, 0, 0, 1].into(),
        kind: ProxyKind::Sidecar,
    })
}

pub(crate) fn host(name: &str, port: u16) -> ResolutionKey {
    ResolutionKey {
        listener: ListenerKind::Outbound,
        target: Target::Host(name.into(), port),
        namespace: "default".into(),
    }
}

/// TLS by which the control plane is known.
fn tls(world: &World) -> ControlClient {
    let anchors = std::fs::read_to_string(world.state().join("anchors.pem")).unwrap();
    ControlClient::new(&anchors, Arc::new(SystemClock)).unwrap()
}

/// Runs what is not `Send`, as proxies are, on one thread.
pub(crate) async fn on_one_thread<T>(work: impl Future<Output = T>) -> T {
    tokio::task::LocalSet::new().run_until(work).await
}

/// What the control plane says of the proxy of a pod, once that has all there is for it.
pub(crate) async fn synced(world: &World, pod: &Value) -> ProxyItem {
    eventually(|| {
        let mut proxies = world.plane.proxies().into_iter();
        proxies.find(|p| pod["metadata"]["name"] == *p.name).filter(|own| own.synced)
    })
    .await
}

#[tokio::test]
async fn a_running_pod_that_is_relabelled_is_another_for_selectors() {
    on_one_thread(async {
        let world = World::start();
        let pod = world.put(pod("reviews", "v1", "10.77.0.2"));
        let strict = json!({
            "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": {"name": "payments"},
            "spec": {"selector": {"matchLabels": {"role": "payments"}}, "mtls": {"mode": "STRICT"}},
        });
        world.put(strict);
        let proxy = ToyProxy::connect(&world, &pod);
        let address =
            SocketAddr::new(pod["status"]["podIP"].as_str().unwrap().parse().unwrap(), 9080);
        let key = ResolutionKey::of_address(ListenerKind::Inbound, address, &"default".into());
        proxy.client.subscribe([ResourceKey::Resolution(key)]);
        let mode = || {
            let view = proxy.view.lock().unwrap();
            let linked = view.at_address(ListenerKind::Inbound, address, "default")?;
            Some(view.inbound_mode(linked.applies.as_ref()?, address.port()))
        };
        eventually(|| (mode() == Some(MtlsMode::Permissive)).then_some(())).await;
        let mut relabelled = pod.clone();
        relabelled["metadata"]["labels"]["role"] = "payments".into();
        world.put(relabelled);
        eventually(|| (mode() == Some(MtlsMode::Strict)).then_some(())).await;
    })
    .await;
}

#[tokio::test]
async fn a_proxy_gets_what_it_asks_for_and_only_what_of_it_changes() {
    on_one_thread(async {
        let mut world = World::start();
        world.put(service("reviews", "10.96.0.4"));
        world.put(service("ratings", "10.96.0.5"));
        let pod = world.put(pod("reviews", "v1", "10.77.0.2"));
        let proxy = ToyProxy::connect(&world, &pod);
        let key = host("reviews", 9080);
        proxy.client.subscribe([ResourceKey::Settings, ResourceKey::Resolution(key.clone())]);
        eventually(|| (proxy.ready(&key) == Some(1)).then_some(())).await;
        let held: Vec<String> =
            proxy.view.lock().unwrap().held().map(|(k, _)| k.to_string()).collect();
        assert!(!held.iter().any(|key| key.contains("ratings")), "{held:?}");
        synced(&world, &pod).await;

        // What it does not hold moves nothing; a change to what it holds arrives, alone.
        proxy.pushed.lock().unwrap().clear();
        let mut other = service("ratings", "10.96.0.5");
        other["spec"]["ports"][0]["port"] = 9081.into();
        world.put(other);
        world.put(self::pod("reviews", "v2", "10.77.0.3"));
        eventually(|| (proxy.ready(&key) == Some(2)).then_some(())).await;
        let mut kinds: Vec<_> =
            proxy.pushed.lock().unwrap().iter().map(ResourceKey::kind).collect();
        kinds.dedup();
        assert_eq!(kinds, ["endpoints"]);

        // A certificate with the identity of the service account.
        let keys = KeyPair::generate().unwrap();
        let certificate = proxy.client.sign(keys.csr().unwrap()).await.unwrap();
        let chain: Vec<_> = certificate.chain.into_iter().map(Into::into).collect();
        let identity = ironmesh_identity::peer_identity(&chain, SystemClock.now()).unwrap();
        assert_eq!(identity.to_string(), "spiffe://cluster.local/ns/default/sa/default");

        // A restart pushes nothing to a proxy of which nothing changed.
        proxy.pushed.lock().unwrap().clear();
        world.restart();
        synced(&world, &pod).await;
        assert_eq!(*proxy.pushed.lock().unwrap(), []);
        assert_eq!(synced(&world, &pod).await.bytes_pushed, 0);
    })
    .await;
}

/// A proxy of a later version asks for a kind of resource that this control plane does not know.
#[tokio::test]
async fn a_proxy_that_asks_for_what_is_not_known_is_served_all_else_and_shown() {
    on_one_thread(async {
        let world = World::start();
        let pod = world.put(pod("web", "v1", "10.77.0.2"));
        let stream = TcpStream::connect(world.push_address()).await.unwrap();
        let stream = tls(&world).connect(stream).await.unwrap();
        let mut connection = Connection::<_, ToClient, ToServer>::new(stream, 4 << 20);
        let hello = Hello { protocol_version: PROTOCOL_VERSION, token: token(&pod) };
        let wanted = |key| Wanted { key, held: None, only_held: false };
        // Field 100 of a key: what no build of today knows.
        let wanted = vec![
            wanted(vec![0xa2, 0x06, 3, b'n', b'e', b'w'].into()),
            wanted(key_bytes(&ResourceKey::Settings)),
        ];
        let subscribe = Subscribe { wanted, more: false };
        for says in [ClientSays::Hello(hello), ClientSays::Subscribe(subscribe)] {
            connection.send(&ToServer { says: Some(says) }).unwrap();
        }
        let update = loop {
            let happened = connection.next().await.unwrap();
            if let Happened::Received(ToClient { says: Some(ServerSays::Update(update)) }) =
                happened
            {
                break update;
            }
        };
        let states: Vec<_> = update.changes.iter().filter_map(|c| c.state.as_ref()).collect();
        assert!(states.iter().any(|state| matches!(state, State::Refused(_))));
        assert!(states.iter().any(|state| matches!(state, State::Is(_))), "the settings");
        let shown = eventually(|| world.plane.proxies().pop()?.errors.into_iter().next()).await;
        assert!(shown.by_control_plane, "{shown:?}");
    })
    .await;
}

#[tokio::test]
async fn settings_change_for_connected_proxies_and_for_the_next_certificate() {
    on_one_thread(async {
        let world = World::start();
        let pod = world.put(pod("web", "v1", "10.77.0.2"));
        let proxy = ToyProxy::connect(&world, &pod);
        proxy.client.subscribe([ResourceKey::Settings]);
        let mode = || Some(proxy.view.lock().unwrap().settings().mtls_mode);
        eventually(|| (mode() == Some(MtlsMode::Permissive)).then_some(())).await;
        let config = |namespace: &str, mesh: &str| {
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "istio", "namespace": namespace}, "data": {"mesh": mesh},
            })
        };
        // Nobody but the root namespace sets anything.
        world.put(config("default", "mtlsMode: DISABLE"));
        world.put(config("istio-system", "{mtlsMode: STRICT, certificateTtl: 1m, trustDomain: x}"));
        eventually(|| (mode() == Some(MtlsMode::Strict)).then_some(())).await;
        let keys = KeyPair::generate().unwrap();
        let signed = proxy.client.sign(keys.csr().unwrap()).await.unwrap();
        let left = signed.not_after - SystemClock.now().unix_seconds();
        assert!((1..=60).contains(&left), "{left} s");
        let found = world.plane.findings(Some("istio-system"), None, None).await.unwrap();
        let codes: Vec<_> = found.iter().map(|item| item.finding.code.to_string()).collect();
        assert_eq!(codes, ["IM0119"]);
        let key = ObjectKey {
            group: "".into(),
            kind: "ConfigMap".into(),
            namespace: "istio-system".into(),
            name: "istio".into(),
        };
        world.source.remove(&key);
        eventually(|| (mode() == Some(MtlsMode::Permissive)).then_some(())).await;
    })
    .await;
}

/// What a proxy says of its endpoints is its own affair: whatever it is, the questions are answered.
#[tokio::test]
async fn a_proxy_that_tells_nothing_or_nonsense_is_not_known_and_holds_nobody_up() {
    on_one_thread(async {
        let world = World::start();
        let pod = world.put(pod("web", "v1", "10.77.0.2"));
        world.put(service("web", "10.96.0.4"));
        let name = pod["metadata"]["name"].as_str().unwrap();
        let why_not_known = async || {
            let told = world.plane.endpoints("default", name).await.unwrap().not_known.unwrap();
            let asked = json!({"from": name, "method": "GET", "url": "http://web:9080/"});
            let explained = world.explain(asked).await.unwrap();
            let hop = &explained.hops[0];
            assert_eq!(hop.endpoints_not_known.as_ref(), Some(&told));
            assert!(hop.backends[0].endpoints[0].may_be_picked, "{hop:?}");
            told
        };
        let told = why_not_known().await;
        assert!(told.contains("is not connected"), "{told}");

        let stream = TcpStream::connect(world.push_address()).await.unwrap();
        let stream = tls(&world).connect(stream).await.unwrap();
        let mut connection = Connection::<_, ToClient, ToServer>::new(stream, 4 << 20);
        let hello = Hello { protocol_version: PROTOCOL_VERSION, token: token(&pod) };
        connection.send(&ToServer { says: Some(ClientSays::Hello(hello)) }).unwrap();
        let answers = Arc::new(AtomicBool::new(true));
        let answering = answers.clone();
        tokio::task::spawn_local(async move {
            loop {
                let happened = connection.next().await.unwrap();
                let says = match happened {
                    Happened::Received(ToClient { says: Some(ServerSays::Ask(ask)) })
                        if answering.load(Ordering::Relaxed) =>
                    {
                        let groups = vec![(&b"\xffnonsense"[..]).into()];
                        ClientSays::Told(Told { id: ask.id, groups, ..Told::default() })
                    }
                    Happened::Received(ToClient { says: Some(ServerSays::Ping(_)) }) => {
                        ClientSays::Pong(Empty {})
                    }
                    _ => continue,
                };
                connection.send(&ToServer { says: Some(says) }).unwrap();
            }
        });
        eventually(|| world.plane.proxies().iter().any(|p| p.connected).then_some(())).await;
        let told = why_not_known().await;
        assert!(told.contains("cannot be read"), "{told}");
        answers.store(false, Ordering::Relaxed);
        let told = why_not_known().await;
        assert!(told.contains("has not answered within question_wait"), "{told}");
    })
    .await;
}

#[tokio::test]
async fn a_token_that_is_forged_or_of_a_pod_that_is_gone_is_refused() {
    on_one_thread(async {
        let world = World::start();
        let tls = tls(&world);
        let address = world.push_address();
        let pod = world.put(pod("web", "v1", "10.77.0.2"));
        let name = pod["metadata"]["name"].as_str().unwrap();
        let claims = Claims {
            namespace: "default".into(),
            service_account: "default".into(),
            pod: name.into(),
            uid: pod["metadata"]["uid"].as_str().unwrap().into(),
            ip: [127, 0, 0, 1].into(),
            kind: ProxyKind::Sidecar,
        };
        let sign = |claims| TokenKey::from_hex(TOKEN_KEY).unwrap().sign(&claims);
        let earlier = Claims { uid: "that-of-an-earlier-pod".into(), ..claims.clone() };
        let account = Claims { service_account: "another".into(), ..claims.clone() };
        let stolen = Claims { ip: [10, 77, 0, 9].into(), ..claims };
        for (token, said) in [
            ("forged.token".to_owned(), "token"),
            (sign(earlier), "any more"),
            (sign(account), "has the service account"),
            (sign(stolen), "is used from 127.0.0.1"),
        ] {
            let tls = tls.clone();
            let connect = move || {
                let tls = tls.clone();
                async move { tls.connect(TcpStream::connect(address).await?).await }
            };
            let (client, driver) = ironmesh_wire::Client::new(
                WireLimits::default(),
                ProxyKind::Sidecar,
                token,
                connect,
                |_| Vec::new(),
            );
            client.subscribe([ResourceKey::Settings]);
            tokio::task::spawn_local(driver.run());
            let why = eventually(|| client.connection().last_error).await;
            assert!(why.contains(said), "{why}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_that_outlives_its_pod_gets_no_certificate_any_more() {
    on_one_thread(async {
        let world = World::start();
        let pod = world.put(pod("web", "v1", "10.77.0.2"));
        let proxy = ToyProxy::connect(&world, &pod);
        let keys = KeyPair::generate().unwrap();
        proxy.client.sign(keys.csr().unwrap()).await.unwrap();
        let name = pod["metadata"]["name"].as_str().unwrap();
        world.source.remove(&ObjectKey::pod("default", name));
        let refused = proxy.client.sign(keys.csr().unwrap()).await.unwrap_err().to_string();
        assert!(refused.contains("is not there any more"), "{refused}");
    })
    .await;
}
