//! A control plane with a fixed configuration, for measuring proxies alone: the real push protocol
//! and authority, with a snapshot of one service and one gateway route.
//!
//! `bench-control LISTEN DIRECTORY ENDPOINT TLS GATEWAY_PORT [policies]` serves at LISTEN, writes `anchors.pem`
//! to DIRECTORY once it does, and knows one service, `echo.default`, with ENDPOINT (`ADDRESS:PORT`)
//! as its only endpoint, spoken to in TLS (`plaintext` or `mutual`). A proxy's token is its name:
//! `gateway`, which routes all hosts on GATEWAY_PORT to the service, or `client` or `server`. With
//! `policies` the routes have a timeout and retries, and the service has outlier detection and limits
//! of connections, none of which ever acts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ironmesh_identity::channel::ControlServer;
use ironmesh_identity::{Authority, Clock, SystemClock};
use ironmesh_model::bootstrap::ProxyKind;
use ironmesh_model::limits::WireLimits;
use ironmesh_model::listeners::GatewayProtocol;
use ironmesh_model::policy::{
    ConnectionPool, DestinationPolicy, Distribution, OutlierDetection, TrafficPolicy,
};
use ironmesh_model::retry::{Retry, RetryCondition, RetryOn};
use ironmesh_model::route::{self, Action, Route, Rule};
use ironmesh_model::service::{
    Discovery, Endpoint, EndpointAddress, PortMap, Protocol, Service, ServicePort, UpstreamTls,
    Workload,
};
use ironmesh_model::settings::Settings;
use ironmesh_model::snapshot::{
    DestinationPolicySource, GatewayServer, GatewaySource, Objects, Reach, RouteFields,
    RouteSource, ServiceSource, Subscriber, Touched,
};
use ironmesh_model::{Identity, Labels, ObjectId, ServiceId, Snapshot, WorkloadId};
use ironmesh_wire::Certificate;
use ironmesh_wire::server::{Backend, Peer, Server};
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (policies, arguments) = match arguments.split_last() {
        Some((last, others)) if last == "policies" => (true, others),
        _ => (false, &arguments[..]),
    };
    let [listen, directory, endpoint, tls, gateway_port] = arguments else {
        anyhow::bail!("usage: bench-control LISTEN DIRECTORY ENDPOINT TLS GATEWAY_PORT [policies]");
    };
    let meshed = match &**tls {
        "plaintext" => false,
        "mutual" => true,
        other => anyhow::bail!("TLS is `plaintext` or `mutual`, not {other:?}"),
    };
    let clock = Arc::new(SystemClock);
    let authority = Arc::new(Authority::create(clock.now())?);
    let own = identity("istiod", "istio-system");
    let tls = ControlServer::new(authority.clone(), own, clock)?;
    let server = Server::new(Fixed { authority: authority.clone() }, WireLimits::default());
    let (snapshot, findings) =
        Snapshot::new(objects(endpoint.parse()?, meshed, gateway_port.parse()?, policies));
    anyhow::ensure!(findings.is_empty(), "the fixed configuration has findings: {findings:?}");
    server.publish(Arc::new(snapshot), &Touched::everything());

    let listener = TcpListener::bind(listen).await.with_context(|| listen.clone())?;
    std::fs::write(Path::new(directory).join("anchors.pem"), authority.anchors_pem())?;
    loop {
        let (stream, from) = listener.accept().await?;
        let (tls, server) = (tls.clone(), server.clone());
        tokio::spawn(async move {
            if let Ok(stream) = tls.accept(stream).await {
                let _ = server.serve(stream, from.ip()).await;
            }
        });
    }
}

#[derive(Debug)]
struct Fixed {
    authority: Arc<Authority>,
}

impl Backend for Fixed {
    type Source = Snapshot;

    async fn authenticate(&self, token: &str, _from: std::net::IpAddr) -> Result<Peer, String> {
        let gateway = token == "gateway";
        let kind = if gateway { ProxyKind::Gateway } else { ProxyKind::Sidecar };
        Ok(Peer {
            workload: workload(token),
            identity: identity(token, "default"),
            kind,
            subscriber: Subscriber {
                namespace: "default".into(),
                labels: labels(token),
                addresses: Vec::new(),
            },
        })
    }

    async fn sign(&self, peer: &Peer, csr_der: &[u8]) -> Result<Certificate, String> {
        let ttl = Duration::from_secs(3600);
        let issued = self
            .authority
            .sign(csr_der, &peer.identity, ttl, SystemClock.now())
            .map_err(|error| error.to_string())?;
        Ok(Certificate {
            chain: issued.chain,
            anchors_pem: issued.anchors_pem,
            not_after: issued.not_after.unix_seconds(),
        })
    }
}

