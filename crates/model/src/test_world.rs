//! A small mesh for tests, and a proxy that asks for what it needs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::draw::Draw;
use crate::finding::Finding;
use crate::listeners::GatewayProtocol;
use crate::name::{Identity, Labels, Name, ObjectId, ServiceId, WorkloadId};
use crate::policy::{
    DestinationPolicy, Distribution, InboundPart, InboundPolicy, MtlsMode, Subset, TrafficPolicy,
};
use crate::recorder::Recorder;
use crate::resource::{ListenerKind, Resource, ResourceKey, Version};
use crate::route::{Action, Backend, Match, Route, Rule};
use crate::service::{
    Discovery, Endpoint, EndpointAddress, PortMap, Protocol, Service, ServicePort, UpstreamTls,
    Workload,
};
use crate::snapshot::{
    Created, DestinationPolicySource, GatewayServer, GatewaySource, InboundFields,
    InboundPolicySource, Objects, Reach, RouteFields, RouteSource, ServiceSource, Snapshot,
    Subscriber,
};
use crate::text_match::TextMatch;
use crate::view::{Body, Change, View};
use crate::{Connection, Decision, Local, Plan, Request, Seen, Silent, Traffic, decide};

/// Fully qualified name of a service.
pub(crate) fn fqdn(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}.svc.cluster.local")
}

/// A service with one HTTP port whose endpoints are `(uid, version, ready)`; the address of the
/// endpoint `n` is 10.77.`octet`.`n`.
pub(crate) fn service(
    namespace: &str,
    name: &str,
    octet: u8,
    port: u16,
    endpoints: &[(&str, &str, bool)],
) -> ServiceSource {
    let hostname: Name = fqdn(name, namespace).into();
    let endpoint = |(at, (uid, version, ready)): (usize, &(&str, &str, bool))| Endpoint {
        id: (*uid).into(),
        address: EndpointAddress::Ip(IpAddr::V4(Ipv4Addr::new(10, 77, octet, at as u8))),
        ports: vec![PortMap { service: port, target: port + 1 }],
        labels: [("app", name), ("version", version)].into_iter().collect(),
        workload: WorkloadId {
            cluster: "Kubernetes".into(),
            namespace: namespace.into(),
            name: (*uid).into(),
            uid: (*uid).into(),
        },
        owner: name.into(),
        tls: UpstreamTls::None,
        tls_at: Vec::new(),
        ready: *ready,
        weight: 1,
        network: "".into(),
        cluster: "Kubernetes".into(),
        locality: "".into(),
        node: "".into(),
    };
    ServiceSource {
        service: Service {
            id: ServiceId { namespace: namespace.into(), hostname },
            name: name.into(),
            addresses: vec![IpAddr::V4(Ipv4Addr::new(10, 96, 0, octet))],
            headless: false,
            discovery: Discovery::Endpoints,
            distribution: Distribution::Any,
            certificate_names: Vec::new(),
            ports: vec![ServicePort {
                number: port,
                name: "http".into(),
                protocol: Protocol::Http,
            }],
            endpoint_chunks: Vec::new(),
        },
        endpoints: endpoints.iter().enumerate().map(endpoint).collect(),
        reach: Reach::default(),
    }
}

/// A backend: `(fully qualified host, subset or "", weight)`.
pub(crate) fn backend((host, subset, weight): (&str, &str, u32)) -> Backend {
    let subset = (!subset.is_empty()).then(|| subset.into());
    Backend { subset, weight, ..Backend::to(host, None) }
}

/// A rule with these alternatives and backends.
pub(crate) fn rule(matches: Vec<Match>, backends: &[(&str, &str, u32)]) -> Rule {
    let backends = backends.iter().copied().map(backend).collect();
    Rule { matches, action: Action::Forward(backends), ..Rule::default() }
}

pub(crate) fn exact(path: &str) -> Match {
    Match { path: Some(TextMatch::Exact(path.into())), ..Match::default() }
}

pub(crate) fn prefix(path: &str) -> Match {
    Match { path: Some(TextMatch::Prefix(path.into())), ..Match::default() }
}

pub(crate) fn regex(path: &str) -> Match {
    Match { path: Some(TextMatch::Regex(path.into())), ..Match::default() }
}

