//! `Gateway`.

use ironmesh_model::listeners::GatewayProtocol;
use ironmesh_model::snapshot::{GatewayServer, GatewaySource};
use ironmesh_model::{Finding, Name};

use super::labels;
use crate::Object;
use crate::schema::read;
use crate::translate::Part;

mod fields;

pub use fields::*;

/// Translates a Gateway. A server of a protocol that is not served yet is a finding, and left out.
pub(crate) fn gateway(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let Gateway { spec, .. } = read(object, findings)?;
    let servers = spec.servers.into_iter().filter_map(|given| server(object, given)).collect();
    Some(Part::Gateway(Box::new(GatewaySource {
        id: object.id().clone(),
        selector: labels(&spec.selector),
        servers,
        created: object.created(),
    })))
}

fn server(object: &Object, server: Server) -> Option<GatewayServer> {
    let ServerPort { number: port, name, protocol, .. } = server.port;
    match protocol {
        ServerProtocol::Http
        | ServerProtocol::Http2
        | ServerProtocol::Grpc
        | ServerProtocol::GrpcWeb => {}
        ServerProtocol::Https
        | ServerProtocol::Tls
        | ServerProtocol::Tcp
        | ServerProtocol::Mongo => return None,
    }
    Some(GatewayServer {
        port,
        name: name.into(),
        protocol: GatewayProtocol::Http,
        hosts: server.hosts.iter().map(|given| host(object, given)).collect(),
    })
}

/// `HOST`, or `NAMESPACE/HOST` with `.` for the Gateway's own namespace and `*` for any.
fn host(object: &Object, given: &str) -> (Option<Name>, Name) {
    let (namespace, host) = match given.split_once('/') {
        None | Some(("*", _)) => (None, given.rsplit_once('/').map_or(given, |(_, host)| host)),
        Some((".", host)) => (Some(object.namespace().clone()), host),
        Some((namespace, host)) => (Some(namespace.into()), host),
    };
    (namespace, host.to_ascii_lowercase().into())
}
