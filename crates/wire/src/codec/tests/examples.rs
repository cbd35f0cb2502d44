//! One resource of each shape, with every field in use somewhere.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_model::chunk::Chunk;
use ironmesh_model::credential::{Certificate, ClientCredential};
use ironmesh_model::draw::Share;
use ironmesh_model::listeners::{
    ClientCertificate, Domains, GatewayListener, GatewayProtocol, ListenerServer, Listeners,
    ServerTls, Termination, TlsVersion,
};
use ironmesh_model::log_format::LogFormat;
use ironmesh_model::policy::{
    Balance, Balancer, ClientTls, ConnectionPool, DestinationPolicy, Distribute, Distribution,
    Failover, HashBalance, HashCookie, HashKey, HashTable, Http2Keepalive, InboundPart,
    InboundPolicy, Keepalive, LocalityBalance, MtlsMode, OutlierDetection, Policy, PortPolicy,
    ProxyProtocol, RetryBudget, Subset, TlsMode, TrafficPolicy, Tunnel, Warmup, ZoneAware,
};
use ironmesh_model::resource::{
    Applies, DefaultBackend, Destination, InboundPort, Join, Resolution,
};
use ironmesh_model::retry::{Retry, RetryCondition, RetryOn};
use ironmesh_model::route::{
    Abort, AbortStatus, Action, Backend, ConnectionMatch, ConnectionRule, Cors, Delay,
    DirectResponse, Faults, HeaderOp, HeaderOps, Match, Mirror, PathRewrite, Redirect,
    RedirectPath, RedirectPort, Rewrite, Route, Rule,
};
use ironmesh_model::service::{
    Discovery, Endpoint, EndpointAddress, Endpoints, PortMap, PortTls, Protocol, Service,
    ServicePort, UpstreamTls, Workload,
};
use ironmesh_model::settings::{AccessLogEncoding, IngressControl, OutboundPolicy, Settings};
use ironmesh_model::text_match::TextMatch;
use ironmesh_model::topology::{ForwardClientCert, Topology};
use ironmesh_model::{
    Identity, Labels, ListenerKind, ObjectId, ResolutionKey, Resource, ResourceKey, ServiceId,
    Target, WorkloadId,
};

pub(super) fn resources() -> Vec<(&'static str, Resource)> {
    vec![
        ("settings, default", Resource::Settings(Settings::default().into())),
        ("settings, all other", Resource::Settings(other_settings().into())),
        ("listeners, none", Resource::Listeners(Listeners::default().into())),
        ("listeners", Resource::Listeners(listeners().into())),
        ("resolution, absent", Resource::Resolution(Resolution::Absent.into())),
        ("resolution", Resource::Resolution(Resolution::Present(applies().into()).into())),
        ("route", Resource::Route(route().into())),
        ("service", Resource::Service(service().into())),
        ("policy, destination", Resource::Policy(destination_policy().into())),
        ("policy, inbound", Resource::Policy(inbound_policy().into())),
        ("policy, inbound, of ports", Resource::Policy(inbound_policy_of_ports().into())),
        ("workload, nobody", Resource::Workload(None)),
        ("workload", Resource::Workload(Some(workload().into()))),
        ("workload, of ports", Resource::Workload(Some(workload_of_ports().into()))),
        ("endpoints", Resource::Endpoints(endpoints().into())),
        ("endpoints, of ports", Resource::Endpoints(endpoints_of_ports().into())),
        ("domains", Resource::Domains(domains().into())),
    ]
}

