//! Edits: whatever their sequence, what comes out is what building from nothing gives, and an edit
//! touches what it concerns and nothing else.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::bootstrap::ProxyKind;
use crate::route::{Action, ConnectionRule};
use crate::service::{Discovery, EndpointAddress};
use crate::settings::OutboundPolicy;

const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Http, Protocol::Grpc];

/// Everything under names of its own.
#[derive(Clone, Debug, Default)]
struct World {
    settings: Settings,
    services: BTreeMap<ServiceId, ServiceSource>,
    workloads: BTreeMap<IpAddr, Workload>,
    routes: BTreeMap<ObjectId, RouteSource>,
    destination_policies: BTreeMap<ObjectId, DestinationPolicySource>,
    inbound_policies: BTreeMap<ObjectId, InboundPolicySource>,
    gateways: BTreeMap<ObjectId, GatewaySource>,
    sidecars: BTreeMap<ObjectId, SidecarSource>,
}

impl World {
    fn objects(&self) -> Objects {
        Objects {
            settings: self.settings.clone(),
            services: self.services.values().cloned().collect(),
            workloads: self.workloads.iter().map(|(ip, w)| (*ip, w.clone())).collect(),
            routes: self.routes.values().cloned().collect(),
            destination_policies: self.destination_policies.values().cloned().collect(),
            inbound_policies: self.inbound_policies.values().cloned().collect(),
            gateways: self.gateways.values().cloned().collect(),
            credentials: Vec::new(),
            sidecars: self.sidecars.values().cloned().collect(),
            found: Vec::new(),
        }
    }

    fn change_sidecar(&mut self, namespace: &str, name: &str, step: &RandomEdit) -> Vec<Edit> {
        let RandomEdit { how, keep, .. } = *step;
        let hosts = ["*", "*.svc.cluster.local", "h1.example.com", APP];
        let of = (!how.is_multiple_of(3)).then(|| NAMESPACES[usize::from(how) % 3].into());
        let egress = EgressHosts {
            port: how.is_multiple_of(5).then_some(9080),
            hosts: vec![(of, hosts[usize::from(how) % 4].into())],
        };
        let source = SidecarSource {
            id: ObjectId::new("Sidecar", namespace, name),
            selector: how.is_multiple_of(2).then(|| [("app", "a")].into_iter().collect()),
            egress: if how.is_multiple_of(7) { Vec::new() } else { vec![egress] },
            ingress: match how.is_multiple_of(3) {
                true => vec![IngressPort {
                    number: 9080,
                    protocol: PROTOCOLS[usize::from(how) % PROTOCOLS.len()],
                    to: how.is_multiple_of(2).then(|| "127.0.0.1:8080".parse().unwrap()),
                    pool: None,
                }],
                false => Vec::new(),
            },
            inbound_pool: None,
            outbound_policy: how.is_multiple_of(4).then_some(OutboundPolicy::RegistryOnly),
            egress_proxy: None,
            created: i64::from(how % 3),
        };
        let id = source.id.clone();
        put(&mut self.sidecars, id.clone(), source.clone(), keep);
        vec![Edit::Sidecar(id, keep.then(|| source.into()))]
    }

    fn change_service(&mut self, namespace: &str, name: &str, step: &RandomEdit) -> Vec<Edit> {
        let RandomEdit { who, how, keep, .. } = *step;
        let created = i64::from(how % 3);
        let of = service(namespace, name, who, 9080 + u16::from(how % 2), &[]);
        let mut source = ServiceSource { reach: Reach::since(created), ..of };
        source.service.headless = how.is_multiple_of(5);
        source.service.ports[0].protocol = PROTOCOLS[usize::from(how) % PROTOCOLS.len()];
        if how.is_multiple_of(4) {
            source.service.addresses = vec![IpAddr::from([10, 96, 0, 1])];
        }
        let (service, reach) = (&mut source.service, &mut source.reach);
        match how % 7 {
            1 => reach.export_to = vec![NAMESPACES[usize::from(how) % 2].into()],
            2 => reach.networks = vec!["10.77.1.0/31".parse().unwrap()],
            3 => (service.addresses, service.discovery) = (Vec::new(), Discovery::Dialled),
            4 => service.id.hostname = "*.example.com".into(),
            _ => {}
        }
        let id = source.service.id.clone();
        if let Some(before) = self.services.get(&id) {
            source.endpoints = before.endpoints.clone();
        }
        let told = (source.service.clone().into(), source.reach.clone());
        put(&mut self.services, id.clone(), source, keep);
        vec![Edit::Service(id, keep.then_some(told))]
    }

