//! `Sidecar`: what of the mesh workloads see.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ironmesh_model::host::intersection;
use ironmesh_model::policy;
use ironmesh_model::resource::DefaultBackend;
use ironmesh_model::settings::OutboundPolicy;
use ironmesh_model::snapshot::{EgressHosts, IngressPort, SidecarSource};
use ironmesh_model::{Finding, FindingCode, Name};

use super::destination_rule::{ConnectionPool, HttpPool, pool};
use super::virtual_service::Destination;
use super::{fully_qualified, labels};
use crate::Object;
use crate::kubernetes::declared_protocol;
use crate::path::{field, item};
use crate::schema::read;
use crate::translate::Part;

mod fields;

pub use fields::*;

/// Translates a Sidecar.
pub(crate) fn sidecar(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let Sidecar { spec, .. } = read(object, findings)?;
    for (at, listener) in spec.egress.iter().enumerate() {
        if listener.capture_mode == Some(CaptureMode::None) {
            let path = field(&item("spec.egress", at), "captureMode");
            let message = "captureMode: what applications send out is captured all the same, and the \
                           hosts hold there: call them by their names and ports";
            findings.push(Finding::new(object.id(), path, FindingCode::NoEffect, message));
        }
    }
    for (at, listener) in spec.egress.iter().enumerate() {
        let path = field(&item("spec.egress", at), "hosts");
        for (at, wider) in covered(&listener.hosts, object.namespace()) {
            let message = format!("{wider:?} of this listener has it already");
            findings.push(Finding::new(
                object.id(),
                item(&path, at),
                FindingCode::NoEffect,
                message,
            ));
        }
    }
    let listeners = spec.egress.iter().enumerate();
    let egress = listeners.map(|(at, given)| EgressHosts {
        port: given.port.as_ref().map(|port| port.number),
        hosts: hosts(object, &field(&item("spec.egress", at), "hosts"), &given.hosts, findings),
    });
    let egress = egress.collect();
    let ingress = ingress(object, &spec.ingress, findings);
    let selector = labels(&spec.workload_selector.labels);
    Some(Part::Sidecar(Box::new(SidecarSource {
        id: object.id().clone(),
        selector: Some(selector).filter(|selector| !selector.is_empty()),
        egress,
        egress_proxy: spec
            .outbound_traffic_policy
            .as_ref()
            .and_then(|policy| egress_proxy(policy.egress_proxy.as_ref()?, object)),
        outbound_policy: spec.outbound_traffic_policy.map(|policy| match policy.mode {
            OutboundMode::AllowAny => OutboundPolicy::AllowAny,
            OutboundMode::RegistryOnly => OutboundPolicy::RegistryOnly,
        }),
        ingress,
        inbound_pool: spec.inbound_connection_pool.as_ref().map(inbound_pool),
        created: object.created(),
    })))
}

/// Where traffic goes for destinations that are not known. Validation sees to it that there is a port.
fn egress_proxy(given: &Destination, object: &Object) -> Option<DefaultBackend> {
    let subset = given.subset.as_str();
    Some(DefaultBackend {
        host: fully_qualified(&given.host, object),
        port: given.port.number?,
        subset: (!subset.is_empty()).then(|| subset.into()),
    })
}

/// `NAMESPACE/HOST`: `.` is the Sidecar's own namespace, `*` any, `~` none.
fn hosts(
    object: &Object,
    path: &str,
    given: &[String],
    findings: &mut Vec<Finding>,
) -> Vec<(Option<Name>, Name)> {
    let mut hosts = Vec::new();
    for (at, text) in given.iter().enumerate() {
        let Some((namespace, host)) = text.split_once('/').filter(|(_, host)| !host.is_empty())
        else {
            let message = format!("{text:?} is not NAMESPACE/HOST");
            let path = item(path, at);
            findings.push(Finding::new(object.id(), path, FindingCode::Invalid, message));
            continue;
        };
        let namespace = match namespace {
            "*" => None,
            "." => Some(object.namespace().clone()),
            // `~` is no namespace's name, so that nothing is seen.
            other => Some(other.into()),
        };
        hosts.push((namespace, host.to_ascii_lowercase().into()));
    }
    hosts
}