pub(super) fn keys() -> Vec<ResourceKey> {
    let resolution = |listener, target| {
        ResourceKey::Resolution(ResolutionKey { listener, target, namespace: "default".into() })
    };
    vec![
        ResourceKey::Settings,
        ResourceKey::Listeners,
        resolution(ListenerKind::Outbound, Target::Host("reviews".into(), 9080)),
        resolution(ListenerKind::Inbound, Target::Address(ip("10.77.0.7"), 9080)),
        resolution(ListenerKind::Gateway, Target::Host("bookinfo.example".into(), 80)),
        resolution(ListenerKind::Outbound, Target::Address(ip("fd00::7"), 443)),
        ResourceKey::Route(ObjectId::new("VirtualService", "default", "reviews")),
        ResourceKey::Service(reviews()),
        ResourceKey::Policy(ObjectId::new("DestinationRule", "default", "reviews")),
        ResourceKey::Workload(ip("10.77.0.7")),
        ResourceKey::Endpoints(reviews(), Chunk(6)),
        ResourceKey::Domains(80, Chunk(3)),
    ]
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn reviews() -> ServiceId {
    ServiceId { namespace: "default".into(), hostname: "reviews.default.svc.cluster.local".into() }
}

fn other_settings() -> Settings {
    Settings {
        outbound_policy: OutboundPolicy::RegistryOnly,
        access_log: false,
        access_log_encoding: AccessLogEncoding::Json,
        access_log_format: LogFormat::parse(r#"{"code": "%RESPONSE_CODE%"}"#).unwrap(),
        certificate_ttl: Duration::from_secs(30),
        trust_domain: "example.org".into(),
        root_namespace: "mesh".into(),
        detect_timeout: Duration::from_millis(100),
        connect_timeout: Duration::from_secs(1),
        drain_duration: Duration::from_secs(45),
        mtls_mode: MtlsMode::Strict,
        gateway_proxy_protocol: true,
        gateway_topology: Topology {
            trusted_proxies: 2,
            client_cert: ForwardClientCert::AppendForward,
        },
        locality: every_locality_field().into(),
        // Proxies are not told of it.
        ingress: IngressControl::default(),
    }
}

fn listeners() -> Listeners {
    let listener = GatewayListener {
        port: 80,
        name: "http".into(),
        protocol: GatewayProtocol::Http,
        domain_chunks: vec![Chunk(2), Chunk(3)],
        servers: Vec::new(),
    };
    let termination = Termination {
        from: "Secret istio-system/shop".into(),
        certificates: vec![Certificate { chain: "chain".into(), key: "key".into() }],
        client: ClientCertificate::Required,
        trusted: Some("authorities".into()),
        revoked: Some("revoked".into()),
        names: vec!["me.example.com".into()],
        key_hashes: vec!["a".into()],
        certificate_hashes: vec!["b".into()],
        lowest: TlsVersion::V12,
        highest: TlsVersion::V13,
    };
    let server = |tls| ListenerServer {
        gateway: "default/shop".into(),
        hosts: vec!["shop.example.com".into()],
        http: false,
        tls,
        redirect_to: None,
    };
    let tls = [
        ServerTls::Terminate(Box::new(termination)),
        ServerTls::Mesh,
        ServerTls::Passthrough,
        ServerTls::AutoPassthrough,
    ];
    let at_443 = GatewayListener {
        port: 443,
        protocol: GatewayProtocol::Tls,
        servers: tls.into_iter().map(|tls| server(Some(tls))).collect(),
        ..listener.clone()
    };
    let redirects = ListenerServer { http: true, redirect_to: Some(443), ..server(None) };
    let at_81 = GatewayListener { port: 81, servers: vec![redirects], ..listener.clone() };
    let at_82 = GatewayListener { port: 82, protocol: GatewayProtocol::Tcp, ..listener.clone() };
    Listeners { listeners: vec![listener, at_81, at_82, at_443] }
}

fn domains() -> Domains {
    Domains { port: 80, chunk: Chunk(3), domains: vec!["*".into(), "*.example.com".into()] }
}

fn applies() -> Applies {
    Applies {
        protocol: Protocol::Http,
        service: Some(reviews()),
        default_backend: Some(DefaultBackend {
            host: reviews().hostname,
            port: 9080,
            subset: Some("v1".into()),
        }),
        routes: vec![ObjectId::new("VirtualService", "default", "reviews")],
        join: Join::CatchAllLast,
        attached_to: vec!["mesh".into(), "default/bookinfo-gateway".into()],
        destinations: vec![
            Destination {
                host: reviews().hostname,
                service: Some(reviews()),
                policies: vec![ObjectId::new("DestinationRule", "default", "reviews")],
                credentials: vec![ClientCredential {
                    name: "reviews-tls".into(),
                    certificate: Some(Certificate { chain: "chain".into(), key: "key".into() }),
                    trusted: Some("authorities".into()),
                    revoked: Some("revoked".into()),
                }],
            },
            Destination {
                host: "nowhere".into(),
                service: None,
                policies: Vec::new(),
                credentials: Vec::new(),
            },
        ],
        inbound_policies: vec![ObjectId::new("PeerAuthentication", "default", "strict")],
        inbound_ports: vec![InboundPort {
            number: 9080,
            protocol: Protocol::Http,
            service: Some(reviews()),
            to: Some("127.0.0.1:8080".parse().unwrap()),
            pool: None,
        }],
        by_server_name: vec![DefaultBackend {
            host: "*.example.com".into(),
            port: 443,
            subset: None,
        }],
        member: Some(ip("10.77.0.7")),
    }
}

fn route() -> Route {
    let exact = |text: &str| Some(TextMatch::Exact(text.into()));
    let change = HeaderOp {
        set: vec![("x-a".into(), "1".into())],
        add: vec![("x-b".into(), "2".into())],
        remove: vec!["x-c".into()],
    };
    let headers = HeaderOps { request: change.clone(), response: change };
    let everything = Match {
        name: "all".into(),
        path: Some(TextMatch::Prefix("/api".into())),
        ignore_path_case: true,
        scheme: exact("https"),
        method: exact("GET"),
        authority: Some(TextMatch::Regex(".*\\.example".into())),
        headers: vec![("end-user".into(), TextMatch::Exact("jason".into()))],
        without_headers: vec![("x-bot".into(), TextMatch::Present)],
        query: vec![("v".into(), TextMatch::Exact("2".into()))],
        source_labels: [("app", "productpage")].into_iter().collect(),
        source_namespace: Some("default".into()),
        gateways: vec!["mesh".into()],
        port: Some(9080),
    };
    let backend = |subset: &str, weight| Backend {
        subset: Some(subset.into()),
        weight,
        ..Backend::to(reviews().hostname, Some(9080))
    };
    let first = Rule {
        place: String::new(),
        name: "first".into(),
        matches: vec![everything, Match::default()],
        action: Action::Forward(vec![
            backend("v1", 50),
            Backend { headers: headers.clone(), ..backend("v3", 50) },
        ]),
        retry: None,
        timeout: Some(Duration::from_millis(2_500)),
        rewrite: Some(Rewrite {
            path: Some(PathRewrite::Matched("/".into())),
            authority: Some("other".into()),
        }),
        headers,
        faults: None,
        cors: None,
        mirrors: Vec::new(),
    };
    let id = ObjectId::new("VirtualService", "default", "reviews");
    let connections = ConnectionRule {
        place: "tls[0]".into(),
        matches: vec![ConnectionMatch {
            server_names: vec!["*.example".into()],
            source_labels: [("app", "productpage")].into_iter().collect(),
            source_namespace: Some("default".into()),
            gateways: vec!["mesh".into()],
            port: Some(443),
            destinations: vec!["10.1.0.0/16".parse().unwrap()],
        }],
        backends: vec![backend("v3", 1)],
    };
    let rules =
        vec![first, Rule::default(), answering(), sent_elsewhere(), beside(&backend("v2", 1))];
    Route { id, rules, connection_rules: vec![connections] }
}

fn answering() -> Rule {
    let teapot = DirectResponse { status: 418, body: b"teapot".as_slice().into() };
    Rule {
        place: "1:default/answers#0".to_owned(),
        action: Action::Answer(teapot),
        retry: Some(Retry {
            attempts: 2,
            per_try_timeout: Some(Duration::from_millis(250)),
            on: vec![
                RetryOn::Condition(RetryCondition::GatewayError),
                RetryOn::Status(418),
                RetryOn::Grpc(14),
            ],
            backoff: Duration::from_millis(50),
            avoids_tried: false,
            leaves_localities: true,
        }),
        ..Rule::default()
    }
}

fn sent_elsewhere() -> Rule {
    let redirect = Redirect {
        status: 308,
        scheme: Some("https".into()),
        authority: Some("new.example".into()),
        port: Some(RedirectPort::Dialled),
        path: Some(RedirectPath::Prefix("/new".into())),
    };
    Rule { action: Action::Redirect(Box::new(redirect)), ..Rule::default() }
}

/// A rule with all that it can do beside forwarding.
fn beside(to: &Backend) -> Rule {
    let share = Share::of_percent(12.5);
    let delay = Delay { by: Duration::from_secs(7), share };
    let abort = Abort { with: AbortStatus::Grpc(14), share };
    let cors = Cors {
        allow_origins: vec![TextMatch::Exact("https://example.org".into())],
        allow_methods: Some("GET".into()),
        allow_headers: Some("x-own".into()),
        expose_headers: Some("x-shown".into()),
        max_age: Some(60),
        allow_credentials: true,
        answers_unmatched: true,
    };
    let pattern = PathRewrite::Regex { pattern: "^/a".into(), by: r"/\0".into() };
    Rule {
        faults: Some(Box::new(Faults { delay: Some(delay), abort: Some(abort) })),
        cors: Some(Box::new(cors)),
        mirrors: vec![Mirror { place: "mirror".into(), to: to.clone(), share }],
        rewrite: Some(Rewrite { path: Some(pattern), authority: None }),
        ..Rule::default()
    }
}

fn service() -> Service {
    let port = |number, name: &str, protocol| ServicePort { number, name: name.into(), protocol };
    Service {
        id: reviews(),
        name: "reviews".into(),
        addresses: vec![ip("10.96.0.12"), ip("fd00::12")],
        headless: true,
        ports: vec![
            port(9080, "http", Protocol::Http),
            port(9090, "grpc", Protocol::Grpc),
            port(1, "", Protocol::Undeclared),
        ],
        discovery: Discovery::FirstAddress,
        distribution: Distribution::SameNode,
        certificate_names: vec!["a.test".into()],
        endpoint_chunks: vec![Chunk(2), Chunk(6), Chunk(7)],
    }
}

fn every_locality_field() -> LocalityBalance {
    let to = [("eu/a/*".into(), 80), ("us".into(), 20)].into_iter().collect();
    LocalityBalance {
        enabled: true,
        distribute: vec![Distribute { from: "eu/*".into(), to }],
        failover: vec![Failover { from: "eu".into(), to: "us".into() }],
        failover_priority: vec!["topology.istio.io/network".into(), "a=b".into()],
        zone_aware: Some(ZoneAware { endpoints_min: 7 }),
    }
}

fn every_traffic_field() -> TrafficPolicy {
    let by_cookie = HashBalance {
        key: HashKey::Cookie(HashCookie {
            name: "session".into(),
            path: "/".into(),
            ttl: Some(Duration::from_secs(60)),
            attributes: vec![("SameSite".into(), "Lax".into())],
        }),
        table: HashTable::Ring { points_min: 1024 },
    };
    TrafficPolicy {
        balance: Some(Balance {
            by: Balancer::Hash(Box::new(by_cookie)),
            warmup: Some(Warmup {
                duration: Duration::from_secs(30),
                minimum: Share::of_percent(10.0),
                aggression_thousandths: 1500,
            }),
            locality: Some(every_locality_field().into()),
        }),
        outlier: Some(OutlierDetection {
            consecutive_5xx: 3,
            consecutive_gateway: 4,
            consecutive_local: Some(5),
            interval: Duration::from_secs(1),
            base_ejection: Duration::from_secs(30),
            max_ejection_percent: 50,
            min_health_percent: 20,
        }),
        pool: Some(ConnectionPool {
            connections_max: Some(1),
            connect_timeout: Some(Duration::from_secs(2)),
            keepalive: Some(Keepalive {
                probes: Some(3),
                time: Some(Duration::from_secs(4)),
                interval: Some(Duration::from_secs(5)),
            }),
            connection_age_max: Some(Duration::from_secs(6)),
            tcp_idle_timeout: Some(Duration::from_secs(7)),
            pending_max: Some(0),
            requests_max: Some(8),
            requests_per_connection_max: Some(9),
            retries_max: Some(10),
            http_idle_timeout: Some(Duration::ZERO),
            upgrade: Some(true),
            client_protocol: true,
            streams_max: Some(11),
            http2_keepalive: Some(Http2Keepalive {
                interval: Duration::from_secs(12),
                timeout: Duration::from_secs(13),
            }),
        }),
        retry_budget: Some(RetryBudget { share: Share::of_percent(12.5), retries_min: 12 }),
        tls: Some(ClientTls {
            mode: TlsMode::Mutual,
            sni: Some("example.com".into()),
            names: vec!["spiffe://a/b".into(), "example.org".into()],
            skip_verify: true,
            certificate_file: Some("/etc/certs/own.pem".into()),
            key_file: Some("/etc/certs/own.key".into()),
            trusted_file: Some("/etc/certs/ca.pem".into()),
            revoked_file: Some("/etc/certs/crl.pem".into()),
            credential: Some(Box::new(ClientCredential {
                name: "own".into(),
                ..ClientCredential::default()
            })),
        }),
        proxy_protocol: Some(ProxyProtocol::V2),
        tunnel: Some(Tunnel { host: "far.example".into(), port: 443 }),
        ports: Vec::new(),
    }
}

fn destination_policy() -> Policy {
    let subset = |name: &str, traffic| Subset {
        name: name.into(),
        labels: [("version", name)].into_iter().collect(),
        traffic,
    };
    let nothing = TrafficPolicy::default();
    let everything = every_traffic_field();
    let at_port = |traffic: &TrafficPolicy| TrafficPolicy {
        ports: vec![
            PortPolicy { port: 9080, traffic: traffic.clone() },
            PortPolicy { port: 1, traffic: TrafficPolicy::default() },
        ],
        ..traffic.clone()
    };
    Policy::Destination(DestinationPolicy {
        id: ObjectId::new("DestinationRule", "default", "reviews"),
        traffic: Some(at_port(&everything)),
        subsets: vec![
            subset("v1", nothing.clone()),
            subset("v2", everything),
            Subset { name: "all".into(), labels: Labels::default(), traffic: nothing },
        ],
        fills: false,
    })
}

fn inbound_policy() -> Policy {
    Policy::Inbound(InboundPolicy {
        id: ObjectId::new("PeerAuthentication", "default", "default"),
        mtls: Some(MtlsMode::Strict),
        parts: Vec::new(),
    })
}

fn inbound_policy_of_ports() -> Policy {
    let port =
        |port: u16, mtls| InboundPart { workloads: Labels::default(), port: Some(port), mtls };
    let parts = vec![
        port(8080, MtlsMode::Disable),
        port(9090, MtlsMode::Permissive),
        InboundPart {
            workloads: [("app", "reviews")].into_iter().collect(),
            port: None,
            mtls: MtlsMode::Strict,
        },
    ];
    let id = ObjectId::new("PeerAuthentication", "default", "reviews");
    Policy::Inbound(InboundPolicy { id, mtls: None, parts })
}

fn workload_id() -> WorkloadId {
    WorkloadId {
        cluster: "Kubernetes".into(),
        namespace: "default".into(),
        name: "reviews-v1-6b5f".into(),
        uid: "3e1d".into(),
    }
}

fn identity() -> Identity {
    "spiffe://cluster.local/ns/default/sa/bookinfo-reviews".parse().unwrap()
}

fn workload() -> Workload {
    Workload {
        id: workload_id(),
        owner: "reviews-v1".into(),
        identity: identity(),
        labels: [("app", "reviews"), ("version", "v1")].into_iter().collect(),
        meshed: true,
        tls: UpstreamTls::Mesh(identity()),
        tls_at: Vec::new(),
        locality: "eu/a/1".into(),
        network: "n".into(),
        node: "node-1".into(),
    }
}

fn workload_of_ports() -> Workload {
    Workload { tls_at: plaintext_at(8080), ..workload() }
}

fn plaintext_at(port: u16) -> Vec<PortTls> {
    vec![PortTls { port, tls: UpstreamTls::None }]
}

fn endpoints_of_ports() -> Endpoints {
    let mut endpoints = endpoints();
    endpoints.endpoints.truncate(1);
    Arc::make_mut(&mut endpoints.endpoints[0]).tls_at = plaintext_at(9081);
    endpoints
}

fn endpoints() -> Endpoints {
    let meshed = Endpoint {
        id: "3e1d".into(),
        address: EndpointAddress::Ip(ip("10.77.0.7")),
        ports: vec![PortMap { service: 9080, target: 9081 }],
        labels: [("app", "reviews"), ("version", "v1")].into_iter().collect(),
        workload: workload_id(),
        owner: "reviews-v1".into(),
        tls: UpstreamTls::Mesh(identity()),
        tls_at: Vec::new(),
        ready: true,
        weight: 1,
        network: "".into(),
        cluster: "Kubernetes".into(),
        locality: "eu/a/1".into(),
        node: "node-1".into(),
    };
    let external = Endpoint {
        id: "external".into(),
        address: EndpointAddress::Dns("api.example".into()),
        tls: UpstreamTls::None,
        tls_at: Vec::new(),
        ready: false,
        weight: 0,
        network: "outside".into(),
        ..meshed.clone()
    };
    let remote = Endpoint {
        id: "remote".into(),
        address: EndpointAddress::Gateway(ip("192.0.2.1"), "reviews.remote".into()),
        ..meshed.clone()
    };
    Endpoints {
        service: reviews(),
        chunk: Chunk(6),
        endpoints: [meshed, external, remote].map(Arc::new).into(),
    }
}
