//! Inbound policies: for whom they are, what callers see of them, and what is found.

use super::*;
use crate::policy::InboundPolicy;
use crate::service::PortMap;
use crate::snapshot::cell::Name as CellName;

#[test]
fn inbound_policies_go_from_narrow_to_wide_and_from_old_to_young() {
    let mut objects = app(&[("a", "v1", true)]);
    objects.inbound_policies = vec![
        inbound_policy(("istio-system", "mesh"), 0, None, Some(MtlsMode::Permissive)),
        inbound_policy(("default", "young"), 9, None, None),
        inbound_policy(("default", "old"), 1, None, Some(MtlsMode::Strict)),
        inbound_policy(("default", "pod"), 5, Some(("app", "app")), None),
        inbound_policy(("default", "other"), 5, Some(("app", "x")), Some(MtlsMode::Disable)),
        inbound_policy(("elsewhere", "old"), 1, None, Some(MtlsMode::Disable)),
    ];
    let mut proxy = Proxy::sidecar(objects, "default", &[("app", "app")]);
    let target = Target::Address(IpAddr::from([10, 77, 1, 0]), EVERY_PORT);
    let here = applies(&proxy, ListenerKind::Inbound, target.clone()).unwrap();
    let names: Vec<&str> = here.inbound_policies.iter().map(|id| &*id.name).collect();
    assert_eq!(names, ["pod", "old", "mesh"], "of several that are as wide the oldest counts");
    let key = resolution(ListenerKind::Inbound, target, "default");
    proxy.subscribe(&key);
    let at = |port: u16| {
        let address = (IpAddr::from([10, 77, 1, 0]), port).into();
        let linked = proxy.view.at_address(ListenerKind::Inbound, address, "default").unwrap();
        let applies = linked.applies.as_ref().unwrap();
        (applies.protocol, applies.service.is_some(), proxy.view.inbound_mode(applies, port))
    };
    // What leaves the mode open is passed over.
    assert_eq!(at(9081), (Protocol::Http, true, MtlsMode::Strict));
    for unserved in [1, 9080, 65_535] {
        assert_eq!(at(unserved), (Protocol::Undeclared, false, MtlsMode::Strict));
    }
    assert_eq!(proxy.view.held().count(), 5, "one resolution for all ports, and no endpoints");
    assert!(found(&proxy).contains(&(
        FindingCode::NothingSelected,
        "other".into(),
        "spec.selector".into()
    )));
}

#[test]
fn callers_speak_to_a_workload_as_its_policies_let_it_listen() {
    use MtlsMode::{Disable, Permissive, Strict};
    let tls_of = |policies: Vec<InboundPolicySource>, mtls_mode| {
        let mut objects = app(&[("a", "v1", true), ("b", "v2", true)]);
        for endpoint in &mut objects.services[0].endpoints {
            endpoint.tls = UpstreamTls::Mesh(identity("default", "app"));
        }
        objects.inbound_policies = policies;
        objects.settings.mtls_mode = mtls_mode;
        let (snapshot, _) = Snapshot::new(objects);
        let id = ServiceId { namespace: "default".into(), hostname: APP.into() };
        let subscriber = Subscriber {
            namespace: "default".into(),
            labels: Labels::default(),
            addresses: Vec::new(),
        };
        match snapshot.resource(&ResourceKey::Endpoints(id, Chunk::WHOLE), &subscriber) {
            Some(Resource::Endpoints(e)) => {
                [0, 1].map(|at| e.endpoints[at].tls.expected().is_some())
            }
            other => panic!("{other:?}"),
        }
    };
    let of =
        |namespace: &str, selector, mode| inbound_policy((namespace, "p"), 0, selector, Some(mode));
    assert_eq!(tls_of(Vec::new(), Permissive), [true, true]);
    assert_eq!(tls_of(Vec::new(), Disable), [false, false]);
    assert_eq!(tls_of(vec![of("default", None, Disable)], Strict), [false, false]);
    let v2 = of("default", Some(("version", "v2")), Disable);
    assert_eq!(tls_of(vec![v2], Strict), [true, false]);
    let v1 = of("default", Some(("version", "v1")), Strict);
    assert_eq!(tls_of(vec![v1, of("istio-system", None, Disable)], Strict), [true, false]);
    assert_eq!(tls_of(vec![of("elsewhere", None, Disable)], Strict), [true, true]);
}