/// A route `NAMESPACE/NAME`.
pub(crate) fn route(
    id: (&str, &str),
    created: Created,
    hosts: &[&str],
    gateways: &[&str],
    rules: Vec<Rule>,
) -> RouteSource {
    RouteSource {
        route: Route {
            id: ObjectId::new("VirtualService", id.0, id.1),
            rules,
            connection_rules: Vec::new(),
        },
        hosts: hosts.iter().map(|h| (*h).into()).collect(),
        gateways: gateways.iter().map(|g| (*g).into()).collect(),
        export_to: Vec::new(),
        created,
        precedence: None,
        found: Vec::new(),
        delegations: Vec::new(),
        fields: RouteFields::VIRTUAL_SERVICE,
    }
}

/// Subsets of a host, each named as the version that it selects.
pub(crate) fn subsets(
    id: (&str, &str),
    created: Created,
    host: &str,
    versions: &[&str],
) -> DestinationPolicySource {
    let subset = |version: &&str| Subset {
        name: (*version).into(),
        labels: [("version", *version)].into_iter().collect(),
        traffic: TrafficPolicy::default(),
    };
    DestinationPolicySource {
        policy: DestinationPolicy {
            id: ObjectId::new("DestinationRule", id.0, id.1),
            traffic: None,
            subsets: versions.iter().map(subset).collect(),
            fills: false,
        },
        host: host.into(),
        export_to: Vec::new(),
        created,
        selector: None,
        mutual_tls_at: Vec::new(),
        credentials: Vec::new(),
    }
}

pub(crate) fn inbound_policy(
    id: (&str, &str),
    created: Created,
    selector: Option<(&str, &str)>,
    mtls: Option<MtlsMode>,
) -> InboundPolicySource {
    InboundPolicySource {
        policy: InboundPolicy {
            id: ObjectId::new("PeerAuthentication", id.0, id.1),
            mtls,
            parts: Vec::new(),
        },
        selectors: selector.map(|pair| vec![[pair].into_iter().collect()]),
        only_oldest: true,
        found: Vec::new(),
        fields: InboundFields { selector: "spec.selector", ports: Some("spec.portLevelMtls") },
        created,
    }
}

/// What an inbound policy says of single ports.
pub(crate) fn at_ports(of: &[(u16, MtlsMode)]) -> Vec<InboundPart> {
    let part = |(port, mtls): &(u16, MtlsMode)| InboundPart {
        workloads: Labels::default(),
        port: Some(*port),
        mtls: *mtls,
    };
    of.iter().map(part).collect()
}

/// A gateway on pods with `istio: ingressgateway`, with one server on port 80. Hosts may carry a
/// namespace: `NAMESPACE/HOST`.
pub(crate) fn gateway(id: (&str, &str), created: Created, hosts: &[&str]) -> GatewaySource {
    let host = |given: &&str| match given.split_once('/') {
        Some((namespace, host)) => (Some(namespace.into()), host.into()),
        None => (None, (*given).into()),
    };
    GatewaySource {
        id: ObjectId::new("Gateway", id.0, id.1),
        selector: [("istio", "ingressgateway")].into_iter().collect(),
        servers: vec![GatewayServer {
            port: 80,
            name: "http".into(),
            protocol: GatewayProtocol::Http,
            hosts: hosts.iter().map(host).collect(),
            tls: None,
            redirects: false,
        }],
        created,
    }
}

/// A proxy with its view; every change that it asks for it gets at once.
pub(crate) struct Proxy {
    pub(crate) snapshot: Snapshot,
    pub(crate) findings: Vec<Finding>,
    pub(crate) subscriber: Subscriber,
    gateway: bool,
    pub(crate) view: View,
    /// What it asked for, in order.
    pub(crate) asked: Vec<ResourceKey>,
}

impl Proxy {
    pub(crate) fn sidecar(objects: Objects, namespace: &str, labels: &[(&str, &str)]) -> Self {
        Self::new(objects, namespace, labels, false)
    }

    pub(crate) fn gateway(objects: Objects) -> Self {
        Self::new(objects, "istio-system", &[("istio", "ingressgateway")], true)
    }

    fn new(objects: Objects, namespace: &str, labels: &[(&str, &str)], gateway: bool) -> Self {
        let (snapshot, findings) = Snapshot::new(objects);
        let labels: Labels = labels.iter().copied().collect();
        let subscriber = Subscriber { namespace: namespace.into(), labels, addresses: Vec::new() };
        let view = View::default();
        Self { snapshot, findings, subscriber, gateway, view, asked: Vec::new() }
    }

