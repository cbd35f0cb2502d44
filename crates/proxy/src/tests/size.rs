//! The memory that a connection's future takes. A change here is a change of every proxy's memory.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use ironmesh_model::{Draw, ListenerKind, Seen, Silent, Traffic, View, decide};
use ironmesh_telemetry::{AccessLog, Registry};
use tokio::net::{TcpListener, TcpStream};

use super::world::workload;
use crate::connect::Connector;
use crate::connection::Connection;
use crate::destination::OriginalDestination;
use crate::http::{http1_server, http2_server};
use crate::opaque::{self, Opaque};
use crate::process::Process;
use crate::serve;
use crate::stream::Stream;
use crate::worker::{Listener, Worker};

#[test]
fn futures_of_connections_are_small() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let process = Arc::new(Process::new(Default::default(), Connector::of_loopback(), 1));
        let log = AccessLog::start(std::io::sink(), 1).unwrap();
        let worker = Rc::new(Worker::alone(process, &Registry::new(10), &log));
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let original = OriginalDestination::Fixed(address);
        let listener = Listener::new(ListenerKind::Outbound, workload("w"), original, socket);
        let connect = async || TcpStream::connect(address).await.unwrap();
        let whole = serve::accepted(&worker, connect().await, address, &listener).unwrap();
        assert_at_most("whole", 5 << 10, &whole);

        let connection = Rc::new(Connection {
            kind: ListenerKind::Outbound,
            workload: workload("w"),
            peer: address,
            destination: address,
            peer_identity: None,
            client: String::new(),
            certificate: String::new(),
            topology: Default::default(),
            tls_version: None,
            https: false,
            expires: None,
            server_name: Seen::Absent,
            draw: Draw(0),
        });
        let stream = async || Stream::tcp(connect().await);
        let first = BytesMut::new();
        let http1 = http1_server::serve_connection(&worker, &connection, stream().await, first);
        assert_at_most("HTTP/1", 4 << 10, &http1);
        let http2 = http2_server::serve_connection(&worker, &connection, stream().await);
        assert_at_most("HTTP/2", 2 << 10, &http2);
        let (request, respond) = http2_stream().await;
        let stream_of_http2 = http2_server::serve_stream(&worker, &connection, request, respond);
        assert_at_most("a stream of HTTP/2", 4 << 10, &stream_of_http2);
        let (stream, first) = (stream().await, BytesMut::new());
        let local = connection.workload.local.load();
        let traffic = Traffic::Connection(connection.seen(&local));
        let decision = decide(&View::default(), &traffic, Draw(0), &mut Silent);
        let opaque = Opaque { stream, first, decision, dialled: None };
        let opaque = opaque::serve_connection(&worker, &connection, opaque);
        assert_at_most("opaque", 3 << 10, &opaque);
    });
}

fn assert_at_most<F>(name: &str, bytes_max: usize, future: &F) {
    let bytes = size_of_val(future);
    assert!(bytes <= bytes_max, "{name}: {bytes} bytes");
}

/// A request over HTTP/2, as a server gets it.
async fn http2_stream() -> (Request<RecvStream>, SendResponse<Bytes>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let tcp = TcpStream::connect(address).await.unwrap();
        let (mut client, connection) = h2::client::handshake(tcp).await.unwrap();
        let _sent = client.send_request(Request::get("http://a/").body(()).unwrap(), true).unwrap();
        // It ends with the runtime.
        let _ = connection.await;
    });
    let mut server = h2::server::handshake(socket.accept().await.unwrap().0).await.unwrap();
    server.accept().await.unwrap().unwrap()
}
