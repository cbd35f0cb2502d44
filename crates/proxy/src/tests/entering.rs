//! What enters a workload at ports that a Sidecar names.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ironmesh_model::policy::ConnectionPool;
use ironmesh_model::service::Protocol;
use ironmesh_model::snapshot::{IngressPort, Objects, SidecarSource};
use ironmesh_model::{ListenerKind, ObjectId};

use super::world::*;

/// A Sidecar of all workloads that has this port.
fn sidecar(port: Option<IngressPort>, inbound_pool: Option<ConnectionPool>) -> SidecarSource {
    SidecarSource {
        id: ObjectId::new("Sidecar", "default", "s"),
        selector: None,
        egress: Vec::new(),
        outbound_policy: None,
        egress_proxy: None,
        ingress: port.into_iter().collect(),
        inbound_pool,
        created: 0,
    }
}

/// The proxy of an application that is the service `reviews`.
fn inbound(protocol: Protocol, app: &App, sidecars: Vec<SidecarSource>) -> Proxy {
    let objects = Objects { sidecars, ..objects(protocol, &[app]) };
    Proxy::start(ListenerKind::Inbound, app.address, objects)
}

#[test]
fn connections_go_to_where_a_port_of_a_sidecar_leads() {
    for protocol in [Protocol::Http, Protocol::Tcp] {
        let (dialled, other) = (App::named("dialled"), App::named("other"));
        let to = |to| IngressPort { number: dialled.address.port(), protocol, to, pool: None };
        let asked = |port| {
            let proxy = inbound(protocol, &dialled, vec![sidecar(port, None)]);
            Wire::connect(&proxy).get("/").body
        };
        assert_eq!(asked(None), "dialled");
        assert_eq!(asked(Some(to(None))), "dialled");
        assert_eq!(asked(Some(to(Some(other.address)))), "other");
        // The workload's own address, at another port.
        let own = std::net::SocketAddr::from(([0, 0, 0, 0], other.address.port()));
        assert_eq!(asked(Some(to(Some(own)))), "other");
    }
}

#[test]
fn what_is_more_than_a_workload_takes_is_refused_at_once() {
    let held = Arc::new(AtomicBool::new(true));
    let hold = held.clone();
    let app = App::start(move |stream| {
        let mut wire = Wire::new(stream);
        wire.read_request();
        eventually("to be let go", || !hold.load(Ordering::Relaxed));
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    });
    let one = ConnectionPool { requests_max: Some(1), ..ConnectionPool::default() };
    let proxy = inbound(Protocol::Http, &app, vec![sidecar(None, Some(one))]);
    let mut first = Wire::connect(&proxy);
    first.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    eventually("the first", || app.connections() == 1);
    let refused = Wire::connect(&proxy).get("/");
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("x-ironmesh-reason"), Some("upstream_overflow"));
    held.store(false, Ordering::Relaxed);
    assert_eq!(first.read_response(false).body, "ok");
    // Who comes alone is served; the first is counted until a moment after its answer.
    eventually("an answer", || Wire::connect(&proxy).get("/").status == 200);
}

/// A Sidecar for others is none.
#[test]
fn a_sidecar_of_another_workload_leads_nowhere() {
    let (dialled, other) = (App::named("dialled"), App::named("other"));
    let protocol = Protocol::Http;
    let to = Some(other.address);
    let port = IngressPort { number: dialled.address.port(), protocol, to, pool: None };
    let selector = Some([("app", "somebody-else")].into_iter().collect());
    let of_others = SidecarSource { selector, ..sidecar(Some(port), None) };
    let proxy = inbound(protocol, &dialled, vec![of_others]);
    assert_eq!(Wire::connect(&proxy).get("/").body, "dialled");
}