/// Which hosts of a listener add nothing to the others, each with one that has it already.
fn covered<'a>(hosts: &'a [String], own: &str) -> Vec<(usize, &'a str)> {
    fn full<'t>(namespace: &'t str, own: &'t str) -> &'t str {
        if namespace == "." { own } else { namespace }
    }
    let has = |wide: &str, narrow: &str| {
        let (Some((of, wide)), Some((from, narrow))) =
            (wide.split_once('/'), narrow.split_once('/'))
        else {
            return false;
        };
        let (of, from) = (full(of, own), full(from, own));
        (of == "*" && !from.starts_with('~') || of == from)
            && intersection(wide, narrow) == Some(narrow)
    };
    let wider = |at: usize| {
        let others = hosts.iter().enumerate().filter(|(other, _)| *other != at);
        let mut wider = others.filter(|(_, other)| has(other, &hosts[at]));
        // Of two that are the same the first counts.
        wider.find(|(other, wide)| *other < at || !has(&hosts[at], wide)).map(|(_, wide)| &**wide)
    };
    (0..hosts.len()).filter_map(|at| Some((at, wider(at)?))).collect()
}

/// The ports of the workloads.
fn ingress(
    object: &Object,
    given: &[IngressListener],
    findings: &mut Vec<Finding>,
) -> Vec<IngressPort> {
    let mut ports: Vec<IngressPort> = Vec::new();
    for (at, listener) in given.iter().enumerate() {
        let path = item("spec.ingress", at);
        let ListenerPort { number, protocol, name, .. } = &listener.port;
        // Validation says so.
        if ports.iter().any(|port| port.number == *number) {
            continue;
        }
        let to = match default_endpoint(&listener.default_endpoint) {
            Ok(to) => to,
            Err((code, message)) => {
                let path = field(&path, "defaultEndpoint");
                findings.push(Finding::new(object.id(), path, code, message));
                None
            }
        };
        let protocol = declared_protocol(*number, Some(protocol), name);
        let http = listener.connection_pool.as_ref().map(|pool| &pool.http);
        if protocol.is_opaque() && http.is_some_and(|http| *http != HttpPool::default()) {
            let path = field(&field(&path, "connectionPool"), "http");
            let message = "requests are not looked at on a port of this protocol";
            findings.push(Finding::new(object.id(), path, FindingCode::NoEffect, message));
        }
        ports.push(IngressPort {
            number: *number,
            protocol,
            to,
            pool: listener.connection_pool.as_ref().map(inbound_pool),
        });
    }
    ports
}

/// Where connections to a port go (Istio, `ValidateSidecar`: the loopback, or the workload's own
/// address).
fn default_endpoint(text: &str) -> Result<Option<SocketAddr>, (FindingCode, String)> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.starts_with("unix:") {
        let message = "the proxy does not see the files of its workload, so connections go to the \
                       port itself; let the application listen at 127.0.0.1:PORT";
        return Err((FindingCode::NoEffect, message.to_owned()));
    }
    let wrong = || {
        let message = format!(
            "{text:?} is none of 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT, unix://PATH"
        );
        (FindingCode::Invalid, message)
    };
    // Without an address it is the workload's own.
    let whole = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    let to: SocketAddr = whole.parse().map_err(|_| wrong())?;
    let is_known = [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv4Addr::UNSPECIFIED.into(),
        Ipv6Addr::LOCALHOST.into(),
        Ipv6Addr::UNSPECIFIED.into(),
    ]
    .contains(&to.ip());
    if !is_known || to.port() == 0 {
        return Err(wrong());
    }
    if OWN_PORTS.contains(&to.port()) {
        let message =
            format!("{} is a port of the proxy itself, which is not led to it", to.port());
        return Err((FindingCode::NoEffect, message));
    }
    Ok(Some(to))
}