    /// Makes a change, and the edits that tell of it.
    fn change(&mut self, step: &RandomEdit) -> Vec<Edit> {
        let RandomEdit { what, who, how, keep } = *step;
        let namespace = NAMESPACES[usize::from(who) % NAMESPACES.len()];
        let name = ["app", "b", "c"][usize::from(who / 3) % 3];
        let created = i64::from(how % 3);
        match what {
            0 => self.change_settings(who, how),
            1 => self.change_service(namespace, name, step),
            2 => self.change_endpoints(namespace, name, step),
            8 => self.change_sidecar(namespace, name, step),
            3 => {
                let ip = IpAddr::from([10, 77, 1, who % 8]);
                let labels: &[(&str, &str)] = match how % 3 {
                    0 => &[("app", "a")],
                    1 => &[("app", "a"), ("version", "v1")],
                    _ => &[("istio", "ingressgateway")],
                };
                let (_, workload) = workload(namespace, &format!("w{who}"), [0; 4], labels);
                put(&mut self.workloads, ip, workload.clone(), keep);
                vec![Edit::Workload(ip, keep.then(|| workload.into()))]
            }
            4 => {
                let source = some_route(namespace, name, created, how);
                let id = source.route.id.clone();
                put(&mut self.routes, id.clone(), source.clone(), keep);
                vec![Edit::Route(id, keep.then(|| source.into()))]
            }
            5 => {
                let source = some_destination_policy(namespace, name, created, how);
                let id = source.policy.id.clone();
                put(&mut self.destination_policies, id.clone(), source.clone(), keep);
                vec![Edit::DestinationPolicy(id, keep.then(|| source.into()))]
            }
            6 => {
                let modes = [None, Some(MtlsMode::Strict), Some(MtlsMode::Disable)];
                let selector = how.is_multiple_of(2).then_some(("app", "a"));
                let mode = modes[usize::from(how / 2) % 3];
                let mut source = inbound_policy((namespace, name), created, selector, mode);
                source.only_oldest = how >= 100;
                if how % 5 < 2 {
                    let of = |port| (port, modes[1 + usize::from(how % 2)].unwrap());
                    source.policy.parts = at_ports(&[of(9081), of(1 + u16::from(how % 3))]);
                }
                let id = source.policy.id.clone();
                put(&mut self.inbound_policies, id.clone(), source.clone(), keep);
                vec![Edit::InboundPolicy(id, keep.then(|| source.into()))]
            }
            _ => {
                let source = some_gateway(namespace, name, created, how);
                let id = source.id.clone();
                put(&mut self.gateways, id.clone(), source.clone(), keep);
                vec![Edit::Gateway(id, keep.then(|| source.into()))]
            }
        }
    }

    fn change_settings(&mut self, who: u8, how: u8) -> Vec<Edit> {
        let modes = [MtlsMode::Permissive, MtlsMode::Strict, MtlsMode::Disable];
        self.settings.mtls_mode = modes[usize::from(how) % 3];
        let roots = ["istio-system", "istio-system", "istio-system", "shop"];
        self.settings.root_namespace = roots[usize::from(who) % 4].into();
        vec![Edit::Settings(self.settings.clone().into())]
    }

    /// Endpoints by hundreds, so that chunks are split and joined.
    fn change_endpoints(&mut self, namespace: &str, name: &str, step: &RandomEdit) -> Vec<Edit> {
        let id = ServiceId { namespace: namespace.into(), hostname: fqdn(name, namespace).into() };
        let Some(source) = self.services.get_mut(&id) else { return Vec::new() };
        let many = if step.who.is_multiple_of(4) { 150 } else { 2 };
        let mut edits = Vec::new();
        for n in 0..many {
            let uid: Name = format!("e{}", usize::from(step.how % 2) * 100 + n).into();
            source.endpoints.retain(|own| own.id != uid);
            let made = step.keep.then(|| {
                let made =
                    service(namespace, name, 1, 9080, &[(&uid, "v1", !step.how.is_multiple_of(3))]);
                let mut endpoint = made.endpoints[0].clone();
                endpoint.address = EndpointAddress::Ip(IpAddr::from([10, 77, 1, n as u8 % 9]));
                if n % 2 == 0 {
                    endpoint.tls = UpstreamTls::Mesh(identity(namespace, name));
                }
                endpoint.labels = [("app", "a")].into_iter().collect();
                endpoint
            });
            source.endpoints.extend(made.clone());
            edits.push(Edit::Endpoint(id.clone(), uid, made.map(Box::new)));
        }
        if step.how.is_multiple_of(5) {
            edits = vec![Edit::Endpoints(id, source.endpoints.clone())];
        }
        edits
    }
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V, keep: bool) {
    if keep {
        map.insert(key, value);
    } else {
        map.remove(&key);
    }
}

