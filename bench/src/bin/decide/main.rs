//! Decides the same requests again and again, so that what one decision costs can be counted from
//! outside: run it with COUNT and with twice COUNT, and take the difference.
//!
//! `bench-decide COUNT` decides by a few rules. `bench-decide CASE FIRST LAST` decides by thousands:
//! FIRST times by the first and LAST times by the last (see [`many::Case`]). `bench-decide change HOSTS
//! COUNT` applies COUNT changes of one route to a view of so many hosts.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use ironmesh_model::policy::{DestinationPolicy, Distribution, Subset, TrafficPolicy};
use ironmesh_model::resource::Version;
use ironmesh_model::route::{Action, Backend, Match, Route, Rule};
use ironmesh_model::service::{
    Discovery, Endpoint, EndpointAddress, PortMap, Protocol, Service, ServicePort, UpstreamTls,
};
use ironmesh_model::snapshot::{
    DestinationPolicySource, Objects, Reach, RouteFields, RouteSource, ServiceSource, Subscriber,
};
use ironmesh_model::text_match::TextMatch;
use ironmesh_model::view::{Body, Change};
use ironmesh_model::{
    Connection, Draw, FindingCode, HeaderLookup, Labels, ListenerKind, Local, ObjectId, Plan,
    Request, ResourceKey, Seen, ServiceId, Silent, Snapshot, Traffic, View, WorkloadId, decide,
};

mod many;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [count] => few(count.parse().context("COUNT")?),
        [change, hosts, count] if change == "change" => {
            many::change(hosts.parse().context("HOSTS")?, count.parse().context("COUNT")?)
        }
        [case, first, last] => {
            let (first, last) = (first.parse().context("FIRST")?, last.parse().context("LAST")?);
            many::run(case.parse()?, first, last)
        }
        _ => anyhow::bail!("usage: bench-decide COUNT | CASE FIRST LAST | change HOSTS COUNT"),
    }
}

fn few(count: u64) -> anyhow::Result<()> {
    let mut proxy = Proxy::new(objects(), "default", labels("client"))?;
    let local = proxy.local.clone();
    let user = Headers(vec![("end-user".to_owned(), "jason".to_owned())]);
    let nobody = Headers(Vec::new());
    let requests = [("/reviews/0", &user), ("/reviews/1", &nobody), ("/health", &nobody)];
    for number in 0..count {
        let (path, headers) = requests[(number % 3) as usize];
        let traffic = traffic(&local, path, headers);
        proxy.decide(&traffic, number);
    }
    Ok(())
}

/// A proxy that gets what it asks for from a snapshot.
struct Proxy {
    snapshot: Snapshot,
    local: Local,
    view: View,
    held: BTreeSet<ResourceKey>,
}

impl Proxy {
    fn new(objects: Objects, namespace: &str, labels: Labels) -> anyhow::Result<Self> {
        let (snapshot, mut findings) = Snapshot::new(objects);
        // The gateway has no workload here.
        findings.retain(|finding| finding.code != FindingCode::NothingSelected);
        anyhow::ensure!(findings.is_empty(), "the fixed configuration has findings: {findings:?}");
        let local = Local { namespace: namespace.into(), labels };
        Ok(Self { snapshot, local, view: View::default(), held: BTreeSet::new() })
    }

    /// Decides the request of this number. Returns the index of the winning rule's route and its own.
    fn decide(&mut self, traffic: &Traffic<'_>, number: u64) -> Option<(u32, u32)> {
        let draw = Draw(number.wrapping_mul(SPREAD));
        loop {
            let decision = decide(&self.view, traffic, draw, &mut Silent);
            let decision = std::hint::black_box(decision);
            match decision.plan {
                Plan::Needs(key) => self.ask(key),
                _ => return decision.rule.map(|at| (at.route, at.rule)),
            }
        }
    }

    /// Takes a resource and all that it refers to.
    fn ask(&mut self, key: ResourceKey) {
        let Local { namespace, labels } = self.local.clone();
        let subscriber = Subscriber { namespace, labels, addresses: Vec::new() };
        let mut asked = vec![key];
        let mut changes = Vec::new();
        while let Some(key) = asked.pop() {
            if !self.held.insert(key.clone()) {
                continue;
            }
            let resource = self.snapshot.resource(&key, &subscriber);
            asked.extend(resource.iter().flat_map(|resource| self.snapshot.references(resource)));
            let body = resource.map_or(Body::Nothing, Body::Is);
            changes.push(Change { key, version: Version::default(), body });
        }
        self.view = self.view.apply(changes).0;
    }
}

