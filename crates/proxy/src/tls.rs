//! TLS between members of the mesh: the one module that names types of the TLS library.

use std::io;
use std::net::SocketAddr;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use ironmesh_identity::edge::{ServerTls, client_text};
use ironmesh_identity::{ClientAuth, peer};
use ironmesh_model::Identity;
use tokio_rustls::TlsStream;
use tokio_rustls::rustls::{ProtocolVersion, ServerConnection};

pub(crate) use ironmesh_identity::Credentials;

use crate::stream::Stream;

/// What is spoken inside a connection between members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Inside {
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Bytes of the application.
    Opaque,
}

impl Inside {
    /// What a client offers, as Istio's proxies do.
    fn alpn(self) -> &'static [&'static [u8]] {
        match self {
            Self::Http1 => &[b"istio-http/1.1"],
            Self::Http2 => &[b"istio-h2"],
            Self::Opaque => &[b"istio"],
        }
    }
}

/// What a server takes. A client that offers `istio-peer-exchange` offers `istio` with it.
const SERVER_ALPN: &[&[u8]] =
    &[b"istio-http/1.1", b"istio-h2", b"istio-http/1.0", b"istio", b"istio-peer-exchange"];

/// Whether a protocol offered in a ClientHello is the mesh's, so that the connection is ours to
/// terminate and not the application's.
pub(crate) fn is_of_mesh(protocol: &[u8]) -> bool {
    SERVER_ALPN.contains(&protocol)
}

/// A member's connection whose handshake is done.
pub(crate) struct MeshConnection {
    pub(crate) stream: Stream,
    /// What is spoken inside, if it was said.
    pub(crate) inside: Option<Inside>,
    /// Who called.
    pub(crate) peer: Option<Peer>,
    /// Version of TLS.
    pub(crate) version: Option<&'static str>,
}

/// A member that has proved who it is.
pub(crate) struct Peer {
    pub(crate) identity: Identity,
    /// SHA-256 of its certificate, in hexadecimal.
    pub(crate) certificate_sha256: String,
}

impl Peer {
    /// An element of `x-forwarded-client-cert`, as Istio's proxies write it; certificates of the mesh
    /// have no subject.
    pub(crate) fn text(&self, own: &Identity) -> String {
        let Self { identity, certificate_sha256: hash } = self;
        format!("By={own};Hash={hash};Subject=\"\";URI={identity}")
    }
}

/// Takes the server's part of a handshake with a member.
pub(crate) async fn accept(credentials: &Credentials, over: Stream) -> io::Result<MeshConnection> {
    let (tls, identity) = credentials.accept(over, SERVER_ALPN, ClientAuth::Required).await?;
    let connection = tls.get_ref().1;
    let inside = match connection.alpn_protocol() {
        Some(b"istio-http/1.1" | b"istio-http/1.0") => Some(Inside::Http1),
        Some(b"istio-h2") => Some(Inside::Http2),
        // An Envoy offers this with whatever its application speaks.
        Some(_) | None => None,
    };
    let certificate = connection.peer_certificates().and_then(|chain| chain.first());
    let certificate_sha256 =
        certificate.map(|certificate| HEXLOWER.encode(digest(&SHA256, certificate).as_ref()));
    let peer = identity.zip(certificate_sha256);
    let peer = peer.map(|(identity, certificate_sha256)| Peer { identity, certificate_sha256 });
    let version = version(connection);
    Ok(MeshConnection { stream: Stream::tls(TlsStream::Server(tls)), inside, peer, version })
}

/// Takes the client's part of a handshake with the member at `address`, which must be `expected`, and
/// names the server if it has a name.
pub(crate) async fn connect(
    credentials: &Credentials,
    over: Stream,
    inside: Inside,
    expected: &Identity,
    name: Option<&str>,
    address: SocketAddr,
) -> io::Result<Stream> {
    let name = name.map_or_else(|| address.ip().to_string(), str::to_owned);
    let tls = credentials.connect(over, inside.alpn(), expected, &name).await?;
    Ok(Stream::tls(TlsStream::Client(tls)))
}

/// A client's connection at a gateway whose handshake is done.
pub(crate) struct EdgeConnection {
    pub(crate) stream: Stream,
    /// What is spoken inside, if it was said.
    pub(crate) inside: Option<Inside>,
    /// The certificate that it showed, as an element of `x-forwarded-client-cert`; empty: none.
    pub(crate) certificate: String,
    /// Version of TLS.
    pub(crate) version: Option<&'static str>,
}

/// Takes the server's part of a handshake with a client that is no member.
pub(crate) async fn accept_at_edge(tls: &ServerTls, over: Stream) -> io::Result<EdgeConnection> {
    let tls = tls.accept(over).await?;
    let certificate = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let certificate = certificate.map(|leaf| client_text(leaf)).unwrap_or_default();
    let inside = match tls.get_ref().1.alpn_protocol() {
        Some(b"h2") => Some(Inside::Http2),
        Some(b"http/1.1" | b"http/1.0") => Some(Inside::Http1),
        Some(_) | None => None,
    };
    let version = version(tls.get_ref().1);
    Ok(EdgeConnection { stream: Stream::tls(TlsStream::Server(tls)), inside, certificate, version })
}

/// The version that was agreed, as Envoy writes it.
fn version(connection: &ServerConnection) -> Option<&'static str> {
    match connection.protocol_version()? {
        ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
        ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
        _ => None,
    }
}

/// What a gateway speaks inside TLS with a client that is no member.
pub(crate) const EDGE_ALPN: &[&[u8]] = &[b"h2", b"http/1.1", b"http/1.0"];

/// Whether a handshake failed because the peer is someone else.
pub(crate) fn is_untrusted(error: &io::Error) -> bool {
    peer::untrusted(error).is_some()
}
