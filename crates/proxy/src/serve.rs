//! The path of one connection: accept → detect → (authorize) → HTTP or opaque.

use std::net::SocketAddr;
use std::rc::Rc;

use ironmesh_model::topology::Topology;
use ironmesh_model::{Draw, ListenerKind, Reason, Seen};
use tokio::net::TcpStream;

use crate::connection::Connection;
use crate::detect::{self, Detected};
use crate::failure::Failure;
use crate::http::{http1_server, http2_server};
use crate::opaque;
use crate::stream::Stream;
use crate::worker::{Listener, Worker};

/// Serves a connection that a listener has accepted; `None`: it is refused. What it is given is turned
/// into what is kept before the future is made, which would hold both.
pub(crate) fn accepted<'a>(
    worker: &'a Rc<Worker>,
    tcp: TcpStream,
    peer: SocketAddr,
    listener: &Listener,
) -> Option<impl Future<Output = ()> + use<'a>> {
    let found = listener.original.of(&tcp, peer);
    let (Ok(destination) | Err(destination)) = found;
    let at_gateway = listener.kind == ListenerKind::Gateway;
    let connection = Connection {
        kind: listener.kind,
        workload: listener.workload.clone(),
        peer,
        destination,
        peer_identity: None,
        client: if at_gateway { peer.ip().to_string() } else { String::new() },
        certificate: String::new(),
        topology: match at_gateway {
            true => listener.workload.topology(),
            false => Topology::default(),
        },
        tls_version: None,
        https: false,
        expires: worker.expires(),
        server_name: Seen::NotRead,
        draw: Draw(worker.random.next()),
    };
    if found.is_err() {
        // The proxy would dial itself.
        opaque::refused(worker, &connection, Failure::mesh(Reason::OwnPort));
        return None;
    }
    Some(serve(worker, connection, Stream::tcp(tcp)))
}

/// Serves a connection from its first byte to its last, whatever carries it.
pub(crate) async fn serve(worker: &Rc<Worker>, mut connection: Connection, stream: Stream) {
    match detect::detect(worker, &mut connection, stream).await {
        Detected::Http1(stream, first) => {
            http1_server::serve_connection(worker, &connection, stream, first).await;
        }
        Detected::Http2(stream) => {
            http2_server::serve_connection(worker, &Rc::new(connection), stream).await;
        }
        Detected::Opaque(opaque) => opaque::serve_connection(worker, &connection, opaque).await,
        Detected::Refused(failure) => opaque::refused(worker, &connection, failure),
        Detected::Gone => {}
    }
}
