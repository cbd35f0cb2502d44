//! What a change costs, counted: over a real snapshot, from the edit to what a proxy is sent. And what
//! a proxy may ask for.

use std::net::IpAddr;

use ironmesh_model::listeners::GatewayProtocol;
use ironmesh_model::policy::{
    DestinationPolicy, Distribution, InboundPolicy, MtlsMode, Subset, TrafficPolicy,
};
use ironmesh_model::route::{self, Action, Match, Route, Rule};
use ironmesh_model::service::{
    Discovery, Endpoint, EndpointAddress, PortMap, Protocol, Service, ServicePort, UpstreamTls,
    Workload,
};
use ironmesh_model::snapshot::{
    DestinationPolicySource, Edit, GatewayServer, GatewaySource, InboundFields,
    InboundPolicySource, Objects, Reach, RouteFields, RouteSource, ServiceSource,
};
use ironmesh_model::text_match::TextMatch;
use ironmesh_model::{
    Labels, ListenerKind, ObjectId, ResolutionKey, Resource, ServiceId, Snapshot, Target, View,
};
use tokio::task::JoinHandle;

use super::*;
use crate::client::Client;

/// Knows each proxy by its token: `KIND NAMESPACE NAME`.
struct Mesh;

impl Backend for Mesh {
    type Source = Snapshot;

    async fn authenticate(&self, token: &str, _from: std::net::IpAddr) -> Result<Peer, String> {
        let [kind, namespace, name] = token.split(' ').collect::<Vec<_>>()[..] else {
            return Err("no token".to_owned());
        };
        let workload = workload(namespace, name);
        Ok(Peer {
            workload: workload.id,
            identity: workload.identity,
            kind: if kind == "gateway" { ProxyKind::Gateway } else { ProxyKind::Sidecar },
            subscriber: Subscriber {
                namespace: namespace.into(),
                labels: workload.labels,
                addresses: address_of(name).into_iter().collect(),
            },
        })
    }

    async fn sign(&self, _: &Peer, _: &[u8]) -> Result<Certificate, String> {
        Err("not here".to_owned())
    }
}

/// A control plane over a snapshot, and the proxies that are connected to it.
struct Place {
    server: Arc<Server<Mesh>>,
    snapshot: Snapshot,
    tasks: Vec<JoinHandle<()>>,
}

/// A proxy's client and view.
struct Held {
    client: Client,
    view: Arc<Mutex<View>>,
}

impl Place {
    fn start(objects: Objects) -> Self {
        let (snapshot, _) = Snapshot::new(objects);
        let server = Server::new(Mesh, WireLimits::default());
        server.publish(Arc::new(snapshot.clone()), &Touched::everything());
        Self { server, snapshot, tasks: Vec::new() }
    }

    /// A proxy that holds these keys.
    async fn proxy(&mut self, token: &str, keys: &[ResourceKey]) -> Held {
        let view = Arc::new(Mutex::new(View::default()));
        let (of_apply, server) = (view.clone(), self.server.clone());
        let apply = move |changes| {
            let mut view = of_apply.lock().unwrap();
            let (next, errors) = view.apply(changes);
            *view = next;
            errors
        };
        let connect = move || {
            let (near, far) = tokio::io::duplex(64 << 10);
            let server = server.clone();
            tokio::spawn(async move { server.serve(far, crate::testing::FROM).await });
            std::future::ready(Ok(near))
        };
        let limits = WireLimits::default();
        let (client, driver) =
            Client::new(limits, ProxyKind::Sidecar, token.to_owned(), connect, apply);
        client.subscribe(keys.iter().cloned());
        self.tasks.push(tokio::spawn(driver.run()));
        let held = Held { client, view };
        until("all is answered", || keys.iter().all(|key| held.has(key))).await;
        self.settle().await;
        held
    }

    async fn settle(&self) {
        until("all are in sync", || self.server.proxies().iter().all(|proxy| proxy.synced)).await;
    }

