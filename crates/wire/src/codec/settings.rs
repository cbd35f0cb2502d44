//! Messages of the mesh's settings and of a gateway's listeners.

use std::sync::Arc;
use std::time::Duration;

use ironmesh_model::chunk::Chunk;
use ironmesh_model::listeners::{Domains, GatewayListener, GatewayProtocol, Listeners};
use ironmesh_model::log_format::LogFormat;
use ironmesh_model::settings::{AccessLogEncoding, IngressControl, OutboundPolicy, Settings};
use ironmesh_model::topology::{ForwardClientCert, Topology};
use prost::Message;

use super::common::{choice, messages, names, nanoseconds, narrow, required, text, values};
use super::policy::locality::LocalityMessage;
use super::policy::{mtls, mtls_number};
use super::server::ListenerServerMessage;
use super::{Coded, DecodeError};

choice!(
    outbound_number,
    outbound,
    OutboundPolicy,
    "outbound policy",
    [OutboundPolicy::AllowAny, OutboundPolicy::RegistryOnly]
);

choice!(
    encoding_number,
    encoding,
    AccessLogEncoding,
    "access log encoding",
    [AccessLogEncoding::Text, AccessLogEncoding::Json]
);

choice!(
    client_cert_number,
    client_cert,
    ForwardClientCert,
    "what becomes of certificates of clients",
    [
        ForwardClientCert::SanitizeSet,
        ForwardClientCert::Sanitize,
        ForwardClientCert::ForwardOnly,
        ForwardClientCert::AppendForward,
        ForwardClientCert::AlwaysForwardOnly,
    ]
);

choice!(
    protocol_number,
    protocol,
    GatewayProtocol,
    "protocol of a gateway",
    [GatewayProtocol::Http, GatewayProtocol::Tls, GatewayProtocol::Tcp]
);

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct SettingsMessage {
    #[prost(uint32, tag = "1")]
    outbound_policy: u32,
    #[prost(bool, tag = "2")]
    access_log: bool,
    #[prost(uint32, tag = "3")]
    access_log_encoding: u32,
    #[prost(uint64, tag = "4")]
    certificate_ttl_nanoseconds: u64,
    #[prost(string, tag = "5")]
    trust_domain: String,
    #[prost(string, tag = "6")]
    root_namespace: String,
    #[prost(uint64, tag = "7")]
    detect_timeout_nanoseconds: u64,
    #[prost(uint64, tag = "8")]
    connect_timeout_nanoseconds: u64,
    #[prost(uint64, tag = "9")]
    drain_duration_nanoseconds: u64,
    #[prost(uint32, tag = "10")]
    pub(super) mtls_mode: u32,
    #[prost(bool, tag = "11")]
    gateway_proxy_protocol: bool,
    #[prost(message, optional, tag = "12")]
    locality: Option<LocalityMessage>,
    #[prost(uint32, tag = "13")]
    trusted_proxies: u32,
    #[prost(uint32, tag = "14")]
    client_cert: u32,
    #[prost(string, tag = "15")]
    pub(super) access_log_format: String,
}

impl Coded for Settings {
    type Message = SettingsMessage;

    fn message(&self) -> SettingsMessage {
        SettingsMessage {
            outbound_policy: outbound_number(self.outbound_policy),
            access_log: self.access_log,
            access_log_encoding: encoding_number(self.access_log_encoding),
            access_log_format: self.access_log_format.source().to_owned(),
            certificate_ttl_nanoseconds: nanoseconds(self.certificate_ttl),
            trust_domain: text(&self.trust_domain),
            root_namespace: text(&self.root_namespace),
            detect_timeout_nanoseconds: nanoseconds(self.detect_timeout),
            connect_timeout_nanoseconds: nanoseconds(self.connect_timeout),
            drain_duration_nanoseconds: nanoseconds(self.drain_duration),
            mtls_mode: mtls_number(self.mtls_mode),
            gateway_proxy_protocol: self.gateway_proxy_protocol,
            trusted_proxies: self.gateway_topology.trusted_proxies,
            client_cert: client_cert_number(self.gateway_topology.client_cert),
            locality: Some(self.locality.message()),
        }
    }

    fn value(m: SettingsMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            outbound_policy: outbound(m.outbound_policy)?,
            access_log: m.access_log,
            access_log_encoding: encoding(m.access_log_encoding)?,
            access_log_format: LogFormat::parse(&m.access_log_format)?,
            certificate_ttl: Duration::from_nanos(m.certificate_ttl_nanoseconds),
            trust_domain: m.trust_domain.into(),
            root_namespace: m.root_namespace.into(),
            detect_timeout: Duration::from_nanos(m.detect_timeout_nanoseconds),
            connect_timeout: Duration::from_nanos(m.connect_timeout_nanoseconds),
            drain_duration: Duration::from_nanos(m.drain_duration_nanoseconds),
            mtls_mode: mtls(m.mtls_mode)?,
            gateway_proxy_protocol: m.gateway_proxy_protocol,
            gateway_topology: Topology {
                trusted_proxies: m.trusted_proxies,
                client_cert: client_cert(m.client_cert)?,
            },
            locality: Arc::new(required(m.locality, "the preference of localities")?),
            // Only the control plane asks for it.
            ingress: IngressControl::default(),
        })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct ListenersMessage {
    #[prost(message, repeated, tag = "1")]
    listeners: Vec<GatewayListenerMessage>,
}

impl Coded for Listeners {
    type Message = ListenersMessage;

    fn message(&self) -> ListenersMessage {
        ListenersMessage { listeners: messages(&self.listeners) }
    }

    fn value(m: ListenersMessage) -> Result<Self, DecodeError> {
        Ok(Self { listeners: values(m.listeners)? })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct GatewayListenerMessage {
    #[prost(uint32, tag = "1")]
    port: u32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint32, tag = "3")]
    protocol: u32,
    #[prost(uint32, repeated, tag = "4")]
    domain_chunks: Vec<u32>,
    #[prost(message, repeated, tag = "5")]
    servers: Vec<ListenerServerMessage>,
}

impl Coded for GatewayListener {
    type Message = GatewayListenerMessage;

    fn message(&self) -> GatewayListenerMessage {
        GatewayListenerMessage {
            port: u32::from(self.port),
            name: text(&self.name),
            protocol: protocol_number(self.protocol),
            domain_chunks: self.domain_chunks.iter().map(|chunk| chunk.0).collect(),
            servers: messages(&self.servers),
        }
    }

    fn value(m: GatewayListenerMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            port: narrow(m.port, "the port of a listener")?,
            name: m.name.into(),
            protocol: protocol(m.protocol)?,
            domain_chunks: m.domain_chunks.into_iter().map(Chunk).collect(),
            servers: values(m.servers)?,
        })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct DomainsMessage {
    #[prost(uint32, tag = "1")]
    port: u32,
    #[prost(uint32, tag = "2")]
    chunk: u32,
    #[prost(string, repeated, tag = "3")]
    domains: Vec<String>,
}

impl Coded for Domains {
    type Message = DomainsMessage;

    fn message(&self) -> DomainsMessage {
        DomainsMessage {
            port: u32::from(self.port),
            chunk: self.chunk.0,
            domains: self.domains.iter().map(text).collect(),
        }
    }

    fn value(m: DomainsMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            port: narrow(m.port, "the port of domains")?,
            chunk: Chunk(m.chunk),
            domains: names(m.domains),
        })
    }
}
