//! Ports of a gateway, as Gateways come and go.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use ironmesh_model::listeners::GatewayProtocol;
use ironmesh_model::snapshot::{GatewayServer, GatewaySource, Objects};
use ironmesh_model::{ListenerKind, ObjectId, ResourceKey};

use super::world::*;
use crate::edge::{self, EdgeListeners};

/// A Gateway with these ports.
fn gateway(ports: &[u16]) -> Objects {
    let server = |port: &u16| GatewayServer {
        port: *port,
        name: format!("http-{port}").into(),
        protocol: GatewayProtocol::Http,
        hosts: vec![(None, "*".into())],
        tls: None,
        redirects: false,
    };
    Objects {
        gateways: vec![GatewaySource {
            id: ObjectId::new("Gateway", "default", "edge"),
            selector: [("app", "client")].into_iter().collect(),
            servers: ports.iter().map(server).collect(),
            created: 0,
        }],
        ..Objects::default()
    }
}

/// A proxy at the edge that opens its ports itself.
fn at_edge(ports: &[u16]) -> Proxy {
    let server: SocketAddr = "10.77.0.2:80".parse().unwrap();
    let proxy = Proxy::start(ListenerKind::Gateway, server, gateway(ports));
    let (process, workload) = (proxy.process.clone(), proxy.workload.clone());
    let workers = proxy.workers.clone().unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::select! {
                () = edge::keep_open(&process, &workload, &workers, None, EdgeListeners::new()) => {}
                () = process.drains() => {}
            }
        });
    });
    proxy.workload.views.want(ResourceKey::Listeners);
    proxy
}

/// A port that is free, and stays so for as long as the socket is kept.
fn reserved() -> (u16, TcpListener) {
    let socket = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    (socket.local_addr().unwrap().port(), socket)
}

fn dial(port: u16) -> Option<Wire> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok().map(Wire::new)
}

/// Whether a request there gets the mesh's answer.
fn is_served(port: u16) -> bool {
    dial(port).is_some_and(|mut wire| wire.get("/").status == 404)
}

#[test]
fn ports_open_and_close_with_the_gateways_that_name_them() {
    let ((first, socket), (second, other)) = (reserved(), reserved());
    drop((socket, other));
    let proxy = at_edge(&[first]);
    eventually("the first port", || dial(first).is_some());
    let mut kept = dial(first).unwrap();
    assert_eq!(kept.get("/").status, 404);
    proxy.change(gateway(&[second]));
    eventually("the second port", || is_served(second));
    eventually("the end of the first", || dial(first).is_none());
    assert_eq!(kept.get("/").status, 404, "an open connection is served on");
    proxy.change(gateway(&[first, second]));
    eventually("the first port again", || dial(first).is_some());
    assert!(is_served(first) && is_served(second));
}

#[test]
fn a_port_that_was_taken_is_tried_again() {
    let (port, taken) = reserved();
    let (other, socket) = reserved();
    drop(socket);
    let _proxy = at_edge(&[port, other]);
    eventually("the other port", || is_served(other));
    drop(taken);
    eventually("the port that was taken", || dial(port).is_some());
    assert!(is_served(port));
}
