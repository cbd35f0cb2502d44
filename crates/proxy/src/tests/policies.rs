//! What happens to connections that are open when the policies that they are under change.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ironmesh_model::ListenerKind;
use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::policy::MtlsMode;
use ironmesh_model::service::Protocol;
use ironmesh_model::settings::OutboundPolicy;
use ironmesh_model::snapshot::Objects;

use super::http2::{Http2App, block_on, call, connect, grpc};
use super::mesh::Mesh;
use super::world::*;

/// What enters an application, in this mode.
fn entering(protocol: Protocol, app: SocketAddr, mode: MtlsMode) -> Objects {
    let services = vec![reviews(protocol, vec![endpoint("v1", app, false)])];
    let mut objects = Objects { services, ..Objects::default() };
    objects.settings.mtls_mode = mode;
    objects
}

/// Whether a connection ends with a reset: an end would say that all bytes have come.
fn is_reset(mut stream: &TcpStream) -> bool {
    match stream.read(&mut [0; 1]) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
        other => panic!("no reset: {other:?}"),
    }
}

/// Says what it hears, and must be broken off in the end.
fn echo_until_reset() -> App {
    App::start(|stream| {
        let mut wire = Wire::new(stream);
        let word = wire.read_exact(4).unwrap();
        wire.send(&word);
        assert!(is_reset(&wire.stream));
    })
}

#[test]
fn plaintext_that_nobody_looks_into_is_broken_off_when_a_workload_becomes_strict() {
    let app = echo_until_reset();
    let permissive = entering(Protocol::Tcp, app.address, MtlsMode::Permissive);
    let inbound = Proxy::start(ListenerKind::Inbound, app.address, permissive.clone());
    let mut client = Wire::connect(&inbound);
    client.send("wor\n");
    assert_eq!(client.read_exact(4).unwrap(), "wor\n");
    // Another change of the configuration breaks nothing off.
    let mut other = permissive;
    other.services[0].endpoints.clear();
    inbound.change(other);
    assert_eq!(inbound.process.connections(), 1);
    inbound.change(entering(Protocol::Tcp, app.address, MtlsMode::Strict));
    assert!(is_reset(&client.stream));
    app.finish();
    eventually("a log line", || inbound.lines.text().contains(" NR filter_chain_not_found "));
    // So is whoever comes now.
    let mut late = Wire::connect(&inbound);
    late.send("wor\n");
    assert!(late.is_ended());
    assert_eq!(app.connections(), 1);
}

#[test]
fn idle_plaintext_ends_when_a_workload_becomes_strict_and_members_stay() {
    let mesh = Mesh::new();
    let app = App::named("a");
    let inbound = mesh.inbound(Protocol::Http, app.address, MtlsMode::Permissive, "reviews");
    let outbound = mesh.outbound(Protocol::Http, &[&inbound]);
    let (mut plain, mut member) = (Wire::connect(&inbound), Wire::connect(&outbound));
    let mut silent = Wire::connect(&inbound);
    for client in [&mut plain, &mut member] {
        assert_eq!(client.get("/").body, "a");
    }
    inbound.change(entering(Protocol::Http, app.address, MtlsMode::Strict));
    assert!(plain.is_ended());
    silent.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    assert!(silent.is_ended(), "what had said nothing yet is under the policy of now");
    for _ in 0..3 {
        assert_eq!(member.get("/").body, "a");
    }
    eventually("the end of the others", || inbound.process.connections() == 1);
}

#[test]
fn idle_http2_in_plaintext_ends_when_a_workload_becomes_strict() {
    let app = Http2App::echo();
    let permissive = entering(Protocol::Grpc, app.address, MtlsMode::Permissive);
    let inbound = Proxy::start(ListenerKind::Inbound, app.address, permissive);
    block_on(async {
        let client = connect(&inbound).await;
        assert_eq!(call(client.clone(), grpc("/"), b"x".to_vec()).await.2, b"x");
        inbound.change(entering(Protocol::Grpc, app.address, MtlsMode::Strict));
        while inbound.process.connections() > 0 {
            tokio::task::yield_now().await;
        }
        drop(client);
    });
}

#[test]
fn what_passes_through_is_broken_off_when_the_mesh_closes() {
    let app = echo_until_reset();
    let open = Objects::default();
    let outbound = Proxy::start(ListenerKind::Outbound, app.address, open.clone());
    let mut client = Wire::connect(&outbound);
    client.send("wor\n");
    assert_eq!(client.read_exact(4).unwrap(), "wor\n");
    let mut closed = open;
    closed.settings.outbound_policy = OutboundPolicy::RegistryOnly;
    outbound.change(closed);
    assert!(is_reset(&client.stream));
    app.finish();
    eventually("a log line", || outbound.lines.text().contains(" NR direct_response "));
}

/// Nobody can speak first where nothing may be dialled, and the request may name a host that is known.
#[test]
fn a_client_that_hesitates_gets_an_answer_where_the_mesh_is_closed() {
    let app = App::named("a");
    let mut closed = objects(Protocol::Http, &[&app]);
    closed.settings.outbound_policy = OutboundPolicy::RegistryOnly;
    let unknown = "192.0.2.1:9080".parse().unwrap();
    let setup = Setup::new(ListenerKind::Outbound, unknown, closed);
    let limits = ProxyLimits { outbound_silence: Duration::ZERO, ..setup.limits.clone() };
    let proxy = Proxy::begin(Setup { limits, ..setup });
    let mut late = Wire::connect(&proxy);
    eventually("its connection", || proxy.process.connections() == 1);
    let mut blocked = Wire::connect(&proxy);
    blocked.send("GET / HTTP/1.1\r\nhost: unknown.test\r\n\r\n");
    assert_eq!(blocked.read_response(false).status, 502);
    assert_eq!(late.get("/").body, "a");
}

/// An HTTP port whose requests are decided about one by one.
#[test]
fn a_strict_workload_serves_no_further_request_of_a_connection_in_plaintext() {
    let app = App::named("a");
    let permissive = entering(Protocol::Http, app.address, MtlsMode::Permissive);
    let inbound = Proxy::start(ListenerKind::Inbound, app.address, permissive);
    let mut client = Wire::connect(&inbound);
    assert_eq!(client.get("/").body, "a");
    inbound.change(entering(Protocol::Http, app.address, MtlsMode::Strict));
    client.send("GET /late HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    assert!(client.is_ended());
    eventually("its end", || inbound.process.connections() == 0);
    assert!(!inbound.lines.text().contains("GET /late HTTP/1.1\" 200"));
}