fn export_to(how: u8) -> Vec<Name> {
    match how % 3 {
        0 => Vec::new(),
        1 => vec!["shop".into()],
        _ => vec!["istio-system".into()],
    }
}

fn some_route(namespace: &str, name: &str, created: Created, how: u8) -> RouteSource {
    let hosts: &[&str] = [
        &[APP][..],
        &["h1.example.com", "*.example.com"],
        &["*.svc.cluster.local"],
        &["*-x.example.com"],
        &["b.shop.svc.cluster.local", "x-x.example.com"],
        &["*"],
    ][usize::from(how) % 6];
    let gateways: &[&str] =
        [&["mesh"][..], &["default/app"], &["shop/b", "default/app"]][usize::from(how / 6) % 3];
    let backends: &[(&str, &str, u32)] =
        [&[(APP, "v1", 1)][..], &[(APP, "v2", 1), ("b.shop.svc.cluster.local", "", 3)]]
            [usize::from(how / 18) % 2];
    let rules = vec![rule(vec![prefix(&format!("/{how}"))], backends)];
    let mut source = route((namespace, name), created, hosts, gateways, rules);
    source.export_to = export_to(how / 36);
    source.precedence = how.is_multiple_of(4).then_some(i32::from(how % 3));
    if how >= 128 {
        let backends = source.route.rules[0].action.backends().to_vec();
        source.route.connection_rules = vec![ConnectionRule { backends, ..Default::default() }];
    }
    match how % 5 {
        // One that others may delegate to.
        0 => source.hosts.clear(),
        1 => {
            let to = NAMESPACES[usize::from(how / 5) % NAMESPACES.len()];
            source.delegations = vec![(0, ObjectId::new("VirtualService", to, "b"))];
            source.route.rules[0].action = Action::default();
        }
        _ => {}
    }
    source
}

fn some_destination_policy(
    namespace: &str,
    name: &str,
    created: Created,
    how: u8,
) -> DestinationPolicySource {
    let hosts = [APP, "b.shop.svc.cluster.local", "*.svc.cluster.local", "*-x.com"];
    let versions: &[&str] = if how.is_multiple_of(2) { &["v1"] } else { &["v1", "v2"] };
    let host = hosts[usize::from(how) % 4];
    let mut source = subsets((namespace, name), created, host, versions);
    source.export_to = export_to(how / 4);
    source.selector = selector(how);
    if how.is_multiple_of(5) {
        source.mutual_tls_at = vec!["spec.trafficPolicy.tls.mode".into()];
    }
    source
}

fn some_gateway(namespace: &str, name: &str, created: Created, how: u8) -> GatewaySource {
    let hosts: &[&str] = [
        &["*"][..],
        &["h1.example.com", "*.example.com"],
        &["shop/*.example.com"],
        &["*-x.example.com", "*"],
    ][usize::from(how) % 4];
    let mut source = gateway((namespace, name), created, hosts);
    if how.is_multiple_of(5) {
        source.selector = Labels::default();
    }
    if how.is_multiple_of(7) {
        source.servers[0].port = 8080;
    }
    source
}

const NAMESPACES: [&str; 3] = ["default", "shop", "istio-system"];

/// One change.
#[derive(Clone, Debug)]
struct RandomEdit {
    what: u8,
    who: u8,
    how: u8,
    /// Whether the object is there afterwards.
    keep: bool,
}

fn steps() -> impl Strategy<Value = Vec<RandomEdit>> {
    // Often the same objects, in forms that differ in little.
    let who = prop_oneof![Just(0u8), 0u8..9];
    let how = prop_oneof![Just(0u8), Just(18), Just(144), any::<u8>()];
    let step = (0u8..9, who, how, prop::bool::weighted(0.75));
    let step = step.prop_map(|(what, who, how, keep)| RandomEdit { what, who, how, keep });
    prop::collection::vec(step, 1..40)
}

