//! Any resource and any key.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ironmesh_model::chunk::Chunk;
use ironmesh_model::credential::ClientCredential;
use ironmesh_model::draw::Share;
use ironmesh_model::listeners::{Domains, GatewayListener, GatewayProtocol, Listeners};
use ironmesh_model::log_format::LogFormat;
use ironmesh_model::network::Network;
use ironmesh_model::policy::{
    ClientTls, ConnectionPool, DestinationPolicy, Distribution, Http2Keepalive, InboundPart,
    InboundPolicy, Keepalive, MtlsMode, OutlierDetection, Policy, PortPolicy, RetryBudget, Subset,
    TlsMode, TrafficPolicy,
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
    Discovery, Endpoint, EndpointAddress, Endpoints, NamedMember, PortMap, PortTls, Protocol,
    Service, ServicePort, UpstreamTls, Workload,
};
use ironmesh_model::settings::{AccessLogEncoding, IngressControl, OutboundPolicy, Settings};
use ironmesh_model::text_match::TextMatch;
use ironmesh_model::topology::{ForwardClientCert, Topology};
use ironmesh_model::{
    Identity, Labels, ListenerKind, Name, ObjectId, ResolutionKey, Resource, ResourceKey,
    ServiceId, Target, WorkloadId,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

mod balance;

pub(super) fn resource() -> impl Strategy<Value = Resource> {
    prop_oneof![
        settings().prop_map(|s| Resource::Settings(s.into())),
        listeners().prop_map(|l| Resource::Listeners(l.into())),
        domains().prop_map(|d| Resource::Domains(d.into())),
        resolution().prop_map(|r| Resource::Resolution(r.into())),
        route().prop_map(|r| Resource::Route(r.into())),
        service().prop_map(|s| Resource::Service(s.into())),
        policy().prop_map(|p| Resource::Policy(p.into())),
        of(workload()).prop_map(|w| Resource::Workload(w.map(Into::into))),
        endpoints().prop_map(|e| Resource::Endpoints(e.into())),
    ]
}

pub(super) fn key() -> impl Strategy<Value = ResourceKey> {
    let listener =
        select(vec![ListenerKind::Outbound, ListenerKind::Inbound, ListenerKind::Gateway]);
    let target = prop_oneof![
        (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| Target::Address(ip, port)),
        (name(), any::<u16>()).prop_map(|(host, port)| Target::Host(host, port)),
    ];
    prop_oneof![
        Just(ResourceKey::Settings),
        Just(ResourceKey::Listeners),
        (listener, target, name()).prop_map(|(listener, target, namespace)| {
            ResourceKey::Resolution(ResolutionKey { listener, target, namespace })
        }),
        object().prop_map(ResourceKey::Route),
        service_id().prop_map(ResourceKey::Service),
        object().prop_map(ResourceKey::Policy),
        any::<IpAddr>().prop_map(ResourceKey::Workload),
        (service_id(), chunk()).prop_map(|(id, chunk)| ResourceKey::Endpoints(id, chunk)),
        (any::<u16>(), chunk()).prop_map(|(port, chunk)| ResourceKey::Domains(port, chunk)),
    ]
}

fn name() -> impl Strategy<Value = Name> + Clone {
    prop_oneof![3 => "[a-z0-9.*/-]{0,12}", 1 => "\\PC{0,6}"].prop_map(Name::from).boxed()
}

fn names() -> impl Strategy<Value = Vec<Name>> {
    vec(name(), 0..3)
}

fn labels() -> impl Strategy<Value = Labels> {
    vec((name(), name()), 0..4).prop_map(|pairs| pairs.into_iter().collect())
}

fn object() -> impl Strategy<Value = ObjectId> + Clone {
    (name(), name(), name()).prop_map(|(kind, namespace, name)| ObjectId { kind, namespace, name })
}

fn service_id() -> impl Strategy<Value = ServiceId> + Clone {
    (name(), name()).prop_map(|(namespace, hostname)| ServiceId { namespace, hostname })
}

fn workload_id() -> impl Strategy<Value = WorkloadId> {
    (name(), name(), name(), name()).prop_map(|(cluster, namespace, name, uid)| WorkloadId {
        cluster,
        namespace,
        name,
        uid,
    })
}

fn identity() -> impl Strategy<Value = Identity> {
    (name(), name(), name()).prop_map(|(trust_domain, namespace, service_account)| Identity {
        trust_domain,
        namespace,
        service_account,
    })
}

fn duration() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_nanos)
}