/// Makes draws of numbers that follow each other unlike.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

fn traffic<'a>(local: &'a Local, path: &'a str, headers: &'a Headers) -> Traffic<'a> {
    let connection = Connection {
        listener: ListenerKind::Outbound,
        local,
        destination: SocketAddr::from((ADDRESS, 9080)),
        peer: Seen::Absent,
        server_name: Seen::Absent,
    };
    let request = Request {
        method: "GET",
        scheme: "http",
        authority: "reviews:9080",
        path,
        query: None,
        headers,
    };
    Traffic::Request(connection, request)
}

/// Headers of a request.
struct Headers(Vec<(String, String)>);

impl HeaderLookup for Headers {
    fn value(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        let found = self.0.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.as_str().into())
    }
}

/// A service with two versions: one user goes to the second, others by weight, `/health` by default.
fn objects() -> Objects {
    let service = Service {
        discovery: Discovery::Endpoints,
        distribution: Distribution::Any,
        certificate_names: Vec::new(),
        id: ServiceId { namespace: "default".into(), hostname: HOST.into() },
        name: "reviews".into(),
        addresses: vec![ADDRESS.into()],
        headless: false,
        ports: vec![ServicePort { number: 9080, name: "http".into(), protocol: Protocol::Http }],
        endpoint_chunks: Vec::new(),
    };
    let subset = |name: &str| Subset {
        name: name.into(),
        labels: [("version", name)].into_iter().collect(),
        traffic: TrafficPolicy::default(),
    };
    let policy = DestinationPolicy {
        id: ObjectId::new("DestinationRule", "default", "reviews"),
        traffic: None,
        subsets: vec![subset("v1"), subset("v2")],
        fills: false,
    };
    Objects {
        services: vec![ServiceSource {
            service,
            endpoints: vec![endpoint("v1", 1), endpoint("v2", 2)],
            reach: Reach::default(),
        }],
        destination_policies: vec![DestinationPolicySource {
            policy,
            credentials: Vec::new(),
            host: HOST.into(),
            export_to: Vec::new(),
            selector: None,
            created: 0,
            mutual_tls_at: Vec::new(),
        }],
        routes: vec![route()],
        ..Objects::default()
    }
}

fn route() -> RouteSource {
    let backend = |subset: &str, weight| Backend {
        subset: Some(subset.into()),
        weight,
        ..Backend::to(HOST, None)
    };
    let rule = |matched: Match, backends| Rule {
        matches: vec![matched],
        action: Action::Forward(backends),
        ..Rule::default()
    };
    let path = |prefix: &str| Some(TextMatch::Prefix(prefix.into()));
    let jason = Match {
        path: path("/reviews"),
        headers: vec![("end-user".into(), TextMatch::Exact("jason".into()))],
        ..Match::default()
    };
    let all = Match { path: path("/reviews"), ..Match::default() };
    RouteSource {
        route: Route {
            id: ObjectId::new("VirtualService", "default", "reviews"),
            rules: vec![
                rule(jason, vec![backend("v2", 1)]),
                rule(all, vec![backend("v1", 80), backend("v2", 20)]),
                rule(Match::default(), vec![backend("v1", 1)]),
            ],
            connection_rules: Vec::new(),
        },
        hosts: vec![HOST.into()],
        gateways: vec!["mesh".into()],
        export_to: Vec::new(),
        delegations: Vec::new(),
        created: 0,
        precedence: None,
        found: Vec::new(),
        fields: RouteFields::VIRTUAL_SERVICE,
    }
}

fn endpoint(version: &str, last: u8) -> Endpoint {
    Endpoint {
        id: version.into(),
        address: EndpointAddress::Ip(Ipv4Addr::new(10, 77, 0, last).into()),
        ports: vec![PortMap { service: 9080, target: 9080 }],
        labels: [("app", "reviews"), ("version", version)].into_iter().collect(),
        workload: WorkloadId {
            cluster: "Kubernetes".into(),
            namespace: "default".into(),
            name: version.into(),
            uid: version.into(),
        },
        owner: "reviews".into(),
        tls: UpstreamTls::None,
        tls_at: Vec::new(),
        ready: true,
        weight: 1,
        network: "".into(),
        cluster: "Kubernetes".into(),
        locality: "".into(),
        node: "".into(),
    }
}

fn labels(app: &str) -> Labels {
    [("app", app)].into_iter().collect()
}

const HOST: &str = "reviews.default.svc.cluster.local";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