    /// Publishes edits. Returns what they cost: queries, encodings, keys sent.
    async fn edit(&mut self, edits: impl IntoIterator<Item = Edit>) -> (u64, u64, u64) {
        let before = self.server.work();
        let (next, touched) = self.snapshot.edited(edits);
        self.snapshot = next;
        self.server.publish(Arc::new(self.snapshot.clone()), &touched);
        self.settle().await;
        let after = self.server.work();
        (
            after.queries - before.queries,
            after.encodings - before.encodings,
            after.keys - before.keys,
        )
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Held {
    fn has(&self, key: &ResourceKey) -> bool {
        self.view.lock().unwrap().get(key).is_some()
    }

    /// What it holds under a key; `None` if it was told that there is nothing.
    fn resource(&self, key: &ResourceKey) -> Option<Resource> {
        self.view.lock().unwrap().get(key)?.resource.clone()
    }

    fn kinds(&self) -> Vec<&'static str> {
        let view = self.view.lock().unwrap();
        let mut kinds: Vec<_> = view.held().map(|(key, _)| key.kind()).collect();
        kinds.sort_unstable();
        kinds
    }
}

fn fqdn(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}.svc.cluster.local")
}

fn workload(namespace: &str, name: &str) -> Workload {
    let identity: Identity =
        format!("spiffe://cluster.local/ns/{namespace}/sa/{name}").parse().unwrap();
    Workload {
        id: WorkloadId {
            cluster: "Kubernetes".into(),
            namespace: namespace.into(),
            name: name.into(),
            uid: name.into(),
        },
        owner: name.into(),
        labels: [("app", name)].into_iter().collect(),
        meshed: true,
        tls: UpstreamTls::Mesh(identity.clone()),
        tls_at: Vec::new(),
        identity,
        locality: "".into(),
        network: "".into(),
        node: "".into(),
    }
}

/// The address of `sN-0`, the endpoint of the service `sN`.
fn address_of(name: &str) -> Option<IpAddr> {
    let n: u16 = name.strip_prefix('s')?.strip_suffix("-0")?.parse().ok()?;
    let [high, low] = n.to_be_bytes();
    Some(IpAddr::from([10, 77, high, low]))
}

fn inbound(ip: [u8; 4]) -> ResourceKey {
    let target = Target::Address(ip.into(), ironmesh_model::resource::EVERY_PORT);
    resolved(ListenerKind::Inbound, target, "default")
}

fn endpoint(service: &str, uid: &str, ip: [u8; 4]) -> Endpoint {
    let workload = workload("default", uid);
    Endpoint {
        id: uid.into(),
        address: EndpointAddress::Ip(ip.into()),
        ports: vec![PortMap { service: 80, target: 8080 }],
        labels: [("app", service), ("version", "v1")].into_iter().collect(),
        workload: workload.id,
        owner: service.into(),
        tls: workload.tls,
        tls_at: Vec::new(),
        ready: true,
        weight: 1,
        network: "".into(),
        cluster: "Kubernetes".into(),
        locality: "".into(),
        node: "".into(),
    }
}

fn service(n: u16) -> ServiceSource {
    let name = format!("s{n}");
    let [high, low] = n.to_be_bytes();
    ServiceSource {
        service: Service {
            id: ServiceId { namespace: "default".into(), hostname: fqdn(&name, "default").into() },
            name: name.as_str().into(),
            addresses: vec![IpAddr::from([10, 96, high, low])],
            headless: false,
            ports: vec![ServicePort { number: 80, name: "http".into(), protocol: Protocol::Http }],
            discovery: Discovery::Endpoints,
            distribution: Distribution::Any,
            certificate_names: Vec::new(),
            endpoint_chunks: Vec::new(),
        },
        endpoints: vec![endpoint(&name, &format!("{name}-0"), [10, 77, high, low])],
        reach: Reach::default(),
    }
}

