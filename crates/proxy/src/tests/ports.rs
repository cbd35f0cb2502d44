//! Ports of a workload that take other connections than the rest of it.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};

use ironmesh_model::policy::{InboundPart, InboundPolicy, MtlsMode};
use ironmesh_model::service::Protocol;
use ironmesh_model::snapshot::{InboundFields, InboundPolicySource, Objects};
use ironmesh_model::{Labels, ListenerKind, ObjectId};

use super::mesh::Mesh;
use super::world::*;

/// The policy of pods with this label: a mode, and those of single ports.
pub(crate) fn policy(app: &str, mtls: MtlsMode, ports: &[(u16, MtlsMode)]) -> InboundPolicySource {
    let part = |(port, mtls): &(u16, MtlsMode)| InboundPart {
        workloads: Labels::default(),
        port: Some(*port),
        mtls: *mtls,
    };
    let id = ObjectId::new("PeerAuthentication", "default", "ports");
    let parts = ports.iter().map(part).collect();
    InboundPolicySource {
        policy: InboundPolicy { id, mtls: Some(mtls), parts },
        selectors: Some(vec![[("app", app)].into_iter().collect()]),
        only_oldest: true,
        found: Vec::new(),
        fields: InboundFields { selector: "spec.selector", ports: None },
        created: 0,
    }
}

/// What enters two ports of the workload `client`, of which a service declares the first.
fn entering(declared: &App, ports: &[(u16, MtlsMode)]) -> Objects {
    let mut objects = objects(Protocol::Tcp, &[declared]);
    objects.inbound_policies = vec![policy("client", MtlsMode::Permissive, ports)];
    objects
}

fn echo() -> App {
    App::start(|stream| {
        let mut wire = Wire::new(stream);
        while let Some(word) = wire.read_exact(4) {
            wire.send(&word);
        }
    })
}

fn is_reset(mut stream: &TcpStream) -> bool {
    match stream.read(&mut [0; 1]) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
        other => panic!("no reset: {other:?}"),
    }
}

fn connect(address: SocketAddr) -> Wire {
    Wire::new(TcpStream::connect(address).unwrap())
}

#[test]
fn a_port_that_becomes_strict_breaks_plaintext_off_there_and_nowhere_else() {
    let (declared, other) = (echo(), echo());
    let open = entering(&declared, &[]);
    let proxy = Proxy::start(ListenerKind::Inbound, declared.address, open);
    let second = proxy.also_for(ListenerKind::Inbound, other.address);
    let says = |wire: &mut Wire| {
        wire.send("wor\n");
        wire.read_exact(4).as_deref() == Some("wor\n")
    };
    let (mut at_declared, mut at_other) = (connect(proxy.address), connect(second));
    assert!(says(&mut at_declared) && says(&mut at_other));

    let strict = MtlsMode::Strict;
    proxy.change(entering(&declared, &[(declared.address.port(), strict)]));
    assert!(is_reset(&at_declared.stream));
    assert!(says(&mut at_other), "nothing is said of its port");
    let mut late = connect(proxy.address);
    late.send("wor\n");
    assert!(late.is_ended());
    assert!(says(&mut connect(second)));

    // The other way round, of a port that no service declares.
    proxy.change(entering(&declared, &[(other.address.port(), strict)]));
    assert!(is_reset(&at_other.stream));
    assert!(says(&mut connect(proxy.address)));
    let mut late = connect(second);
    late.send("wor\n");
    assert!(late.is_ended());
    assert_eq!((declared.connections(), other.connections()), (2, 2));
}

#[test]
fn members_reach_a_strict_port_and_others_the_one_beside_it() {
    let mesh = Mesh::new();
    let (strict, plain) = (App::named("strict"), App::named("plain"));
    let mut objects = objects(Protocol::Http, &[&strict, &plain]);
    let ports = [(strict.address.port(), MtlsMode::Strict)];
    objects.inbound_policies = vec![policy("client", MtlsMode::Disable, &ports)];
    let inbound = Proxy::start(ListenerKind::Inbound, strict.address, objects);
    mesh.certify(&inbound, "reviews");
    let second = inbound.also_for(ListenerKind::Inbound, plain.address);
    assert_eq!(connect(second).get("/").body, "plain");
    let mut refused = Wire::connect(&inbound);
    refused.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    assert!(refused.is_ended());
    let outbound = mesh.outbound(Protocol::Http, &[&inbound]);
    assert_eq!(Wire::connect(&outbound).get("/").body, "strict");
}

#[test]
fn callers_speak_to_a_port_as_it_takes_them() {
    let mesh = Mesh::new();
    let app = App::http(|request| ok(&request.head));
    let inbound = mesh.inbound(Protocol::Http, app.address, MtlsMode::Permissive, "reviews");
    let outbound = mesh.outbound(Protocol::Http, &[&inbound]);
    let mut client = Wire::connect(&outbound);
    let mut is_member = |port: u16, mtls, at_port| {
        let services = vec![reviews(Protocol::Http, vec![endpoint("v0", inbound.address, true)])];
        let inbound_policies = vec![policy("reviews", mtls, &[(port, at_port)])];
        outbound.change(Objects { services, inbound_policies, ..Objects::default() });
        client.get("/").body.contains("URI=spiffe://cluster.local/ns/default/sa/client")
    };
    let port = inbound.address.port();
    assert!(is_member(port, MtlsMode::Strict, MtlsMode::Permissive));
    assert!(!is_member(port, MtlsMode::Strict, MtlsMode::Disable));
    assert!(is_member(port, MtlsMode::Disable, MtlsMode::Strict));
    // Of another port it says nothing.
    assert!(!is_member(port ^ 1, MtlsMode::Disable, MtlsMode::Strict));
    assert!(is_member(port ^ 1, MtlsMode::Strict, MtlsMode::Disable));
}
