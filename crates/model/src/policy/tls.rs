//! TLS towards a destination.

use serde::{Deserialize, Serialize};

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
