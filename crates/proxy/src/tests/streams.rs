//! Connections that no socket carries: whole requests over pipes in memory, plain, by HTTP/2 and
//! within the mesh's TLS.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::Request;
use ironmesh_model::policy::MtlsMode;
use ironmesh_model::service::Protocol;
use ironmesh_model::{Draw, ListenerKind, Seen};
use ironmesh_telemetry::{AccessLog, Registry};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

use super::http2::{call, runtime};
use super::mesh::Mesh;
use super::world::*;
use crate::connect::Connector;
use crate::connection::Connection;
use crate::process::Process;
use crate::serve;
use crate::stream::Stream;
use crate::worker::Worker;
use crate::workload::LocalWorkload;

/// Lets a client speak to the proxy of a workload over a pipe, to the end of the connection.
fn over_a_pipe<F: Future<Output = ()>>(
    kind: ListenerKind,
    workload: &Arc<LocalWorkload>,
    destination: SocketAddr,
    client: impl FnOnce(DuplexStream) -> F,
) {
    let process = Arc::new(Process::new(Default::default(), Connector::of_loopback(), 1));
    let log = AccessLog::start(std::io::sink(), 1).unwrap();
    let worker = Rc::new(Worker::alone(process, &Registry::new(10), &log));
    let connection = Connection {
        kind,
        workload: workload.clone(),
        peer: "127.0.0.1:4711".parse().unwrap(),
        destination,
        peer_identity: None,
        client: String::new(),
        certificate: String::new(),
        topology: Default::default(),
        tls_version: None,
        https: false,
        expires: None,
        server_name: Seen::NotRead,
        draw: Draw(0),
    };
    let (near, far) = duplex(16 << 10);
    LocalSet::new().block_on(&runtime(), async {
        let serving = async move { serve::serve(&worker, connection, Stream::pipe(far)).await };
        let serving = spawn_local(serving);
        timeout(PATIENCE, client(near)).await.expect("an answer in time");
        timeout(PATIENCE, serving).await.expect("an end in time").unwrap();
    });
}

/// One request, and all that comes back.
async fn ask(mut pipe: impl AsyncRead + AsyncWrite + Unpin) -> String {
    let request = "POST /a HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 5\r\n\
                   connection: close\r\n\r\nhello";
    pipe.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    pipe.read_to_string(&mut answer).await.unwrap();
    answer
}

fn assert_is_echo(answer: &str) {
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"),
        "{answer}"
    );
}

#[test]
fn a_request_is_served_over_a_pipe() {
    let app = App::http(|request| ok(&request.body));
    let outbound = ListenerKind::Outbound;
    // Of the undeclared one it is found out what is spoken.
    for protocol in [Protocol::Undeclared, Protocol::Http] {
        let workload = workload("client");
        serve_views(&workload, objects(protocol, &[&app]));
        over_a_pipe(outbound, &workload, service_address(), |pipe| async {
            assert_is_echo(&ask(pipe).await);
        });
    }
    let workload = workload("client");
    serve_views(&workload, objects(Protocol::Http, &[&app]));
    over_a_pipe(outbound, &workload, service_address(), |pipe| async {
        let (client, connection) = h2::client::handshake(pipe).await.unwrap();
        let connection = spawn_local(connection);
        let request = Request::post("http://reviews:9080/b").body(()).unwrap();
        let answer = call(client, request, b"hello".to_vec()).await;
        assert_eq!((answer.0, &*answer.2), (200, &b"hello"[..]));
        connection.abort();
    });
}

#[test]
fn opaque_bytes_are_relayed_over_a_pipe() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        assert_eq!(wire.read_exact(5).as_deref(), Some("hello"));
        wire.send("goodbye");
    });
    let workload = workload("client");
    serve_views(&workload, objects(Protocol::Tcp, &[&app]));
    over_a_pipe(ListenerKind::Outbound, &workload, service_address(), |mut pipe| async move {
        pipe.write_all(b"hello").await.unwrap();
        let mut answer = String::new();
        pipe.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "goodbye");
    });
}

#[test]
fn the_mesh_s_tls_is_ended_over_a_pipe() {
    let (mesh, app) = (Mesh::new(), App::http(|request| ok(&request.body)));
    let own = workload("reviews");
    let mut objects = objects(Protocol::Http, &[&app]);
    objects.settings.mtls_mode = MtlsMode::Strict;
    serve_views(&own, objects);
    own.credentials.store(Some(mesh.credentials("reviews")));
    let client = mesh.credentials("client");
    over_a_pipe(ListenerKind::Inbound, &own, app.address, |pipe| async move {
        let alpn: &[&[u8]] = &[b"istio-http/1.1"];
        let tls = client.connect(pipe, alpn, &identity("reviews"), "127.0.0.1").await.unwrap();
        assert_is_echo(&ask(tls).await);
    });
    over_a_pipe(ListenerKind::Inbound, &own, app.address, |mut pipe| async move {
        pipe.write_all(b"GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        pipe.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"", "plaintext is refused");
    });
}