/// Askers of all sorts.
fn askers() -> Vec<(Subscriber, ProxyKind)> {
    let of = |namespace: &str, labels: &[(&str, &str)], kind| {
        let labels = labels.iter().copied().collect();
        let addresses = vec![[10, 77, 1, 0].into(), [10, 96, 0, 1].into()];
        (Subscriber { namespace: namespace.into(), labels, addresses }, kind)
    };
    vec![
        of("default", &[("app", "a")], ProxyKind::Sidecar),
        of("shop", &[], ProxyKind::Sidecar),
        of("istio-system", &[("istio", "ingressgateway")], ProxyKind::Gateway),
    ]
}

/// Keys that these askers may hold, and some that are never there.
fn keys(asker: &Subscriber) -> Vec<ResourceKey> {
    let mut keys = vec![ResourceKey::Settings, ResourceKey::Listeners];
    let resolved = |listener, target| resolution(listener, target, &asker.namespace);
    let hosts =
        ["app", "app.default", "b.shop.svc.cluster.local", "h1.example.com", "x-x.example.com"];
    for host in hosts.into_iter().chain(["*", "*.example.com", "10.96.0.1"]) {
        for listener in [ListenerKind::Outbound, ListenerKind::Gateway] {
            for port in [80, 9080] {
                keys.push(resolved(listener, Target::Host(host.into(), port)));
            }
        }
    }
    for ip in [[10, 96, 0, 1], [10, 96, 0, 3], [10, 77, 1, 0], [10, 77, 1, 1]] {
        let ip = IpAddr::from(ip);
        keys.push(ResourceKey::Workload(ip));
        keys.push(resolved(ListenerKind::Outbound, Target::Address(ip, 9080)));
        keys.push(resolved(ListenerKind::Inbound, Target::Address(ip, EVERY_PORT)));
    }
    for namespace in NAMESPACES {
        for name in ["app", "b"] {
            keys.push(ResourceKey::Route(ObjectId::new("VirtualService", namespace, name)));
            keys.push(ResourceKey::Policy(ObjectId::new("DestinationRule", namespace, name)));
            keys.push(ResourceKey::Policy(ObjectId::new("PeerAuthentication", namespace, name)));
            let hostname: Name = fqdn(name, namespace).into();
            let id = ServiceId { namespace: namespace.into(), hostname };
            keys.push(ResourceKey::Service(id.clone()));
            for chunk in [1, 2, 3, 4, 5, 6, 7] {
                keys.push(ResourceKey::Endpoints(id.clone(), Chunk(chunk)));
            }
        }
    }
    keys.extend([1, 2, 3].map(|chunk| ResourceKey::Domains(80, Chunk(chunk))));
    keys
}

type Told = (Option<Resource>, Vec<ResourceKey>);

/// Answers that are kept, and asked for again when a cell is touched that they read.
#[derive(Default)]
struct Memo {
    scopes: Vec<Scope>,
    scope_readers: Readers<usize>,
    /// By asker and key.
    told: BTreeMap<(usize, ResourceKey), Told>,
    numbers: Vec<(usize, ResourceKey)>,
    readers: Readers<usize>,
    /// As whom workloads ask.
    subscribers: BTreeMap<u8, Option<Subscriber>>,
    subscriber_readers: Readers<u8>,
}

impl Memo {
    fn start(snapshot: &Snapshot) -> Self {
        let mut memo = Self::default();
        for (at, (asker, kind)) in askers().into_iter().enumerate() {
            let (scope, reads) = snapshot.scope(&asker, Some(kind));
            memo.scopes.push(scope);
            memo.scope_readers.set(at, reads);
            for key in keys(&asker) {
                memo.numbers.push((at, key));
                memo.ask(snapshot, memo.numbers.len() - 1);
            }
        }
        (0..9).for_each(|who| memo.ask_subscriber(snapshot, who));
        memo
    }

    fn ask_subscriber(&mut self, snapshot: &Snapshot, who: u8) {
        let (_, workload) = workload("default", &format!("w{who}"), [0; 4], &[]);
        let (subscriber, reads) = snapshot.subscriber(&workload.id);
        self.subscribers.insert(who, subscriber);
        self.subscriber_readers.set(who, reads);
    }

    fn ask(&mut self, snapshot: &Snapshot, number: usize) {
        let (asker, key) = self.numbers[number].clone();
        let scope = self.scopes[asker].narrowed(&key, false);
        let answer = snapshot.answer(&key, &scope);
        self.readers.set(number, answer.reads);
        self.told.insert((asker, key), (answer.resource, answer.references));
    }