/// What it says of callers alone is nothing for what enters a workload.
fn inbound_pool(given: &ConnectionPool) -> policy::ConnectionPool {
    policy::ConnectionPool { upgrade: None, client_protocol: false, ..pool(given) }
}

/// Ports of a proxy.
const OWN_PORTS: [u16; 7] = [15000, 15001, 15006, 15020, 15021, 15053, 15090];

#[cfg(test)]
mod tests {
    use ironmesh_model::service::Protocol;
    use serde_json::{Value, json};

    use super::*;
    use crate::translate_one;

    fn translated(spec: Value) -> (Part, Vec<(FindingCode, String)>) {
        let object = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
            "metadata": {"name": "s", "namespace": "shop"}, "spec": spec,
        });
        let translated = translate_one(&Object::new(object).unwrap());
        let found = translated.findings.into_iter().map(|f| (f.code, f.path)).collect();
        (translated.part, found)
    }

    #[test]
    fn what_is_seen_is_named_by_namespace_and_host() {
        let (Part::Sidecar(sidecar), found) = translated(json!({
            "workloadSelector": {"labels": {"app": "a"}},
            "egress": [
                {"port": {"number": 80}, "hosts": ["~/*"]},
                {"hosts": ["*/b.test", "./A.test", "other/*.test"]},
            ],
            "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
        })) else {
            panic!("nothing was made")
        };
        assert_eq!(found, []);
        let name = |text: &str| Some(Name::from(text));
        let all = [
            (None, "b.test".into()),
            (name("shop"), "a.test".into()),
            (name("other"), "*.test".into()),
        ];
        assert_eq!(sidecar.egress[1], EgressHosts { port: None, hosts: all.to_vec() });
        let none = vec![(name("~"), "*".into())];
        assert_eq!(sidecar.egress[0], EgressHosts { port: Some(80), hosts: none });
        assert_eq!(sidecar.outbound_policy, Some(OutboundPolicy::RegistryOnly));
        assert!(sidecar.selector.is_some());
    }

    #[test]
    fn what_names_no_host_is_refused_and_what_is_not_done_is_found() {
        for host in ["a.test", "shop/"] {
            let (part, found) = translated(json!({"egress": [{"hosts": [host]}]}));
            let at = "spec.egress[0].hosts[0]".to_owned();
            assert_eq!((part, found), (Part::Nothing, vec![(FindingCode::Invalid, at)]));
        }
        let (_, found) = translated(json!({"egress": [{"hosts": ["*/*"], "captureMode": "NONE"}]}));
        let at = "spec.egress[0].captureMode".to_owned();
        assert_eq!(found, [(FindingCode::NoEffect, at)]);
    }

    #[test]
    fn hosts_that_add_nothing_are_found() {
        for (hosts, expected) in [
            (json!(["*/*", "other/a.test"]), vec![1]),
            (json!(["other/a.test", "*/*"]), vec![0]),
            (json!(["./*", "shop/a.test", "other/a.test"]), vec![1]),
            (json!(["other/*.test", "other/a.test", "other/a.b", "more/a.test"]), vec![1]),
            (json!(["./a.test", "shop/a.test", "./a.test"]), vec![1, 2]),
            (json!(["./*", "istio-system/*", "~other/*"]), vec![]),
            (json!(["*/*", "~other/*"]), vec![]),
        ] {
            let (part, found) = translated(json!({"egress": [{"hosts": hosts}]}));
            assert!(matches!(part, Part::Sidecar(_)), "{hosts}");
            let at = |at: &usize| (FindingCode::NoEffect, format!("spec.egress[0].hosts[{at}]"));
            assert_eq!(found, expected.iter().map(at).collect::<Vec<_>>(), "{hosts}");
        }
    }

    #[test]
    fn what_is_not_known_goes_by_the_proxy_that_is_named() {
        let proxy = |more: Value| {
            let mut proxy = json!({"host": "egress.shop.svc.cluster.local"});
            proxy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"outboundTrafficPolicy": {"mode": "ALLOW_ANY", "egressProxy": proxy}})
        };
        let (part, found) = translated(proxy(json!({"port": {"number": 80}, "subset": "v1"})));
        let Part::Sidecar(sidecar) = part else { panic!("nothing was made: {found:?}") };
        let expected = DefaultBackend {
            host: "egress.shop.svc.cluster.local".into(),
            port: 80,
            subset: Some("v1".into()),
        };
        assert_eq!((sidecar.egress_proxy, found), (Some(expected), vec![]));
        let (_, found) = translated(proxy(json!({})));
        let at = "spec.outboundTrafficPolicy.egressProxy.port".to_owned();
        assert_eq!(found, [(FindingCode::Invalid, at)]);
    }

    /// What Istio's proxies would do at listeners of their own has a finding, with what to do instead.
    #[test]
    fn what_a_captured_workload_has_no_need_of_is_found() {
        let port = json!({"number": 443, "name": "https", "protocol": "HTTPS"});
        let (part, found) = translated(json!({
            "ingress": [{
                "port": port, "bind": "192.0.2.1", "captureMode": "NONE",
                "tls": {"mode": "SIMPLE", "serverCertificate": "/c", "privateKey": "/k"},
            }],
            "egress": [{"port": port, "bind": "127.0.0.1", "captureMode": "NONE", "hosts": ["*/*"]}],
        }));
        assert!(matches!(part, Part::Sidecar(_)));
        let mut paths: Vec<_> = found.iter().map(|(_, path)| path.as_str()).collect();
        paths.sort_unstable();
        let expected = [
            "spec.egress[0].bind",
            "spec.egress[0].captureMode",
            "spec.ingress[0].bind",
            "spec.ingress[0].tls",
        ];
        assert_eq!(paths, expected);
        assert!(found.iter().all(|(code, _)| *code == FindingCode::NoEffect));
    }

    #[test]
    fn ports_of_workloads_are_named_with_where_their_connections_go() {
        let port = |number, endpoint: &str| {
            json!({
                "port": {"number": number, "name": "http", "protocol": "HTTP"},
                "defaultEndpoint": endpoint,
            })
        };
        let (Part::Sidecar(sidecar), found) = translated(json!({
            "ingress": [port(80, "127.0.0.1:8080"), port(81, ":8081"), port(82, "")],
            "inboundConnectionPool": {"http": {"http2MaxRequests": 7}},
        })) else {
            panic!("nothing was made")
        };
        assert_eq!(found, []);
        let to = |text: &str| text.parse().ok();
        let ports = sidecar.ingress.iter().map(|port| (port.number, port.to));
        let ports: Vec<_> = ports.collect();
        assert_eq!(ports, [(80, to("127.0.0.1:8080")), (81, to("0.0.0.0:8081")), (82, None)]);
        assert!(sidecar.ingress.iter().all(|port| port.protocol == Protocol::Http));
        assert_eq!(sidecar.inbound_pool.and_then(|pool| pool.requests_max), Some(7));
        for (endpoint, code) in [
            ("10.0.0.1:80", FindingCode::Invalid),
            ("127.0.0.1", FindingCode::Invalid),
            ("unix:///run/app.sock", FindingCode::NoEffect),
            ("127.0.0.1:15000", FindingCode::NoEffect),
        ] {
            let (_, found) = translated(json!({"ingress": [port(80, endpoint)]}));
            assert_eq!(found, [(code, "spec.ingress[0].defaultEndpoint".to_owned())], "{endpoint}");
        }
        let (_, found) = translated(json!({"ingress": [port(80, ""), port(80, "")]}));
        assert_eq!(found, [(FindingCode::Invalid, "spec.ingress[1].port".to_owned())]);
    }
}
