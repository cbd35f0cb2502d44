//! The servers of a gateway's port: which names each serves, and how TLS is spoken with it.

use serde::{Deserialize, Serialize};

use crate::credential::Certificate;
use crate::host::covers_any_case;
use crate::name::Name;

/// One server of a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerServer {
    /// `NAMESPACE/NAME` of its Gateway.
    pub gateway: Name,
    /// Names, `*` or `*.suffix`. Where TLS is spoken, the client's SNI is one of them.
    pub hosts: Vec<Name>,
    /// Whether requests are looked at; otherwise bytes are passed on.
    pub http: bool,
    /// How TLS is spoken; `None`: not at all.
    pub tls: Option<ServerTls>,
    /// The port of HTTPS that requests are sent to, if all of them are.
    pub redirect_to: Option<u16>,
}

/// How TLS is spoken with a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerTls {
    /// It ends here.
    Terminate(Box<Termination>),
    /// It ends here, is the mesh's own, and the client is a member.
    Mesh,
    /// It is passed on by its SNI as rules say.
    Passthrough,
    /// It is passed on to the service and port that its SNI names.
    AutoPassthrough,
}

/// What ends TLS at a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Termination {
    /// Where they come from, for messages: `Secret NAMESPACE/NAME`.
    pub from: Name,
    /// Certificates, of which the client's algorithms choose one. Without any the server is dead.
    pub certificates: Vec<Certificate>,
    /// What is asked of the client.
    pub client: ClientCertificate,
    /// Certificates of the authorities that the client's certificate is from, in PEM.
    pub trusted: Option<Name>,
    /// Lists of certificates that were revoked, in PEM.
    pub revoked: Option<Name>,
    /// Names of which the client's certificate has one; empty: any.
    pub names: Vec<Name>,
    /// SHA-256 of public keys (base64) of which the client's certificate has one; empty: any.
    pub key_hashes: Vec<Name>,
    /// SHA-256 of certificates (hexadecimal) of which the client's is one; empty: any.
    pub certificate_hashes: Vec<Name>,
    /// The lowest version.
    pub lowest: TlsVersion,
    /// The highest version.
    pub highest: TlsVersion,
}

/// What a server asks of its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientCertificate {
    /// No certificate.
    #[default]
    None,
    /// A certificate that is trusted, or none.
    Optional,
    /// A certificate that is trusted.
    Required,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V12,
    /// TLS 1.3 (RFC 8446).
    V13,
}

/// The server for a name (of any letter case): that with the name itself, else that with the longest
/// suffix. A client that names nobody (`None`) belongs to a server for `*`.
pub fn server_for<'a>(
    servers: &'a [ListenerServer],
    name: Option<&str>,
) -> Option<&'a ListenerServer> {
    let name = name.unwrap_or_default();
    let served = servers.iter().flat_map(|server| server.hosts.iter().map(move |h| (server, h)));
    let mut best: Option<(&ListenerServer, (bool, usize))> = None;
    for (server, host) in served {
        let covered = **host == *"*" || covers_any_case(host, name);
        let rank = (!host.starts_with('*'), host.len());
        // Of equals the first, which is the oldest.
        if covered && best.is_none_or(|(_, known)| known < rank) {
            best = Some((server, rank));
        }
    }
    best.map(|(server, _)| server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_belongs_to_its_most_specific_server() {
        let server = |gateway: &str, hosts: &[&str]| ListenerServer {
            gateway: gateway.into(),
            hosts: hosts.iter().map(|host| Name::from(*host)).collect(),
            http: true,
            tls: None,
            redirect_to: None,
        };
        let servers = [
            server("any", &["*"]),
            server("wild", &["*.a.com"]),
            server("exact", &["x.a.com", "y.a.com"]),
            server("late", &["*.a.com"]),
        ];
        let of = |name: Option<&str>| server_for(&servers, name).map(|server| &*server.gateway);
        assert_eq!(of(Some("x.a.com")), Some("exact"));
        assert_eq!(of(Some("X.A.com")), Some("exact"));
        assert_eq!(of(Some("z.a.com")), Some("wild"));
        assert_eq!(of(Some("a.com")), Some("any"));
        assert_eq!(of(None), Some("any"));
        assert!(server_for(&servers[1..], None).is_none());
        assert!(server_for(&servers[1..], Some("")).is_none());
        assert!(server_for(&servers[1..], Some("b.com")).is_none());
    }
}