    fn follow(&mut self, snapshot: &Snapshot, touched: &Touched) {
        for number in self.readers.of(touched) {
            self.ask(snapshot, number);
        }
        for who in self.subscriber_readers.of(touched) {
            self.ask_subscriber(snapshot, who);
        }
        for at in self.scope_readers.of(touched) {
            let (asker, kind) = askers().swap_remove(at);
            let (scope, reads) = snapshot.scope(&asker, Some(kind));
            self.scope_readers.set(at, reads);
            if scope != self.scopes[at] {
                self.scopes[at] = scope;
                let own = (0..self.numbers.len()).filter(|n| self.numbers[*n].0 == at);
                for number in own.collect::<Vec<_>>() {
                    self.ask(snapshot, number);
                }
            }
        }
    }
}

/// The callers for whom a policy is.
fn selector(how: u8) -> Option<Labels> {
    how.is_multiple_of(3).then(|| [("app", "a")].into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn any_sequence_of_edits_gives_what_building_from_nothing_gives(
        steps in steps(),
        batch in 1usize..4,
    ) {
        let mut world = World::default();
        let mut snapshot = Snapshot::default();
        let mut memo = Memo::start(&snapshot);
        let mut findings = Findings::default();
        for steps in steps.chunks(batch) {
            let edits: Vec<Edit> = steps.iter().flat_map(|step| world.change(step)).collect();
            let (next, touched) = snapshot.edited(edits);
            snapshot = next;
            memo.follow(&snapshot, &touched);
            findings.note(&touched);
            let (fresh, found) = Snapshot::new(world.objects());
            prop_assert_eq!(findings.of(&snapshot), found);
            let from_nothing = Memo::start(&fresh);
            prop_assert_eq!(&memo.scopes, &from_nothing.scopes);
            prop_assert_eq!(&memo.subscribers, &from_nothing.subscribers);
            for (key, told) in &from_nothing.told {
                prop_assert_eq!(&memo.told[key], told, "{:?}", key);
            }
        }
    }
}

/// A mesh of so many services, each with a route, a policy and an endpoint.
fn mesh(services: u16) -> Objects {
    let mut objects = Objects::default();
    for n in 0..services {
        let name = format!("s{n}");
        let host = fqdn(&name, "default");
        let mut source = service("default", &name, 1, 9080, &[(&format!("{name}-0"), "v1", true)]);
        let [high, low] = n.to_be_bytes();
        source.service.addresses = vec![IpAddr::from([10, 96, high, low])];
        source.endpoints[0].address = EndpointAddress::Ip(IpAddr::from([10, 77, high, low]));
        objects.services.push(source);
        let rules = vec![rule(Vec::new(), &[(&host, "v1", 90), (&host, "v2", 10)])];
        objects.routes.push(route(("default", &name), 0, &[&host], &["mesh"], rules));
        objects.destination_policies.push(subsets(("default", &name), 0, &host, &["v1", "v2"]));
    }
    objects
}

#[test]
fn an_edit_touches_as_much_in_a_large_mesh_as_in_a_small_one() {
    let looks = |services: u16| -> Vec<(usize, u64)> {
        let objects = mesh(services);
        let (mut snapshot, _) = Snapshot::new(objects.clone());
        let mut findings = Findings::default();
        findings.note(&Touched::everything());
        findings.of(&snapshot);
        let before = findings.looks();
        let mut counts = Vec::new();
        let mut edited = |edit: Edit| {
            let (next, touched) = snapshot.edited([edit]);
            findings.note(&touched);
            findings.of(&next);
            snapshot = next;
            counts.push((touched.cells.len(), findings.looks() - before));
        };
        let mut weighed = objects.routes[7].clone();
        let Action::Forward(backends) = &mut weighed.route.rules[0].action else {
            panic!("it forwards")
        };
        backends[0].weight = 50;
        edited(Edit::Route(weighed.route.id.clone(), Some(weighed.into())));
        let added = service("default", "s7", 9, 9080, &[("s7-1", "v2", true)]);
        let (id, endpoint) = (added.service.id.clone(), added.endpoints[0].clone());
        edited(Edit::Endpoint(id, endpoint.id.clone(), Some(endpoint.into())));
        let created = service("default", "new", 9, 9080, &[]);
        let id = created.service.id.clone();
        edited(Edit::Service(id, Some((created.service.into(), Reach::since(9)))));
        let policy = inbound_policy(("shop", "p"), 0, None, Some(MtlsMode::Disable));
        edited(Edit::InboundPolicy(policy.policy.id.clone(), Some(policy.into())));
        counts
    };
    let small = looks(50);
    assert_eq!(small, looks(2_000));
    assert_eq!(small[0], (1, 1), "weights are nothing to anyone but the route");
}
