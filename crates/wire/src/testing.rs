//! A mesh in memory: a source whose resources a test sets, a control plane over it that can die and
//! come back, and a proxy that holds a real view.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use ironmesh_model::bootstrap::ProxyKind;
use ironmesh_model::chunk::Chunk;
use ironmesh_model::limits::WireLimits;
use ironmesh_model::policy::Distribution;
use ironmesh_model::resource::{Applies, DefaultBackend, Destination, Join, Resolution};
use ironmesh_model::route::{Route, Rule};
use ironmesh_model::service::{Discovery, Endpoints, Protocol, Service};
use ironmesh_model::settings::Settings;
use ironmesh_model::snapshot::{Answer, Cell, Scope, Subscriber, Touched};
use ironmesh_model::view::{ApplyError, Body, Change};
use ironmesh_model::{
    ListenerKind, ObjectId, ResolutionKey, Resource, ResourceKey, ServiceId, Target, View,
    WorkloadId,
};
use tokio::io::{DuplexStream, duplex};
use tokio::task::{AbortHandle, JoinHandle};

use crate::client::Client;
use crate::messages::Certificate;
use crate::server::{Backend, Peer, Server, SessionError, Source};

/// Resources that a test made up.
#[derive(Clone, Debug, Default)]
pub(crate) struct World(pub(crate) BTreeMap<ResourceKey, Resource>);

impl Source for World {
    fn scope(&self, _: &Peer) -> (Scope, Vec<Cell>) {
        Default::default()
    }

    fn answer(&self, key: &ResourceKey, _: &Scope) -> Answer {
        let resource = match (self.0.get(key), key) {
            (Some(resource), _) => Some(resource.clone()),
            (None, ResourceKey::Resolution(_)) => {
                Some(Resource::Resolution(Resolution::Absent.into()))
            }
            (None, _) => None,
        };
        let references = resource.iter().flat_map(|r| self.references(r)).collect();
        Answer { resource, references, reads: Vec::new() }
    }
}

impl World {
    fn references(&self, resource: &Resource) -> Vec<ResourceKey> {
        let Resource::Resolution(resolution) = resource else { return Vec::new() };
        let Resolution::Present(applies) = &**resolution else { return Vec::new() };
        let services = applies.destinations.iter().filter_map(|d| d.service.clone());
        let routes = applies.routes.iter().cloned().map(ResourceKey::Route);
        routes
            .chain(services.flat_map(|id| {
                [ResourceKey::Service(id.clone()), ResourceKey::Endpoints(id, Chunk::WHOLE)]
            }))
            .collect()
    }
}

impl World {
    /// A mesh of services `NAME`, each with a route `NAME` and without endpoints.
    pub(crate) fn of(services: &[&str]) -> Self {
        let mut world = Self::default();
        world.0.insert(ResourceKey::Settings, Resource::Settings(Settings::default().into()));
        for name in services {
            world.add(name);
        }
        world
    }

    fn add(&mut self, name: &str) {
        let id = service_id(name);
        let service = Service {
            id: id.clone(),
            name: name.into(),
            addresses: Vec::new(),
            headless: false,
            ports: Vec::new(),
            discovery: Discovery::Endpoints,
            distribution: Distribution::Any,
            certificate_names: Vec::new(),
            endpoint_chunks: vec![Chunk::WHOLE],
        };
        let endpoints =
            Endpoints { service: id.clone(), chunk: Chunk::WHOLE, endpoints: Vec::new() };
        let applies = Applies {
            protocol: Protocol::Http,
            service: Some(id.clone()),
            default_backend: Some(DefaultBackend {
                host: id.hostname.clone(),
                port: 80,
                subset: None,
            }),
            routes: vec![route_id(name)],
            join: Join::InOrder,
            attached_to: vec!["mesh".into()],
            destinations: vec![Destination {
                host: id.hostname.clone(),
                service: Some(id.clone()),
                policies: Vec::new(),
                credentials: Vec::new(),
            }],
            inbound_policies: Vec::new(),
            inbound_ports: Vec::new(),
            by_server_name: Vec::new(),
            member: None,
        };
        self.0.extend([
            (host(name), Resource::Resolution(Resolution::Present(applies.into()).into())),
            (ResourceKey::Service(id.clone()), Resource::Service(service.into())),
            (ResourceKey::Endpoints(id, Chunk::WHOLE), Resource::Endpoints(endpoints.into())),
        ]);
        self.edit_route(name, "first");
    }