/// Istio takes policies with a selector as those of a workload only outside the root namespace.
#[test]
fn a_selector_in_the_root_namespace_selects_nothing_and_a_finding_says_so() {
    let policy = inbound_policy(
        ("istio-system", "edge"),
        0,
        Some(("istio", "ingressgateway")),
        Some(MtlsMode::Strict),
    );
    let objects = Objects { inbound_policies: vec![policy], ..Objects::default() };
    let labels = &[("istio", "ingressgateway")];
    let proxy = Proxy::sidecar(objects, "istio-system", labels);
    let target = Target::Address(IpAddr::from([10, 77, 0, 9]), EVERY_PORT);
    assert_eq!(applies(&proxy, ListenerKind::Inbound, target).unwrap().inbound_policies, []);
    assert_eq!(found(&proxy), [(FindingCode::NoEffect, "edge".into(), "spec.selector".into())]);
}

/// The policy of the pods `app=app` of `default`, with settings for single ports.
fn of_ports(
    name: &str,
    created: Created,
    mtls: Option<MtlsMode>,
    ports: &[(u16, MtlsMode)],
) -> InboundPolicySource {
    let mut source = inbound_policy(("default", name), created, Some(("app", "app")), mtls);
    source.policy.parts = at_ports(ports);
    source
}

/// `app` with one pod, which also serves a second port, and is known at its address.
fn two_ports() -> Objects {
    let mut objects = app(&[("a", "v1", true)]);
    let service = &mut objects.services[0];
    service.service.ports.push(ServicePort {
        number: 9090,
        name: "tcp-more".into(),
        protocol: Protocol::Tcp,
    });
    let pod = &mut service.endpoints[0];
    pod.ports.push(PortMap { service: 9090, target: 9091 });
    pod.labels = [("app", "app")].into_iter().collect();
    pod.tls = UpstreamTls::Mesh(identity("default", "app"));
    objects.workloads = vec![workload("default", "app", [10, 77, 1, 0], &[("app", "app")])];
    objects
}

/// How callers speak to ports of the pod: as an endpoint, and as a workload that is dialled.
fn spoken_to(snapshot: &Snapshot, ports: [u16; 3]) -> ([bool; 3], [bool; 3]) {
    let subscriber = Subscriber {
        namespace: "default".into(),
        labels: Labels::default(),
        addresses: Vec::new(),
    };
    let id = ServiceId { namespace: "default".into(), hostname: APP.into() };
    let endpoints = snapshot.resource(&ResourceKey::Endpoints(id, Chunk::WHOLE), &subscriber);
    let workload = snapshot.resource(&ResourceKey::Workload([10, 77, 1, 0].into()), &subscriber);
    let (Some(Resource::Endpoints(endpoints)), Some(Resource::Workload(Some(workload)))) =
        (endpoints, workload)
    else {
        panic!("both are there");
    };
    let is_mutual = |tls: &UpstreamTls| tls.expected().is_some();
    (
        ports.map(|port| is_mutual(endpoints.endpoints[0].tls_at(port))),
        ports.map(|port| is_mutual(workload.tls_at(port))),
    )
}

#[test]
fn callers_speak_to_each_port_as_it_takes_them() {
    use MtlsMode::{Disable, Permissive, Strict};
    let told = |policies: Vec<InboundPolicySource>, mtls_mode| {
        let mut objects = two_ports();
        objects.inbound_policies = policies;
        objects.settings.mtls_mode = mtls_mode;
        let (endpoint, workload) = spoken_to(&Snapshot::new(objects).0, [9081, 9091, 7000]);
        // An endpoint is dialled at the ports of its service only.
        assert_eq!(endpoint[..2], workload[..2]);
        workload
    };
    let one = |mtls, ports: &[(u16, MtlsMode)]| vec![of_ports("p", 0, mtls, ports)];
    assert_eq!(told(one(Some(Strict), &[(9091, Disable)]), Permissive), [true, false, true]);
    assert_eq!(told(one(Some(Disable), &[(9091, Strict)]), Permissive), [false, true, false]);
    assert_eq!(told(one(None, &[(9081, Permissive)]), Disable), [true, false, false]);
    assert_eq!(told(one(None, &[(7000, Disable)]), Strict), [true, true, false]);
    assert_eq!(told(one(Some(Strict), &[(9081, Permissive)]), Strict), [true; 3]);
    // Of several for a workload the oldest counts, ports and all.
    let older = of_ports("older", 0, Some(Strict), &[]);
    let younger = of_ports("younger", 1, Some(Disable), &[(9081, Disable)]);
    assert_eq!(told(vec![younger, older], Permissive), [true; 3]);
    // Those of the older kind join: each port has the oldest that names it.
    let joining = |mut source: InboundPolicySource| {
        source.only_oldest = false;
        source
    };
    let older = joining(of_ports("older", 0, Some(Strict), &[]));
    let younger = joining(of_ports("younger", 1, None, &[(9081, Disable)]));
    assert_eq!(told(vec![younger, older], Permissive), [false, true, true]);
}