fn route(name: &str, hosts: &[&str], gateways: &[&str], weight: u32) -> RouteSource {
    let to = |subset: &str, weight| route::Backend {
        subset: Some(subset.into()),
        weight,
        ..route::Backend::to(fqdn(&name.replace("web", "s"), "default"), Some(80))
    };
    let path = Some(TextMatch::Prefix("/".into()));
    let rule = Rule {
        matches: vec![Match { path, ..Match::default() }],
        action: Action::Forward(vec![to("v1", weight), to("v2", 100 - weight)]),
        ..Rule::default()
    };
    RouteSource {
        route: Route {
            id: ObjectId::new("VirtualService", "default", name),
            rules: vec![rule],
            connection_rules: Vec::new(),
        },
        hosts: hosts.iter().map(|host| Name::from(*host)).collect(),
        gateways: gateways.iter().map(|name| Name::from(*name)).collect(),
        export_to: Vec::new(),
        created: 0,
        precedence: None,
        found: Vec::new(),
        delegations: Vec::new(),
        fields: RouteFields::VIRTUAL_SERVICE,
    }
}

fn edit_of_route(source: RouteSource) -> Edit {
    Edit::Route(source.route.id.clone(), Some(source.into()))
}

/// What a policy of a namespace says of all its workloads, or of those that are selected.
fn edit_of_policy(namespace: &str, selectors: Option<Vec<Labels>>) -> Edit {
    let id = ObjectId::new("PeerAuthentication", namespace, "p");
    let policy = InboundPolicy { id: id.clone(), mtls: Some(MtlsMode::Strict), parts: Vec::new() };
    let fields = InboundFields { selector: "spec.selector", ports: None };
    let found = Vec::new();
    let source =
        InboundPolicySource { policy, selectors, only_oldest: true, found, fields, created: 0 };
    Edit::InboundPolicy(id, Some(source.into()))
}

fn policy(n: u16, versions: &[&str]) -> DestinationPolicySource {
    let subset = |version: &&str| Subset {
        name: Name::from(*version),
        labels: [("version", *version)].into_iter().collect(),
        traffic: TrafficPolicy::default(),
    };
    DestinationPolicySource {
        policy: DestinationPolicy {
            id: ObjectId::new("DestinationRule", "default", format!("s{n}")),
            traffic: None,
            subsets: versions.iter().map(subset).collect(),
            fills: false,
        },
        host: fqdn(&format!("s{n}"), "default").into(),
        export_to: Vec::new(),
        created: 0,
        selector: None,
        mutual_tls_at: Vec::new(),
        credentials: Vec::new(),
    }
}

/// So many services, each with a route, a policy and an endpoint, and a route at a gateway.
fn mesh(services: u16) -> Objects {
    let mut objects = Objects::default();
    for n in 0..services {
        let (name, web) = (format!("s{n}"), format!("web{n}"));
        objects.services.push(service(n));
        objects.routes.push(route(&name, &[&fqdn(&name, "default")], &["mesh"], 90));
        objects.routes.push(route(&web, &[&format!("h{n}.example.com")], &["default/gw"], 90));
        objects.destination_policies.push(policy(n, &["v1", "v2"]));
    }
    objects.workloads = vec![(IpAddr::from([10, 77, 255, 1]), workload("default", "client"))];
    objects.gateways = vec![GatewaySource {
        id: ObjectId::new("Gateway", "default", "gw"),
        selector: [("app", "edge")].into_iter().collect(),
        servers: vec![GatewayServer {
            port: 80,
            name: "http".into(),
            protocol: GatewayProtocol::Http,
            hosts: vec![(None, "*".into())],
            tls: None,
            redirects: false,
        }],
        created: 0,
    }];
    objects
}

fn resolved(listener: ListenerKind, target: Target, namespace: &str) -> ResourceKey {
    ResourceKey::Resolution(ResolutionKey { listener, target, namespace: namespace.into() })
}

fn named(name: &str) -> ResourceKey {
    resolved(ListenerKind::Outbound, Target::Host(name.into(), 80), "default")
}

fn at(ip: [u8; 4]) -> ResourceKey {
    resolved(ListenerKind::Outbound, Target::Address(ip.into(), 80), "default")
}

const CLIENT: &str = "sidecar default client";