    /// Changes nothing but one route.
    pub(crate) fn edit_route(&mut self, name: &str, rule: &str) {
        let rules = vec![Rule { name: rule.to_owned(), ..Rule::default() }];
        let route = Route { id: route_id(name), rules, connection_rules: Vec::new() };
        self.0.insert(ResourceKey::Route(route_id(name)), Resource::Route(route.into()));
    }

    /// Drops a service and all that belongs to it.
    pub(crate) fn remove(&mut self, name: &str) {
        for key in all_of(name) {
            self.0.remove(&key);
        }
    }
}

pub(crate) fn service_id(name: &str) -> ServiceId {
    ServiceId {
        namespace: "default".into(),
        hostname: format!("{name}.default.svc.cluster.local").into(),
    }
}

pub(crate) fn route_id(name: &str) -> ObjectId {
    ObjectId::new("VirtualService", "default", name)
}

/// The key under which a proxy asks for a service.
pub(crate) fn host(name: &str) -> ResourceKey {
    ResourceKey::Resolution(ResolutionKey {
        listener: ListenerKind::Outbound,
        target: Target::Host(name.into(), 80),
        namespace: "default".into(),
    })
}

/// All that a proxy holds of a service.
pub(crate) fn all_of(name: &str) -> [ResourceKey; 4] {
    [
        host(name),
        ResourceKey::Route(route_id(name)),
        ResourceKey::Service(service_id(name)),
        ResourceKey::Endpoints(service_id(name), Chunk::WHOLE),
    ]
}

/// Where proxies connect from.
pub(crate) const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Takes the token `good`, and signs whatever is not empty.
#[derive(Debug)]
pub(crate) struct Control;

impl Backend for Control {
    type Source = World;

    async fn authenticate(&self, token: &str, _from: IpAddr) -> Result<Peer, String> {
        if token != "good" {
            return Err("the token proves nothing".to_owned());
        }
        Ok(Peer {
            workload: WorkloadId {
                cluster: "Kubernetes".into(),
                namespace: "default".into(),
                name: "productpage".into(),
                uid: "uid".into(),
            },
            identity: "spiffe://cluster.local/ns/default/sa/productpage".parse().unwrap(),
            kind: ProxyKind::Sidecar,
            subscriber: Subscriber {
                namespace: "default".into(),
                labels: [("app", "productpage")].into_iter().collect(),
                addresses: vec![FROM],
            },
        })
    }

    async fn sign(&self, peer: &Peer, csr_der: &[u8]) -> Result<Certificate, String> {
        if csr_der.is_empty() {
            return Err("there is nothing to sign".to_owned());
        }
        let chain = vec![peer.identity.to_string().into_bytes(), csr_der.to_vec()];
        Ok(Certificate { chain, anchors_pem: "anchors".to_owned(), not_after: 7 })
    }
}

/// Where control planes come and go.
#[derive(Clone, Default)]
pub(crate) struct Place(Arc<Mutex<Occupied>>);

#[derive(Default)]
struct Occupied {
    server: Option<Arc<Server<Control>>>,
    sessions: Vec<AbortHandle>,
    ended: Vec<JoinHandle<SessionError>>,
    attempts: usize,
    pipe_bytes: Option<usize>,
}

impl Place {
    /// A new control plane takes the place.
    pub(crate) fn start(&self, world: &World) -> Arc<Server<Control>> {
        self.start_with(Some(world), WireLimits::default())
    }

    pub(crate) fn start_with(
        &self,
        world: Option<&World>,
        limits: WireLimits,
    ) -> Arc<Server<Control>> {
        let server = Server::new(Control, limits);
        if let Some(world) = world {
            server.publish(Arc::new(world.clone()), &Touched::everything());
        }
        self.0.lock().unwrap().server = Some(server.clone());
        server
    }