fn objects(endpoint: SocketAddr, meshed: bool, gateway_port: u16, policies: bool) -> Objects {
    let tls = |name| match meshed {
        true => UpstreamTls::Mesh(identity(name, "default")),
        false => UpstreamTls::None,
    };
    let port = endpoint.port();
    let id = ServiceId { namespace: "default".into(), hostname: HOST.into() };
    let service = Service {
        discovery: Discovery::Endpoints,
        distribution: Distribution::Any,
        certificate_names: Vec::new(),
        id,
        name: "echo".into(),
        addresses: vec![Ipv4Addr::new(10, 96, 0, 1).into()],
        headless: false,
        ports: vec![ServicePort { number: port, name: "http".into(), protocol: Protocol::Http }],
        endpoint_chunks: Vec::new(),
    };
    let endpoint = Endpoint {
        id: "server".into(),
        address: EndpointAddress::Ip(endpoint.ip()),
        ports: vec![PortMap { service: port, target: port }],
        labels: labels("server"),
        workload: workload("server"),
        owner: "server".into(),
        tls: tls("server"),
        tls_at: Vec::new(),
        ready: true,
        weight: 1,
        network: "".into(),
        cluster: "Kubernetes".into(),
        locality: "".into(),
        node: "".into(),
    };
    let workloads = [(1, "client"), (2, "server"), (3, "gateway")].map(|(last, name)| {
        let workload = Workload {
            id: workload(name),
            owner: name.into(),
            identity: identity(name, "default"),
            labels: labels(name),
            meshed,
            tls: tls(name),
            tls_at: Vec::new(),
            locality: "".into(),
            network: "".into(),
            node: "".into(),
        };
        (Ipv4Addr::new(10, 88, 0, last).into(), workload)
    });
    Objects {
        settings: Settings { access_log: false, ..Settings::default() },
        services: vec![ServiceSource {
            service,
            endpoints: vec![endpoint],
            reach: Reach::default(),
        }],
        workloads: workloads.into(),
        routes: routes(port, policies),
        destination_policies: policies.then(destination_policy).into_iter().collect(),
        gateways: vec![gateway(gateway_port)],
        ..Objects::default()
    }
}

fn gateway(port: u16) -> GatewaySource {
    GatewaySource {
        id: ObjectId::new("Gateway", "default", "edge"),
        selector: labels("gateway"),
        servers: vec![GatewayServer {
            port,
            name: "http".into(),
            protocol: GatewayProtocol::Http,
            hosts: vec![(None, "*".into())],
            tls: None,
            redirects: false,
        }],
        created: 0,
    }
}

/// All that comes to the gateway goes to the service; in the mesh, too, if there are policies.
fn routes(port: u16, policies: bool) -> Vec<RouteSource> {
    let backend = route::Backend::to(HOST, Some(port));
    let retry = Retry {
        attempts: 3,
        per_try_timeout: Some(Duration::from_secs(5)),
        on: vec![
            RetryOn::Condition(RetryCondition::GatewayError),
            RetryOn::Condition(RetryCondition::ConnectFailure),
            RetryOn::Condition(RetryCondition::RefusedStream),
        ],
        ..Retry::default()
    };
    let rule = Rule {
        action: Action::Forward(vec![backend]),
        timeout: policies.then_some(Duration::from_secs(15)),
        retry: policies.then_some(retry),
        ..Rule::default()
    };
    let route = |name, host: &str, gateway: &str| RouteSource {
        route: Route {
            id: ObjectId::new("VirtualService", "default", name),
            rules: vec![rule.clone()],
            connection_rules: Vec::new(),
        },
        hosts: vec![host.into()],
        gateways: vec![gateway.into()],
        export_to: Vec::new(),
        delegations: Vec::new(),
        created: 0,
        precedence: None,
        found: Vec::new(),
        fields: RouteFields::VIRTUAL_SERVICE,
    };
    let mut routes = vec![route("edge", "*", "default/edge")];
    if policies {
        routes.push(route("mesh", HOST, "mesh"));
    }
    routes
}

fn destination_policy() -> DestinationPolicySource {
    let traffic = TrafficPolicy {
        outlier: Some(OutlierDetection::default()),
        pool: Some(ConnectionPool {
            connections_max: Some(1_000),
            pending_max: Some(1_000),
            requests_max: Some(1_000),
            ..ConnectionPool::default()
        }),
        ..TrafficPolicy::default()
    };
    DestinationPolicySource {
        policy: DestinationPolicy {
            id: ObjectId::new("DestinationRule", "default", "echo"),
            traffic: Some(traffic),
            subsets: Vec::new(),
            fills: false,
        },
        host: HOST.into(),
        export_to: Vec::new(),
        selector: None,
        created: 0,
        mutual_tls_at: Vec::new(),
        credentials: Vec::new(),
    }
}

fn workload(name: &str) -> WorkloadId {
    WorkloadId {
        cluster: "Kubernetes".into(),
        namespace: "default".into(),
        name: name.into(),
        uid: name.into(),
    }
}

fn identity(service_account: &str, namespace: &str) -> Identity {
    Identity {
        trust_domain: "cluster.local".into(),
        namespace: namespace.into(),
        service_account: service_account.into(),
    }
}

fn labels(app: &str) -> Labels {
    [("app", app)].into_iter().collect()
}

const HOST: &str = "echo.default.svc.cluster.local";