/// The costs of a list of edits in a mesh of so many services.
async fn costs(services: u16) -> Vec<(&'static str, (u64, u64, u64))> {
    let mut place = Place::start(mesh(services));
    let held = [named("s7"), at([10, 96, 0, 7]), named("new"), named("s8"), ResourceKey::Settings];
    let _sidecar = place.proxy(CLIENT, &held).await;
    let domain = |n: u16| {
        let host = Target::Host(format!("h{n}.example.com").into(), 80);
        resolved(ListenerKind::Gateway, host, "default")
    };
    let edge = [ResourceKey::Listeners, domain(9), domain(10)];
    let _gateway = place.proxy("gateway default edge", &edge).await;
    let mut costs = Vec::new();
    let s7 = service(7).service.id;
    let host = fqdn("s7", "default");
    let weights = edit_of_route(route("s7", &[&host], &["mesh"], 50));
    costs.push(("weight", place.edit([weights.clone()]).await));
    costs.push(("the same again", place.edit([weights]).await));
    let at_gateway = route("web9", &["h9.example.com"], &["default/gw"], 50);
    costs.push(("weight at a gateway", place.edit([edit_of_route(at_gateway)]).await));
    let traffic = policy(7, &["v1", "v2", "v3"]);
    let traffic = Edit::DestinationPolicy(traffic.policy.id.clone(), Some(traffic.into()));
    costs.push(("traffic policy", place.edit([traffic]).await));
    let mut added = endpoint("s7", "s7-1", [10, 77, 200, 1]);
    let tell = |e: &Endpoint| Edit::Endpoint(s7.clone(), e.id.clone(), Some(e.clone().into()));
    costs.push(("endpoint", place.edit([tell(&added)]).await));
    added.ready = false;
    costs.push(("readiness", place.edit([tell(&added)]).await));
    costs.push(("endpoint gone", place.edit([Edit::Endpoint(s7, added.id, None)]).await));
    let elsewhere = policy(6, &[]);
    let elsewhere = Edit::DestinationPolicy(elsewhere.policy.id.clone(), Some(elsewhere.into()));
    costs.push(("what nobody holds", place.edit([elsewhere]).await));
    let mut new = service(6).service;
    new.id.hostname = fqdn("new", "default").into();
    new.addresses = vec![IpAddr::from([10, 96, 200, 1])];
    let created = Edit::Service(new.id.clone(), Some((new.into(), Reach::since(9))));
    costs.push(("an absent host is created", place.edit([created]).await));
    let strict = edit_of_policy("shop", None);
    costs.push(("a policy elsewhere", place.edit([strict]).await));
    let another = route("web6", &["h6.example.com", "another.example.com"], &["default/gw"], 90);
    let (queries, _, keys) = place.edit([edit_of_route(another)]).await;
    costs.push(("a host of a gateway", (queries, 0, keys)));
    costs
}

#[tokio::test(start_paused = true)]
async fn a_change_costs_as_much_as_it_concerns_whatever_the_size_of_the_mesh() {
    let small = costs(50).await;
    assert_eq!(
        small,
        [
            ("weight", (0, 1, 1)),
            ("the same again", (0, 0, 0)),
            ("weight at a gateway", (0, 1, 1)),
            ("traffic policy", (0, 1, 1)),
            ("endpoint", (0, 1, 1)),
            ("readiness", (0, 1, 1)),
            ("endpoint gone", (0, 1, 1)),
            ("what nobody holds", (0, 0, 0)),
            // What applies there, the service and its endpoints.
            ("an absent host is created", (1, 3, 3)),
            ("a policy elsewhere", (0, 0, 0)),
            // The list of the chunks stays as it is; one of them has a domain more.
            ("a host of a gateway", (2, 0, 1)),
        ]
    );
    assert_eq!(small, costs(5_000).await);
}