    /// The control plane is killed: its connections end without a word.
    pub(crate) fn kill(&self) {
        let mut place = self.0.lock().unwrap();
        place.server = None;
        for session in place.sessions.drain(..) {
            session.abort();
        }
    }

    /// Ends connections, but not the control plane.
    pub(crate) fn cut(&self) {
        for session in self.0.lock().unwrap().sessions.drain(..) {
            session.abort();
        }
    }

    /// How often a proxy tried to connect.
    pub(crate) fn attempts(&self) -> usize {
        self.0.lock().unwrap().attempts
    }

    /// Makes connections of few bytes, so that everything takes many steps.
    pub(crate) fn narrow(&self, pipe_bytes: usize) {
        self.0.lock().unwrap().pipe_bytes = Some(pipe_bytes);
    }

    /// How the sessions that were not cut ended.
    pub(crate) async fn last_session_error(&self) -> SessionError {
        let last = self.0.lock().unwrap().ended.pop().unwrap();
        last.await.unwrap()
    }

    /// A stream to the control plane.
    pub(crate) fn connect(&self) -> io::Result<DuplexStream> {
        let mut place = self.0.lock().unwrap();
        place.attempts += 1;
        let server = place.server.clone().ok_or(io::ErrorKind::ConnectionRefused)?;
        let (near, far) = duplex(place.pipe_bytes.unwrap_or(64 << 10));
        let session = tokio::spawn(async move { server.serve(far, FROM).await });
        place.sessions.push(session.abort_handle());
        place.ended.push(session);
        Ok(near)
    }
}

/// A proxy with its view.
pub(crate) struct Proxy {
    pub(crate) client: Client,
    seen: Arc<Mutex<Seen>>,
    driver: JoinHandle<()>,
}

/// What a proxy was told.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) view: View,
    /// Keys of every batch, in order.
    pub(crate) batches: Vec<Vec<ResourceKey>>,
    /// A key that the proxy says it cannot use.
    pub(crate) unusable: Option<ResourceKey>,
}

impl Proxy {
    pub(crate) fn start(place: &Place) -> Self {
        Self::start_with(place, "good", WireLimits::default())
    }

    pub(crate) fn start_with(place: &Place, token: &str, limits: WireLimits) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let (of_apply, place) = (seen.clone(), place.clone());
        let apply = move |changes: Vec<Change>| of_apply.lock().unwrap().apply(changes);
        let connect = move || std::future::ready(place.connect());
        let (client, driver) =
            Client::new(limits, ProxyKind::Sidecar, token.to_owned(), connect, apply);
        Self { client, seen, driver: tokio::spawn(driver.run()) }
    }

    pub(crate) fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().unwrap())
    }

    /// Keys of all that is held.
    pub(crate) fn held(&self) -> Vec<ResourceKey> {
        self.seen(|seen| {
            let mut keys: Vec<_> = seen.view.held().map(|(key, _)| key.clone()).collect();
            keys.sort();
            keys
        })
    }

    /// Waits until something about what was seen holds.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Seen) -> bool) {
        until(what, || holds(&self.seen.lock().unwrap())).await;
    }

    /// The rule that the held route of a service has.
    pub(crate) fn rule(&self, name: &str) -> Option<String> {
        self.seen(|seen| rule_in(&seen.view, name))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Seen {
    fn apply(&mut self, changes: Vec<Change>) -> Vec<ApplyError> {
        self.batches.push(changes.iter().map(|change| change.key.clone()).collect());
        let is_told = |key: &ResourceKey| {
            changes.iter().any(|c| c.key == *key && matches!(c.body, Body::Is(_)))
        };
        let unusable = self.unusable.clone().filter(is_told);
        let (view, mut errors) = self.view.apply(changes);
        self.view = view;
        errors.extend(unusable.map(|key| ApplyError { key, why: "not to my taste".to_owned() }));
        errors
    }
}

/// The rule of a route in a view.
pub(crate) fn rule_in(view: &View, name: &str) -> Option<String> {
    match &view.get(&ResourceKey::Route(route_id(name)))?.resource {
        Some(Resource::Route(route)) => Some(route.rules[0].name.clone()),
        _ => None,
    }
}

/// Waits, in paused time, until something holds; a minute of that time is a failure.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..60_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("a minute passed and still not: {what}");
}