fn protocol() -> impl Strategy<Value = Protocol> {
    use Protocol::{Grpc, Http, Http2, Tcp, Tls, Undeclared};
    select(vec![Undeclared, Http, Http2, Grpc, Tcp, Tls])
}

fn mtls() -> impl Strategy<Value = MtlsMode> {
    select(vec![MtlsMode::Permissive, MtlsMode::Strict, MtlsMode::Disable])
}

fn settings() -> impl Strategy<Value = Settings> {
    let words = (
        select(vec![OutboundPolicy::AllowAny, OutboundPolicy::RegistryOnly]),
        any::<bool>(),
        (select(vec![AccessLogEncoding::Text, AccessLogEncoding::Json]), log_format()),
        name(),
        name(),
        mtls(),
        any::<bool>(),
        topology(),
        balance::locality(),
    );
    (words, duration(), duration(), duration(), duration()).prop_map(
        |(words, certificate_ttl, detect_timeout, connect_timeout, drain_duration)| {
            let (
                outbound_policy,
                access_log,
                (access_log_encoding, access_log_format),
                trust_domain,
                root_namespace,
                mtls_mode,
                gateway_proxy_protocol,
                gateway_topology,
                locality,
            ) = words;
            Settings {
                outbound_policy,
                access_log,
                access_log_encoding,
                access_log_format,
                certificate_ttl,
                trust_domain,
                root_namespace,
                detect_timeout,
                connect_timeout,
                drain_duration,
                mtls_mode,
                gateway_proxy_protocol,
                gateway_topology,
                locality: locality.into(),
                // Proxies are not told of it.
                ingress: IngressControl::default(),
            }
        },
    )
}