#[tokio::test(start_paused = true)]
async fn a_new_endpoint_of_thousands_moves_one_leaf() {
    let mut large = service(1);
    let of = |n: u16| {
        let [high, low] = n.to_be_bytes();
        endpoint("s1", &format!("s1-{n}"), [10, 77, high, low])
    };
    large.endpoints = (0..5_000).map(of).collect();
    let mut place = Place::start(Objects { services: vec![large], ..Objects::default() });
    let proxy = place.proxy(CLIENT, &[named("s1")]).await;
    let (mut single, mut splits) = (0, 0);
    for n in 5_000..5_040 {
        let added = of(n);
        let id = service(1).service.id;
        match place.edit([Edit::Endpoint(id, added.id.clone(), Some(added.into()))]).await {
            (0, 1, 1) => single += 1,
            _ => splits += 1,
        }
    }
    assert!(single > splits * 5, "{single} moved one leaf, {splits} split one");
    let view = proxy.view.lock().unwrap();
    let linked = view.at_host(ListenerKind::Outbound, "s1", 80, "default").unwrap();
    let backend = linked.applies.as_ref().unwrap().default_backend.as_ref().unwrap();
    let members = backend.group.as_ref().unwrap().members();
    let endpoints = &members.all;
    assert_eq!(endpoints.len(), 5_040);
    assert!(endpoints.is_sorted_by(|a, b| a.endpoint.id < b.endpoint.id), "their order is stable");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_made_once_for_all_who_ask_alike_and_sent_to_those_who_hold_it() {
    let mut place = Place::start(mesh(20));
    for n in 0..30 {
        let own = if n < 10 { "s7" } else { "s8" };
        place.proxy(&format!("sidecar default p{n}"), &[named(own)]).await;
    }
    let host = fqdn("s7", "default");
    let cost = place.edit([edit_of_route(route("s7", &[&host], &["mesh"], 50))]).await;
    assert_eq!(cost, (0, 1, 10));
}

#[tokio::test(start_paused = true)]
async fn an_inbound_side_gets_no_endpoints() {
    let mut place = Place::start(mesh(20));
    let proxy = place.proxy("sidecar default s7-0", &[inbound([10, 77, 0, 7])]).await;
    assert_eq!(proxy.kinds(), ["resolution", "service"]);
}

#[tokio::test(start_paused = true)]
async fn what_selects_a_proxy_is_followed() {
    let mut place = Place::start(mesh(20));
    let inbound = inbound([10, 77, 255, 1]);
    let proxy = place.proxy(CLIENT, std::slice::from_ref(&inbound)).await;
    let policies = || match proxy.resource(&inbound) {
        Some(Resource::Resolution(body)) => format!("{body:?}").contains("PeerAuthentication"),
        other => panic!("{other:?}"),
    };
    assert!(!policies());
    let selectors = Some(vec![[("role", "payments")].into_iter().collect()]);
    place.edit([edit_of_policy("default", selectors)]).await;
    assert!(!policies());
    let mut relabelled = workload("default", "client");
    relabelled.labels = [("role", "payments")].into_iter().collect();
    let ip = IpAddr::from([10, 77, 255, 1]);
    place.edit([Edit::Workload(ip, Some(relabelled.into()))]).await;
    assert!(policies());
    assert_eq!(proxy.kinds(), ["policy", "resolution"]);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_sees_what_it_may_see_and_nothing_else() {
    let mut objects = mesh(20);
    let hidden = ObjectId::new("VirtualService", "default", "s7");
    let at_seven = |source: &&mut RouteSource| source.route.id == hidden;
    objects.routes.iter_mut().find(at_seven).unwrap().export_to = vec!["default".into()];
    let rule = objects.destination_policies[7].policy.id.clone();
    objects.destination_policies[7].export_to = vec!["default".into()];
    let mut place = Place::start(objects);
    let route_key = ResourceKey::Route(hidden.clone());
    let of_another = resolved(ListenerKind::Outbound, Target::Host("s7".into(), 80), "default");
    let at_gateway = Target::Host("h1.example.com".into(), 80);
    let at_gateway = resolved(ListenerKind::Gateway, at_gateway, "shop");
    let asked = [
        route_key.clone(),
        ResourceKey::Policy(rule.clone()),
        of_another,
        ResourceKey::Listeners,
        ResourceKey::Domains(80, ironmesh_model::chunk::Chunk::WHOLE),
        at_gateway,
    ];
    let stranger = place.proxy("sidecar shop thief", &asked).await;
    for key in &asked {
        assert_eq!(stranger.resource(key), None, "{key}");
    }
    let thief = place.server.proxies().remove(0);
    let refused = thief.errors.iter().filter(|error| error.is_refused_here);
    assert_eq!(refused.count(), 4, "all but the two that it may ask for: {:?}", thief.errors);
    let own = place.proxy(CLIENT, &[route_key.clone(), ResourceKey::Policy(rule)]).await;
    assert!(own.resource(&route_key).is_some(), "its own namespace");
    // Once it is for all it is told, and no longer when that ends.
    for (export_to, is_seen) in [(vec![], true), (vec![Name::from("default")], false)] {
        let mut source = route("s7", &[&fqdn("s7", "default")], &["mesh"], 90);
        source.export_to = export_to;
        place.edit([edit_of_route(source)]).await;
        assert_eq!(stranger.resource(&route_key).is_some(), is_seen);
    }
}

#[tokio::test(start_paused = true)]
async fn what_enters_a_workload_is_told_to_its_own_sidecar_alone() {
    let mut place = Place::start(mesh(20));
    let (own, other) = (inbound([10, 77, 0, 7]), inbound([10, 77, 0, 8]));
    let sidecar = place.proxy("sidecar default s7-0", &[own.clone(), other.clone()]).await;
    let gateway = place.proxy("gateway default s9-0", &[inbound([10, 77, 0, 9])]).await;
    assert!(sidecar.resource(&own).is_some());
    assert_eq!(sidecar.resource(&other), None);
    assert_eq!(gateway.kinds(), ["resolution"], "it is told that there is nothing");
    let refused = |place: &Place, uid: &str| {
        let mut proxies = place.server.proxies().into_iter();
        let errors = proxies.find(|proxy| &*proxy.peer.workload.uid == uid).unwrap().errors;
        errors.into_iter().filter(|error| error.is_refused_here).collect::<Vec<_>>()
    };
    let [error] = &refused(&place, "s7-0")[..] else { panic!("one error") };
    assert!(error.what.contains("10.77.0.8") && error.why.contains("own workload"), "{error:?}");
    let [error] = &refused(&place, "s9-0")[..] else { panic!("one error") };
    assert!(error.why.contains("sidecar"), "{error:?}");

    // The session goes on, and a change there does not reach the other.
    sidecar.client.subscribe([named("s7")]);
    until("it is answered", || sidecar.has(&named("s7"))).await;
    place.settle().await;
    let mut ported = service(8).service;
    ported.ports[0].protocol = Protocol::Http2;
    let id = ported.id.clone();
    assert_eq!(place.edit([Edit::Service(id, Some((ported.into(), Reach::default())))]).await.2, 0);

    // Once the address is its own it is answered, and no longer when that ends.
    let ip = IpAddr::from([10, 77, 0, 8]);
    for (now, is_own) in [(Some(workload("default", "s7-0").into()), true), (None, false)] {
        place.edit([Edit::Workload(ip, now)]).await;
        assert_eq!(sidecar.resource(&other).is_some(), is_own);
        assert_eq!(refused(&place, "s7-0").is_empty(), is_own);
    }
    sidecar.client.unsubscribe([other]);
    until("it is forgotten", || refused(&place, "s7-0").is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_holds_is_forgotten() {
    let mut place = Place::start(mesh(20));
    let proxy = place.proxy(CLIENT, &[named("s7"), named("s8"), named("nowhere")]).await;
    proxy.client.unsubscribe([named("s7"), named("nowhere")]);
    until("the rest is forgotten", || proxy.kinds().len() == 5).await;
    place.settle().await;
    assert_eq!(place.server.answers().len(), 5, "s8: a route, a policy, and so on");
    place.tasks.drain(..).for_each(|task| task.abort());
    until("the proxy is gone", || place.server.proxies().is_empty()).await;
    assert_eq!(place.server.answers().len(), 0);
}
