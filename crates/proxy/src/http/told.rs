//! What the values of header operations may say of a request: what Envoy's command operators stand for.

use std::net::SocketAddr;

use ironmesh_identity::{Clock, SystemClock};
use ironmesh_model::header_value::{Operator, first_of};
use ironmesh_model::{Decision, HeaderLookup, Seen};
use ironmesh_telemetry::access_log::date_time;
use tokio::time::Instant;

use crate::connection::Connection;
use crate::message::{Fields, RequestHead, ResponseHead};

/// A request, as far as it is known by then.
pub(crate) struct Told<'a> {
    pub(crate) connection: &'a Connection,
    /// The client, who need not be who connects.
    pub(crate) client: SocketAddr,
    pub(crate) decision: &'a Decision,
    /// Where it was sent; `None`: not yet.
    pub(crate) upstream: Option<SocketAddr>,
    /// When its head was complete.
    pub(crate) started: Instant,
}

impl Told<'_> {
    /// What an operator stands for; `None`: nothing that is known.
    pub(crate) fn of(
        &self,
        operator: Operator<'_>,
        request: &RequestHead,
        response: Option<&ResponseHead>,
    ) -> Option<String> {
        let (Connection { peer, destination, .. }, client) = (self.connection, self.client);
        Some(match operator.name {
            "REQ" | "REQUEST_HEADER" => {
                return first_of(operator.argument, |name| of_request(request, name));
            }
            "RESP" | "RESPONSE_HEADER" => {
                let response = response?;
                return first_of(operator.argument, |name| field(&response.fields, name));
            }
            "RESPONSE_CODE" => response?.status.to_string(),
            "PROTOCOL" => request.version.word().to_owned(),
            "HOSTNAME" => self.connection.workload.id.name.to_string(),
            "START_TIME" => date_time(SystemClock.now().0.saturating_sub(self.started.elapsed())),
            "ROUTE_NAME" => self.decision.route_name()?,
            "UPSTREAM_CLUSTER" => self.decision.group()?.cluster_name(),
            "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => self.upstream?.to_string(),
            "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => self.upstream?.ip().to_string(),
            "DOWNSTREAM_REMOTE_ADDRESS" => client.to_string(),
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => client.ip().to_string(),
            "DOWNSTREAM_REMOTE_PORT" => client.port().to_string(),
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => peer.to_string(),
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => peer.ip().to_string(),
            "DOWNSTREAM_DIRECT_REMOTE_PORT" => peer.port().to_string(),
            "DOWNSTREAM_LOCAL_ADDRESS" => destination.to_string(),
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => destination.ip().to_string(),
            "DOWNSTREAM_LOCAL_PORT" => destination.port().to_string(),
            "DOWNSTREAM_PEER_URI_SAN" => self.connection.peer_identity.as_ref()?.to_string(),
            "REQUESTED_SERVER_NAME" => match &self.connection.server_name {
                Seen::Is(name) => name.clone(),
                Seen::NotRead | Seen::Absent => return None,
            },
            _ => return None,
        })
    }
}

fn of_request(request: &RequestHead, name: &str) -> Option<String> {
    let own = match name {
        ":method" => request.method(),
        ":path" => request.target(),
        ":authority" | "host" => request.authority(),
        ":scheme" => request.scheme(),
        _ => return field(&request.fields, name),
    };
    (!own.is_empty()).then(|| own.to_owned())
}

fn field(fields: &Fields, name: &str) -> Option<String> {
    HeaderLookup::value(fields, name).map(|value| value.into_owned())
}
