//! Messages of the servers of a gateway's port.

use ironmesh_model::credential::Certificate;
use ironmesh_model::listeners::{
    ClientCertificate, ListenerServer, ServerTls, Termination, TlsVersion,
};
use prost::{Message, Oneof};

use super::common::{choice, messages, names, narrow, optional_text, text, values};
use super::{Coded, DecodeError};

choice!(
    client_number,
    client,
    ClientCertificate,
    "client certificate",
    [ClientCertificate::None, ClientCertificate::Optional, ClientCertificate::Required]
);

choice!(version_number, version, TlsVersion, "version of TLS", [TlsVersion::V12, TlsVersion::V13]);

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct ListenerServerMessage {
    #[prost(string, tag = "1")]
    gateway: String,
    #[prost(string, repeated, tag = "2")]
    hosts: Vec<String>,
    #[prost(bool, tag = "3")]
    http: bool,
    #[prost(oneof = "TlsMessage", tags = "4, 5, 6, 7")]
    tls: Option<TlsMessage>,
    #[prost(uint32, optional, tag = "8")]
    redirect_to: Option<u32>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
pub(super) enum TlsMessage {
    #[prost(message, tag = "4")]
    Terminate(TerminationMessage),
    #[prost(bool, tag = "5")]
    Mesh(bool),
    #[prost(bool, tag = "6")]
    Passthrough(bool),
    #[prost(bool, tag = "7")]
    AutoPassthrough(bool),
}

impl Coded for ListenerServer {
    type Message = ListenerServerMessage;

    fn message(&self) -> ListenerServerMessage {
        ListenerServerMessage {
            gateway: text(&self.gateway),
            hosts: self.hosts.iter().map(text).collect(),
            http: self.http,
            tls: self.tls.as_ref().map(|tls| match tls {
                ServerTls::Terminate(given) => TlsMessage::Terminate(given.message()),
                ServerTls::Mesh => TlsMessage::Mesh(true),
                ServerTls::Passthrough => TlsMessage::Passthrough(true),
                ServerTls::AutoPassthrough => TlsMessage::AutoPassthrough(true),
            }),
            redirect_to: self.redirect_to.map(u32::from),
        }
    }

    fn value(m: ListenerServerMessage) -> Result<Self, DecodeError> {
        let tls = m.tls.map(|tls| {
            Ok::<_, DecodeError>(match tls {
                TlsMessage::Terminate(m) => ServerTls::Terminate(Box::new(Termination::value(m)?)),
                TlsMessage::Mesh(_) => ServerTls::Mesh,
                TlsMessage::Passthrough(_) => ServerTls::Passthrough,
                TlsMessage::AutoPassthrough(_) => ServerTls::AutoPassthrough,
            })
        });
        Ok(Self {
            gateway: m.gateway.into(),
            hosts: names(m.hosts),
            http: m.http,
            tls: tls.transpose()?,
            redirect_to: m.redirect_to.map(|to| narrow(to, "the port of HTTPS")).transpose()?,
        })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct TerminationMessage {
    #[prost(string, tag = "1")]
    from: String,
    #[prost(message, repeated, tag = "2")]
    certificates: Vec<CertificateMessage>,
    #[prost(uint32, tag = "3")]
    client: u32,
    #[prost(string, optional, tag = "4")]
    trusted: Option<String>,
    #[prost(string, optional, tag = "5")]
    revoked: Option<String>,
    #[prost(string, repeated, tag = "6")]
    names: Vec<String>,
    #[prost(string, repeated, tag = "7")]
    key_hashes: Vec<String>,
    #[prost(string, repeated, tag = "8")]
    certificate_hashes: Vec<String>,
    #[prost(uint32, tag = "9")]
    lowest: u32,
    #[prost(uint32, tag = "10")]
    highest: u32,
}

impl Coded for Termination {
    type Message = TerminationMessage;

    fn message(&self) -> TerminationMessage {
        let texts = |names: &[ironmesh_model::Name]| names.iter().map(text).collect();
        TerminationMessage {
            from: text(&self.from),
            certificates: messages(&self.certificates),
            client: client_number(self.client),
            trusted: optional_text(self.trusted.as_ref()),
            revoked: optional_text(self.revoked.as_ref()),
            names: texts(&self.names),
            key_hashes: texts(&self.key_hashes),
            certificate_hashes: texts(&self.certificate_hashes),
            lowest: version_number(self.lowest),
            highest: version_number(self.highest),
        }
    }

    fn value(m: TerminationMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            from: m.from.into(),
            certificates: values(m.certificates)?,
            client: client(m.client)?,
            trusted: m.trusted.map(Into::into),
            revoked: m.revoked.map(Into::into),
            names: names(m.names),
            key_hashes: names(m.key_hashes),
            certificate_hashes: names(m.certificate_hashes),
            lowest: version(m.lowest)?,
            highest: version(m.highest)?,
        })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct CertificateMessage {
    #[prost(string, tag = "1")]
    chain: String,
    #[prost(string, tag = "2")]
    key: String,
}

impl Coded for Certificate {
    type Message = CertificateMessage;

    fn message(&self) -> CertificateMessage {
        CertificateMessage { chain: text(&self.chain), key: self.key.reveal().to_owned() }
    }

    fn value(m: CertificateMessage) -> Result<Self, DecodeError> {
        Ok(Self { chain: m.chain.into(), key: m.key.into() })
    }
}