    /// Takes a new snapshot: every held resource is sent again.
    pub(crate) fn replace(&mut self, objects: Objects) {
        (self.snapshot, self.findings) = Snapshot::new(objects);
        let keys: Vec<ResourceKey> = self.view.held().map(|(key, _)| key.clone()).collect();
        let changes: Vec<Change> = keys.iter().flat_map(|key| self.answer(key)).collect();
        self.view = self.view.apply(changes).0;
    }

    pub(crate) fn subscribe(&mut self, key: &ResourceKey) {
        self.asked.push(key.clone());
        self.view = self.view.apply(self.answer(key)).0;
    }

    /// The resource under a key with everything that it refers to.
    pub(crate) fn answer(&self, key: &ResourceKey) -> Vec<Change> {
        let resource = self.snapshot.resource(key, &self.subscriber);
        let implied = resource.iter().flat_map(|r| self.snapshot.references(r));
        let implied = implied.map(|key| {
            let resource = self.snapshot.resource(&key, &self.subscriber);
            (key, resource)
        });
        let all: Vec<_> = implied.collect();
        all.into_iter()
            .chain([(key.clone(), resource)])
            .map(|(key, resource)| change(key, resource))
            .collect()
    }

    /// Decides, asking for what is needed.
    pub(crate) fn decide<R: Recorder>(
        &mut self,
        traffic: &Traffic<'_>,
        draw: Draw,
        recorder: &mut R,
    ) -> Decision {
        for _ in 0..10 {
            let decision = decide(&self.view, traffic, draw, recorder);
            match &decision.plan {
                Plan::Needs(key) => self.subscribe(&key.clone()),
                _ => return decision,
            }
        }
        panic!("it asks without end: {:?}", self.asked);
    }

    /// Decides `GET PATH` for an authority, on port 80 of a gateway and 9080 of a sidecar, dialled at
    /// an address of nobody.
    pub(crate) fn get(&mut self, authority: &str, target: &str) -> Decision {
        self.get_with(authority, target, &[])
    }

    pub(crate) fn get_with(
        &mut self,
        authority: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Decision {
        let local = self.local();
        let headers: Vec<(String, String)> =
            headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let target = crate::path::normalize_target(target).unwrap();
        let (path, query) = crate::path::split_target(&target);
        let (listener, port) = match self.gateway {
            true => (ListenerKind::Gateway, 80),
            false => (ListenerKind::Outbound, 9080),
        };
        let connection = Connection {
            listener,
            local: &local,
            destination: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), port),
            peer: Seen::Absent,
            server_name: Seen::Absent,
        };
        let request =
            Request { method: "GET", scheme: "http", authority, path, query, headers: &headers };
        self.decide(&Traffic::Request(connection, request), Draw(7), &mut Silent)
    }

    /// The workload whose proxy it is.
    pub(crate) fn local(&self) -> Local {
        Local {
            namespace: self.subscriber.namespace.clone(),
            labels: self.subscriber.labels.clone(),
        }
    }
}

/// The change that brings a resource.
pub(crate) fn change(key: ResourceKey, resource: Option<Resource>) -> Change {
    let version = Version::of(format!("{resource:?}").as_bytes());
    Change { key, version, body: resource.map_or(Body::Nothing, Body::Is) }
}

/// `route#rule`, or the reason if no rule won.
pub(crate) fn outcome(decision: &Decision) -> String {
    let subset = decision.backend().and_then(|b| b.subset.clone());
    match (decision.route_name(), subset) {
        (Some(route), Some(subset)) => format!("{route} {subset}"),
        (Some(route), None) => route,
        (None, _) => decision.reason.code().to_owned(),
    }
}

/// The identity of a service account.
pub(crate) fn identity(namespace: &str, service_account: &str) -> Identity {
    Identity {
        trust_domain: "cluster.local".into(),
        namespace: namespace.into(),
        service_account: service_account.into(),
    }
}

/// A workload at an address.
pub(crate) fn workload(
    namespace: &str,
    name: &str,
    ip: [u8; 4],
    labels: &[(&str, &str)],
) -> (IpAddr, Workload) {
    let id = WorkloadId {
        cluster: "Kubernetes".into(),
        namespace: namespace.into(),
        name: name.into(),
        uid: name.into(),
    };
    let identity = identity(namespace, name);
    let labels = labels.iter().copied().collect();
    let tls = UpstreamTls::Mesh(identity.clone());
    let (locality, network, node) = ("".into(), "".into(), "".into());
    let workload = Workload {
        id,
        owner: name.into(),
        identity,
        labels,
        meshed: true,
        tls,
        tls_at: Vec::new(),
        locality,
        network,
        node,
    };
    (IpAddr::from(ip), workload)
}