#[test]
fn what_is_said_of_a_port_moves_the_endpoints_that_serve_it_and_no_others() {
    let mut objects = two_ports();
    objects.inbound_policies = vec![of_ports("p", 0, Some(MtlsMode::Strict), &[])];
    let (snapshot, _) = Snapshot::new(objects);
    let id = ServiceId { namespace: "default".into(), hostname: APP.into() };
    let endpoints = CellName::Endpoints(&id, Chunk::WHOLE).cell();
    let edit = |snapshot: &Snapshot, ports: &[(u16, MtlsMode)]| {
        let source = of_ports("p", 0, Some(MtlsMode::Strict), ports);
        let edit = Edit::InboundPolicy(source.policy.id.clone(), Some(source.into()));
        let (next, touched) = snapshot.edited([edit]);
        (next, touched.cells.contains(&endpoints))
    };
    let (unserved, moved) = edit(&snapshot, &[(7000, MtlsMode::Disable)]);
    assert!(!moved, "nobody calls the service there");
    assert_eq!(spoken_to(&unserved, [9081, 9091, 7000]).1, [true, true, false]);
    let (served, moved) = edit(&unserved, &[(9091, MtlsMode::Disable)]);
    assert!(moved);
    assert_eq!(spoken_to(&served, [9081, 9091, 7000]), ([true, false, true], [true, false, true]));
    // That it takes plaintext, too, changes nothing for callers of the mesh.
    let (_, moved) = edit(&snapshot, &[(9091, MtlsMode::Permissive)]);
    assert!(!moved);
}

#[test]
fn a_policy_of_ports_travels_as_one_resource_however_many_there_are() {
    let every: Vec<(u16, MtlsMode)> = (1..).take(256).map(|p| (p, MtlsMode::Disable)).collect();
    let mut objects = two_ports();
    objects.inbound_policies = vec![of_ports("p", 0, Some(MtlsMode::Strict), &every)];
    let mut proxy = Proxy::sidecar(objects, "default", &[("app", "app")]);
    let target = Target::Address([10, 77, 1, 0].into(), EVERY_PORT);
    proxy.subscribe(&resolution(ListenerKind::Inbound, target, "default"));
    assert_eq!(proxy.view.linked().count(), 3, "all ports, and the two that the service has");
    assert_eq!(InboundPolicy::PARTS_MAX, every.len());
}

#[test]
fn ports_of_a_service_that_stand_for_ports_of_its_pods_are_found() {
    let mut objects = two_ports();
    let ports = [9080, 9081, 9090, 7000].map(|port| (port, MtlsMode::Disable));
    objects.inbound_policies = vec![of_ports("p", 0, None, &ports)];
    let (_, findings) = Snapshot::new(objects.clone());
    let said: Vec<_> = findings.iter().map(|f| (f.code, &*f.path, &*f.message)).collect();
    let why = |port, target| {
        format!(
            "{port} is the port of service app, behind which the workloads have {target}; \
             ports here are theirs"
        )
    };
    assert_eq!(
        said,
        [
            (FindingCode::NoEffect, "spec.portLevelMtls.9080", &*why(9080, 9081)),
            (FindingCode::NoEffect, "spec.portLevelMtls.9090", &*why(9090, 9091)),
        ]
    );
    // Where the pods have it, too, nothing is wrong.
    objects.services[0].endpoints[0].ports[1].target = 9080;
    let (_, findings) = Snapshot::new(objects);
    let paths: Vec<&str> = findings.iter().map(|f| &*f.path).collect();
    assert_eq!(paths, ["spec.portLevelMtls.9090"]);
}

#[test]
fn a_younger_policy_for_the_same_workloads_is_found() {
    let mut objects = two_ports();
    let of = |name, created, selector| {
        inbound_policy(("default", name), created, selector, Some(MtlsMode::Strict))
    };
    objects.inbound_policies = vec![
        of("one", 1, Some(("app", "app"))),
        of("two", 2, Some(("app", "app"))),
        of("wide", 3, None),
        of("wider", 4, None),
        of("other", 5, Some(("app", "gone"))),
    ];
    let proxy = Proxy::sidecar(objects, "default", &[]);
    let expected = |code, name: &str, path: &str| (code, name.to_owned(), path.to_owned());
    assert_eq!(
        found(&proxy),
        [
            expected(FindingCode::NothingSelected, "other", "spec.selector"),
            expected(FindingCode::NoEffect, "two", "spec.selector"),
            expected(FindingCode::NoEffect, "wider", ""),
        ]
    );
}
