//! What Envoy's command operators stand for that headers and the access log may say of a request.

use std::net::SocketAddr;

use ironmesh_identity::{Clock, SystemClock};
use ironmesh_model::entry::SECURE_SCHEME;
use ironmesh_model::header_value::first_of;
use ironmesh_model::operator::{Command, Operator, Value};
use ironmesh_model::{Decision, HeaderLookup, Plan, Reason};
use ironmesh_telemetry::access_log::{Cluster, time_text};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::message::{Fields, RequestHead, ResponseHead};

/// A request or an opaque connection, as far as it is known by then.
pub(crate) struct Told<'a> {
    pub(crate) connection: &'a Connection,
    /// The client, who need not be who connects.
    pub(crate) client: SocketAddr,
    /// What was decided; `None`: nothing yet.
    pub(crate) decision: Option<&'a Decision>,
    /// Where it was sent; `None`: not yet.
    pub(crate) upstream: Option<SocketAddr>,
    /// When its head was complete.
    pub(crate) started: Instant,
}

impl<'a> Told<'a> {
    /// What an operator of a header's value stands for; `None`: nothing that is known.
    pub(crate) fn in_header(
        &self,
        operator: Operator<'_>,
        request: &RequestHead,
        response: Option<&ResponseHead>,
    ) -> Option<String> {
        let argument = operator.argument;
        let value = match Command::in_headers(operator.name)? {
            Command::Request => {
                first_of(argument, |name| of_request(self.connection, request, name))
            }
            Command::Response => {
                let response = response?;
                first_of(argument, |name| field(&response.fields, name))
            }
            Command::ResponseCode => Some(Value::Number(u64::from(response?.status))),
            Command::Protocol => Some(request.version.word().into()),
            command => self.of(command, argument),
        };
        value.map(String::from)
    }

    /// What an operator stands for that is no matter of messages.
    pub(crate) fn of(&self, command: Command, argument: &str) -> Option<Value<'a>> {
        let (connection, client) = (self.connection, self.client);
        let Connection { peer, destination, .. } = *connection;
        Some(match command {
            Command::Hostname => (&*connection.workload.id.name).into(),
            Command::StartTime => {
                let began = SystemClock.now().0.saturating_sub(self.started.elapsed());
                time_text(argument, began).into()
            }
            Command::Route => self.decision?.route_name()?.into(),
            Command::UpstreamCluster => cluster(connection, self.decision?)?.name().into(),
            Command::UpstreamAddress => Value::Address(self.upstream?),
            Command::UpstreamIp => Value::Ip(self.upstream?.ip()),
            Command::UpstreamPort => port(self.upstream?),
            Command::DownstreamAddress => Value::Address(client),
            Command::DownstreamIp => Value::Ip(client.ip()),
            Command::DownstreamPort => port(client),
            Command::DownstreamDirectAddress => Value::Address(peer),
            Command::DownstreamDirectIp => Value::Ip(peer.ip()),
            Command::DownstreamDirectPort => port(peer),
            Command::DownstreamLocalAddress => Value::Address(destination),
            Command::DownstreamLocalIp => Value::Ip(destination.ip()),
            Command::DownstreamLocalPort => port(destination),
            Command::DownstreamIdentity => connection.peer_identity.as_ref()?.to_string().into(),
            Command::ServerName => connection.named_host()?.into(),
            _ => return None,
        })
    }
}

/// A port, as an operator stands for it.
pub(crate) fn port(address: SocketAddr) -> Value<'static> {
    Value::Number(u64::from(address.port()))
}

/// The cluster that something went to, or would have.
pub(crate) fn cluster<'a>(connection: &Connection, decision: &'a Decision) -> Option<Cluster<'a>> {
    match (&decision.plan, decision.backend()) {
        (Plan::ToWorkload(_), _) => Some(Cluster::Inbound { port: connection.destination.port() }),
        (Plan::Passthrough, _) => Some(Cluster::Passthrough),
        (_, Some(backend)) => Some(Cluster::Outbound {
            port: backend.port,
            subset: backend.subset.as_deref(),
            host: &backend.host,
        }),
        (_, None) => (decision.reason == Reason::Blocked).then_some(Cluster::BlackHole),
    }
}

/// A header of a request, or what stands for one.
pub(crate) fn of_request<'v>(
    connection: &Connection,
    request: &'v RequestHead,
    name: &str,
) -> Option<Value<'v>> {
    let own = match name {
        ":method" => request.method(),
        ":path" => request.target(),
        ":authority" | "host" => request.authority(),
        ":scheme" if connection.https => SECURE_SCHEME,
        ":scheme" => request.scheme(),
        _ => return field(&request.fields, name),
    };
    (!own.is_empty()).then(|| own.into())
}

/// A header.
pub(crate) fn field<'v>(fields: &'v Fields, name: &str) -> Option<Value<'v>> {
    HeaderLookup::value(fields, name).map(Value::Text)
}
