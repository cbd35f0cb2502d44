//! The message of TLS towards a destination.

use ironmesh_model::credential::ClientCredential;
use ironmesh_model::policy::{ClientTls, ProxyProtocol, TlsMode, Tunnel};
use prost::Message;

use super::super::common::{choice, names, narrow, optional_text, text};
use super::super::server::CertificateMessage;
use super::super::{Coded, DecodeError};

choice!(
    mode_number,
    mode,
    TlsMode,
    "mode of TLS",
    [TlsMode::Disable, TlsMode::Simple, TlsMode::Mutual, TlsMode::Mesh]
);

choice!(
    proxy_protocol_number,
    proxy_protocol,
    ProxyProtocol,
    "version of the PROXY protocol",
    [ProxyProtocol::V1, ProxyProtocol::V2]
);

#[derive(Clone, PartialEq, Eq, Message)]
pub(in super::super) struct TunnelMessage {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(uint32, tag = "2")]
    port: u32,
}

impl Coded for Tunnel {
    type Message = TunnelMessage;

    fn message(&self) -> TunnelMessage {
        TunnelMessage { host: text(&self.host), port: u32::from(self.port) }
    }

    fn value(m: TunnelMessage) -> Result<Self, DecodeError> {
        Ok(Self { host: m.host.into(), port: narrow(m.port, "the port of a tunnel")? })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(in super::super) struct ClientTlsMessage {
    #[prost(uint32, tag = "1")]
    mode: u32,
    #[prost(string, optional, tag = "2")]
    sni: Option<String>,
    #[prost(string, repeated, tag = "3")]
    names: Vec<String>,
    #[prost(bool, tag = "4")]
    skip_verify: bool,
    #[prost(string, optional, tag = "5")]
    certificate_file: Option<String>,
    #[prost(string, optional, tag = "6")]
    key_file: Option<String>,
    #[prost(string, optional, tag = "7")]
    trusted_file: Option<String>,
    #[prost(string, optional, tag = "8")]
    revoked_file: Option<String>,
    #[prost(message, optional, tag = "9")]
    credential: Option<ClientCredentialMessage>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(in super::super) struct ClientCredentialMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    certificate: Option<CertificateMessage>,
    #[prost(string, optional, tag = "3")]
    trusted: Option<String>,
    #[prost(string, optional, tag = "4")]
    revoked: Option<String>,
}

impl Coded for ClientCredential {
    type Message = ClientCredentialMessage;

    fn message(&self) -> ClientCredentialMessage {
        ClientCredentialMessage {
            name: text(&self.name),
            certificate: self.certificate.as_ref().map(Coded::message),
            trusted: optional_text(self.trusted.as_ref()),
            revoked: optional_text(self.revoked.as_ref()),
        }
    }

    fn value(m: ClientCredentialMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            name: m.name.into(),
            certificate: m.certificate.map(Coded::value).transpose()?,
            trusted: m.trusted.map(Into::into),
            revoked: m.revoked.map(Into::into),
        })
    }
}

impl Coded for ClientTls {
    type Message = ClientTlsMessage;

    fn message(&self) -> ClientTlsMessage {
        ClientTlsMessage {
            mode: mode_number(self.mode),
            sni: optional_text(self.sni.as_ref()),
            names: self.names.iter().map(text).collect(),
            skip_verify: self.skip_verify,
            certificate_file: optional_text(self.certificate_file.as_ref()),
            key_file: optional_text(self.key_file.as_ref()),
            trusted_file: optional_text(self.trusted_file.as_ref()),
            revoked_file: optional_text(self.revoked_file.as_ref()),
            credential: self.credential.as_deref().map(Coded::message),
        }
    }

    fn value(m: ClientTlsMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            mode: mode(m.mode)?,
            sni: m.sni.map(Into::into),
            names: names(m.names),
            skip_verify: m.skip_verify,
            certificate_file: m.certificate_file.map(Into::into),
            key_file: m.key_file.map(Into::into),
            trusted_file: m.trusted_file.map(Into::into),
            revoked_file: m.revoked_file.map(Into::into),
            credential: m.credential.map(|m| Coded::value(m).map(Box::new)).transpose()?,
        })
    }
}