fn log_format() -> impl Strategy<Value = LogFormat> {
    let sources = ["", "plain", "%PROTOCOL% %REQ(a?b):3%\n", r#"{"a": ["%DURATION%"]}"#];
    select(sources.map(|source| LogFormat::parse(source).unwrap()).to_vec())
}

fn topology() -> impl Strategy<Value = Topology> {
    let client_cert = select(ForwardClientCert::WORDS.map(|(own, _)| own).to_vec());
    (any::<u32>(), client_cert)
        .prop_map(|(trusted_proxies, client_cert)| Topology { trusted_proxies, client_cert })
}

fn chunk() -> impl Strategy<Value = Chunk> {
    any::<u32>().prop_map(Chunk)
}

fn domains() -> impl Strategy<Value = Domains> {
    (any::<u16>(), chunk(), names()).prop_map(|(port, chunk, domains)| Domains {
        port,
        chunk,
        domains,
    })
}

fn listeners() -> impl Strategy<Value = Listeners> {
    let listener = (any::<u16>(), name(), vec(chunk(), 0..3)).prop_map(|(port, name, chunks)| {
        let protocol = GatewayProtocol::Http;
        GatewayListener { port, name, protocol, domain_chunks: chunks, servers: Vec::new() }
    });
    vec(listener, 0..4).prop_map(|listeners| Listeners { listeners })
}

fn resolution() -> impl Strategy<Value = Resolution> {
    let destination =
        (name(), of(service_id()), vec(object(), 0..3)).prop_map(|(host, service, policies)| {
            let credentials = vec![ClientCredential { name: host.clone(), ..<_>::default() }];
            Destination { host, service, policies, credentials }
        });
    let default_backend = || {
        (name(), any::<u16>(), of(name())).prop_map(|(host, port, subset)| DefaultBackend {
            host,
            port,
            subset,
        })
    };
    let socket = (any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from);
    let inbound_port = (any::<u16>(), protocol(), of(service_id()), of(socket), of(pool()));
    let inbound_port = inbound_port.prop_map(|(number, protocol, service, to, pool)| InboundPort {
        number,
        protocol,
        service,
        to,
        pool,
    });
    let applies = (
        (protocol(), of(service_id()), of(default_backend()), vec(object(), 0..3)),
        select(vec![Join::InOrder, Join::CatchAllLast, Join::OrDefault]),
        names(),
        vec(destination, 0..3),
        vec(default_backend(), 0..3),
        (vec(object(), 0..3), vec(inbound_port, 0..3), of(any::<IpAddr>())),
    )
        .prop_map(|(first, join, attached_to, destinations, by_server_name, inbound)| {
            let (protocol, service, default_backend, routes) = first;
            let (inbound_policies, inbound_ports, member) = inbound;
            Applies {
                protocol,
                service,
                default_backend,
                routes,
                join,
                attached_to,
                destinations,
                inbound_policies,
                inbound_ports,
                by_server_name,
                member,
            }
        });
    of(applies).prop_map(|applies| {
        applies.map_or(Resolution::Absent, |applies| Resolution::Present(applies.into()))
    })
}

fn text_match() -> impl Strategy<Value = TextMatch> + Clone {
    prop_oneof![
        name().prop_map(TextMatch::Exact),
        name().prop_map(TextMatch::Prefix),
        name().prop_map(TextMatch::Regex),
        Just(TextMatch::Present),
    ]
}

fn header_ops() -> impl Strategy<Value = HeaderOps> {
    let op = || {
        (vec((name(), name()), 0..2), vec((name(), name()), 0..2), names())
            .prop_map(|(set, add, remove)| HeaderOp { set, add, remove })
    };
    (op(), op()).prop_map(|(request, response)| HeaderOps { request, response })
}

fn one_match() -> impl Strategy<Value = Match> {
    let named = || vec((name(), text_match()), 0..3);
    (
        (name(), of(text_match()), any::<bool>(), of(text_match())),
        (of(text_match()), of(text_match()), named(), named(), named()),
        (labels(), of(name()), names(), of(any::<u16>())),
    )
        .prop_map(|(first, second, third)| {
            let (name, path, ignore_path_case, scheme) = first;
            let (method, authority, headers, without_headers, query) = second;
            let (source_labels, source_namespace, gateways, port) = third;
            Match {
                name: name.to_string(),
                path,
                ignore_path_case,
                scheme,
                method,
                authority,
                headers,
                without_headers,
                query,
                source_labels,
                source_namespace,
                gateways,
                port,
            }
        })
}

fn route() -> impl Strategy<Value = Route> {
    let connection_rule = (name(), vec(connection_match(), 0..3), vec(backend(), 0..3))
        .prop_map(|(place, matches, backends)| ConnectionRule { place, matches, backends });
    let path = prop_oneof![
        name().prop_map(PathRewrite::Matched),
        (name(), name()).prop_map(|(pattern, by)| PathRewrite::Regex { pattern, by }),
    ];
    let rewrite = (of(path), of(name())).prop_map(|(path, authority)| Rewrite { path, authority });
    let rule = (
        name(),
        vec(one_match(), 0..3),
        action(),
        of(duration()),
        of(retry()),
        of(rewrite),
        header_ops(),
        (of(faults()), of(cors()), vec(mirror(), 0..3)),
    )
        .prop_map(|(name, matches, action, timeout, retry, rewrite, headers, beside)| Rule {
            place: format!("1:{name}#0"),
            name: name.to_string(),
            matches,
            action,
            timeout,
            retry,
            rewrite,
            headers,
            faults: beside.0.map(Box::new),
            cors: beside.1.map(Box::new),
            mirrors: beside.2,
        });
    (object(), vec(rule, 0..4), vec(connection_rule, 0..3))
        .prop_map(|(id, rules, connection_rules)| Route { id, rules, connection_rules })
}

fn backend() -> impl Strategy<Value = Backend> {
    (name(), of(any::<u16>()), of(name()), any::<u32>(), header_ops()).prop_map(
        |(host, port, subset, weight, headers)| {
            let port_name = subset.clone();
            Backend { host, port, port_name, subset, weight, headers }
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
    let answer = (any::<u16>(), vec(any::<u8>(), 0..9))
        .prop_map(|(status, body)| DirectResponse { status, body: body.into() });
    let redirect = redirect().prop_map(|redirect| Action::Redirect(Box::new(redirect)));
    prop_oneof![
        vec(backend(), 0..3).prop_map(Action::Forward),
        answer.prop_map(Action::Answer),
        redirect
    ]
}

fn redirect() -> impl Strategy<Value = Redirect> {
    let port =
        prop_oneof![any::<u16>().prop_map(RedirectPort::Number), Just(RedirectPort::Dialled),];
    let path =
        prop_oneof![name().prop_map(RedirectPath::Full), name().prop_map(RedirectPath::Prefix),];
    (any::<u16>(), of(name()), of(name()), of(port), of(path)).prop_map(
        |(status, scheme, authority, port, path)| Redirect {
            status,
            scheme,
            authority,
            port,
            path,
        },
    )
}

fn share() -> impl Strategy<Value = Share> {
    (0..=1_000_000_u32).prop_map(Share::of_millionths)
}

fn faults() -> impl Strategy<Value = Faults> {
    let delay = (duration(), share()).prop_map(|(by, share)| Delay { by, share });
    let with = prop_oneof![
        any::<u16>().prop_map(AbortStatus::Http),
        any::<u8>().prop_map(AbortStatus::Grpc),
    ];
    let abort = (with, share()).prop_map(|(with, share)| Abort { with, share });
    (of(delay), of(abort)).prop_map(|(delay, abort)| Faults { delay, abort })
}

fn cors() -> impl Strategy<Value = Cors> {
    (
        vec(text_match(), 0..3),
        of(name()),
        of(name()),
        of(name()),
        of(any::<u64>()),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(origins, methods, headers, exposed, max_age, credentials, unmatched)| {
            Cors {
                allow_origins: origins,
                allow_methods: methods,
                allow_headers: headers,
                expose_headers: exposed,
                max_age,
                allow_credentials: credentials,
                answers_unmatched: unmatched,
            }
        })
}

fn mirror() -> impl Strategy<Value = Mirror> {
    (name(), backend(), share()).prop_map(|(place, to, share)| Mirror { place, to, share })
}

fn retry() -> impl Strategy<Value = Retry> {
    let on = prop_oneof![
        select(vec![RetryCondition::ServerError, RetryCondition::ServerErrorOfIdempotent])
            .prop_map(RetryOn::Condition),
        any::<u16>().prop_map(RetryOn::Status),
        any::<u8>().prop_map(RetryOn::Grpc),
        name().prop_map(RetryOn::Header),
    ];
    (any::<u32>(), of(duration()), vec(on, 0..4), duration(), any::<[bool; 2]>()).prop_map(
        |(attempts, per_try_timeout, on, backoff, [avoids_tried, leaves_localities])| Retry {
            attempts,
            per_try_timeout,
            on,
            backoff,
            avoids_tried,
            leaves_localities,
        },
    )
}

fn connection_match() -> impl Strategy<Value = ConnectionMatch> {
    let network = (any::<IpAddr>(), 0..=32u8)
        .prop_map(|(ip, bits)| format!("{ip}/{bits}").parse::<Network>().unwrap());
    let networks = vec(network, 0..3);
    (names(), labels(), of(name()), names(), of(any::<u16>()), networks).prop_map(
        |(server_names, source_labels, source_namespace, gateways, port, destinations)| {
            ConnectionMatch {
                server_names,
                source_labels,
                source_namespace,
                gateways,
                port,
                destinations,
            }
        },
    )
}

fn service() -> impl Strategy<Value = Service> {
    let port = (any::<u16>(), name(), protocol())
        .prop_map(|(number, name, protocol)| ServicePort { number, name, protocol });
    (
        service_id(),
        name(),
        vec(any::<IpAddr>(), 0..3),
        (any::<bool>(), discovery(), distribution(), vec(name(), 0..3)),
        vec(port, 0..4),
        vec(chunk(), 0..3),
    )
        .prop_map(|(id, name, addresses, told, ports, endpoint_chunks)| {
            let (headless, discovery, distribution, certificate_names) = told;
            Service {
                id,
                name,
                addresses,
                headless,
                discovery,
                distribution,
                certificate_names,
                ports,
                endpoint_chunks,
            }
        })
}

fn distribution() -> impl Strategy<Value = Distribution> {
    select(vec![Distribution::Any, Distribution::SameZone, Distribution::SameNode])
}

fn discovery() -> impl Strategy<Value = Discovery> {
    select(vec![
        Discovery::Endpoints,
        Discovery::FirstAddress,
        Discovery::Dialled,
        Discovery::Named,
    ])
}

fn policy() -> impl Strategy<Value = Policy> {
    let subset = (name(), labels(), traffic()).prop_map(|(name, labels, traffic)| Subset {
        name,
        labels,
        traffic,
    });
    prop_oneof![
        (object(), of(traffic()), vec(subset, 0..4), any::<bool>()).prop_map(
            |(id, traffic, subsets, fills)| {
                Policy::Destination(DestinationPolicy { id, traffic, subsets, fills })
            }
        ),
        (object(), of(mtls()), vec(inbound_part(), 0..3))
            .prop_map(|(id, mtls, parts)| Policy::Inbound(InboundPolicy { id, mtls, parts })),
    ]
}

fn outlier() -> impl Strategy<Value = OutlierDetection> {
    let counts = (any::<u32>(), any::<u32>(), of(any::<u32>()));
    (counts, duration(), duration(), any::<u8>(), any::<u8>()).prop_map(
        |(counts, interval, base_ejection, max_ejection_percent, min_health_percent)| {
            let (consecutive_5xx, consecutive_gateway, consecutive_local) = counts;
            OutlierDetection {
                consecutive_5xx,
                consecutive_gateway,
                consecutive_local,
                interval,
                base_ejection,
                max_ejection_percent,
                min_health_percent,
            }
        },
    )
}

fn pool() -> impl Strategy<Value = ConnectionPool> {
    let keepalive = (of(any::<u32>()), of(duration()), of(duration()))
        .prop_map(|(probes, time, interval)| Keepalive { probes, time, interval });
    let http2_keepalive = (duration(), duration())
        .prop_map(|(interval, timeout)| Http2Keepalive { interval, timeout });
    let keepalives = (of(keepalive), of(http2_keepalive));
    let numbers = prop::array::uniform6(of(any::<u32>()));
    let times = prop::array::uniform4(of(duration()));
    (numbers, times, keepalives, of(any::<bool>()), any::<bool>()).prop_map(
        |(numbers, times, (keepalive, http2_keepalive), upgrade, client_protocol)| ConnectionPool {
            connections_max: numbers[0],
            connect_timeout: times[0],
            keepalive,
            connection_age_max: times[1],
            tcp_idle_timeout: times[2],
            pending_max: numbers[1],
            requests_max: numbers[2],
            requests_per_connection_max: numbers[3],
            retries_max: numbers[4],
            http_idle_timeout: times[3],
            upgrade,
            client_protocol,
            streams_max: numbers[5],
            http2_keepalive,
        },
    )
}

fn sections() -> impl Strategy<Value = TrafficPolicy> {
    // Boxed: as one type they would need more stack than a test has.
    let budget =
        (share(), any::<u32>()).prop_map(|(share, retries_min)| RetryBudget { share, retries_min });
    let balance = of(balance::balance().boxed());
    (balance, of(outlier().boxed()), of(pool().boxed()), of(budget)).prop_map(
        |(balance, outlier, pool, retry_budget)| TrafficPolicy {
            balance,
            outlier,
            pool,
            retry_budget,
            ..<_>::default()
        },
    )
}

fn traffic() -> impl Strategy<Value = TrafficPolicy> {
    let port = (any::<u16>(), sections()).prop_map(|(port, traffic)| PortPolicy { port, traffic });
    let all = (sections().boxed(), vec(port.boxed(), 0..3));
    all.prop_map(|(whole, ports)| TrafficPolicy { ports, ..whole }).boxed()
}

fn workload() -> impl Strategy<Value = Workload> {
    (workload_id(), name(), identity(), labels(), any::<bool>(), ways(), vec(name(), 3)).prop_map(
        |(id, owner, identity, labels, meshed, (tls, tls_at), place)| Workload {
            id,
            owner,
            identity,
            labels,
            meshed,
            tls,
            tls_at,
            locality: place[0].clone(),
            network: place[1].clone(),
            node: place[2].clone(),
        },
    )
}

/// How to speak to something, and at some ports.
fn ways() -> impl Strategy<Value = (UpstreamTls, Vec<PortTls>)> {
    let at = (any::<u16>(), tls()).prop_map(|(port, tls)| PortTls { port, tls });
    (tls(), vec(at, 0..3))
}

fn inbound_part() -> impl Strategy<Value = InboundPart> {
    (labels(), of(any::<u16>()), mtls()).prop_map(|(workloads, port, mtls)| InboundPart {
        workloads,
        port,
        mtls,
    })
}

fn endpoints() -> impl Strategy<Value = Endpoints> {
    (service_id(), chunk(), vec(endpoint(), 0..4)).prop_map(|(service, chunk, endpoints)| {
        let endpoints = endpoints.into_iter().map(Arc::new).collect();
        Endpoints { service, chunk, endpoints }
    })
}

fn tls() -> impl Strategy<Value = UpstreamTls> {
    prop_oneof![
        Just(UpstreamTls::None),
        identity().prop_map(UpstreamTls::Asked),
        identity().prop_map(UpstreamTls::Mesh),
        (identity(), name())
            .prop_map(|(identity, name)| UpstreamTls::Named(NamedMember { identity, name }.into())),
        client_tls().prop_map(|tls| UpstreamTls::Given(tls.into())),
    ]
}

fn client_tls() -> impl Strategy<Value = ClientTls> {
    let modes = vec![TlsMode::Disable, TlsMode::Simple, TlsMode::Mutual, TlsMode::Mesh];
    let files = prop::array::uniform4(of(name()));
    let all = (select(modes), of(name()), vec(name(), 0..3), any::<bool>(), files);
    all.prop_map(|(mode, sni, names, skip_verify, files)| {
        let [certificate_file, key_file, trusted_file, revoked_file] = files;
        ClientTls {
            mode,
            sni,
            names,
            skip_verify,
            certificate_file,
            key_file,
            trusted_file,
            revoked_file,
            credential: None,
        }
    })
    .boxed()
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let address = prop_oneof![
        any::<IpAddr>().prop_map(EndpointAddress::Ip),
        name().prop_map(EndpointAddress::Dns),
        (any::<IpAddr>(), name()).prop_map(|(ip, name)| EndpointAddress::Gateway(ip, name)),
    ];
    let port =
        (any::<u16>(), any::<u16>()).prop_map(|(service, target)| PortMap { service, target });
    (
        (name(), address, vec(port, 0..3), labels(), workload_id(), name()),
        ways(),
        (any::<bool>(), any::<u32>(), name(), name(), name(), name()),
    )
        .prop_map(|(first, (tls, tls_at), last)| {
            let (id, address, ports, labels, workload, owner) = first;
            let (ready, weight, network, cluster, locality, node) = last;
            Endpoint {
                id,
                address,
                ports,
                labels,
                workload,
                owner,
                tls,
                tls_at,
                ready,
                weight,
                network,
                cluster,
                locality,
                node,
            }
        })
}
