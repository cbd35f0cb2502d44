//! TLS towards a destination.

use serde::{Deserialize, Serialize};

use crate::credential::ClientCredential;
use crate::name::Name;

/// How connections to a destination are secured (`tls`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientTls {
    /// By what.
    pub mode: TlsMode,
    /// The name in the ClientHello, for which the certificate has to be unless `names` are given; `None`:
    /// the destination's host.
    pub sni: Option<Name>,
    /// Names of which the certificate must have one, as it is written there; empty: `sni` is asked for.
    pub names: Vec<Name>,
    /// Whether any certificate will do.
    pub skip_verify: bool,
    /// File of the proxy with the chain that it shows, leaf first, in PEM.
    pub certificate_file: Option<Name>,
    /// File with the key of that, in PEM.
    pub key_file: Option<Name>,
    /// File with the authorities that are trusted, in PEM; `None`: those of Mozilla.
    pub trusted_file: Option<Name>,
    /// File with the lists of what was revoked, in PEM.
    pub revoked_file: Option<Name>,
    /// A Secret that has all of these instead. In a policy it is a name only; with what it has it
    /// becomes part of what applies to those who may have it, and for others it is not there.
    pub credential: Option<Box<ClientCredential>>,
}

/// The version of HAProxy's PROXY protocol by which a destination is told who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProxyProtocol {
    /// The one in text.
    V1,
    /// The binary one.
    V2,
}

/// A tunnel by HTTP's CONNECT through a destination, for connections that nobody looks into.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tunnel {
    /// The host at its end.
    pub host: Name,
    /// The port at its end.
    pub port: u16,
}

/// By what connections are secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TlsMode {
    /// They are not.
    #[default]
    Disable,
    /// TLS without a certificate of the caller.
    Simple,
    /// Mutual TLS with a certificate that the user gives.
    Mutual,
    /// Mutual TLS of the mesh, with members of it.
    Mesh,
}
