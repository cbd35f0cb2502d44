//! The memory that a connection's future takes. A change here is a change of every proxy's memory.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use ironmesh_model::{ListenerKind, View};
use ironmesh_telemetry::{AccessLog, Registry};

use super::world::workload;
use crate::connect::Dialler;
use crate::connection::Connection;
use crate::destination::OriginalDestination;
use crate::http::server1;
use crate::process::Process;
use crate::serve;
use crate::stream::Stream;
use crate::views::Views;
use crate::worker::{Listener, Worker};

#[test]
fn futures_of_connections_are_small() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (whole, http1) = runtime.block_on(async {
        let (views, _wanted) = Views::new(View::default());
        let dialler = Dialler::new(Vec::new(), None);
        let process = Arc::new(Process::new(Default::default(), views, dialler, workload("w"), 1));
        let log = AccessLog::start(std::io::sink(), 1).unwrap();
        let worker = Rc::new(Worker::alone(process, &Registry::new(10), &log));
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address: SocketAddr = socket.local_addr().unwrap();
        let listener = Listener {
            kind: ListenerKind::Outbound,
            workload: workload("w"),
            original: OriginalDestination::Fixed(address),
            socket,
        };
        let connect = || tokio::net::TcpStream::connect(address);
        let whole = serve::accepted(&worker, connect().await.unwrap(), address, &listener);
        let connection = Connection {
            kind: ListenerKind::Outbound,
            workload: workload("w"),
            peer: address,
            destination: address,
            peer_identity: None,
            server_name: None,
        };
        let stream = Stream::plain(connect().await.unwrap());
        let http1 = server1::serve_connection(&worker, &connection, stream, bytes::BytesMut::new());
        (size_of_val(&whole), size_of_val(&http1))
    });
    assert!(http1 <= 4 << 10, "HTTP/1: {http1} bytes");
    assert!(whole <= 5 << 10, "whole: {whole} bytes");
}
