//! The message of TLS towards a destination.

use ironmesh_model::policy::{ClientTls, TlsMode};
use prost::Message;

use super::super::common::{choice, names, optional_text, text};
use super::super::{Coded, DecodeError};

choice!(
    mode_number,
    mode,
    TlsMode,
    "mode of TLS",
    [TlsMode::Disable, TlsMode::Simple, TlsMode::Mutual, TlsMode::Mesh]
);

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
        })
    }
}
